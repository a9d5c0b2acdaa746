"""What `helm test` asks: does the API give a vector, through the Service?

ADDRESS is the API's, such as http://embedserve:80. API_KEY is a key to present, if there is one. KEYS=required: without
one of them the API must refuse. CERTIFICATE is what HTTPS is checked against: the server's own, or its authority's.
"""

import json
import math
import os
import ssl
import sys
import urllib.error
import urllib.request


def context(certificate: str | None) -> ssl.SSLContext | None:
    """The certificate is compared, not the name in it: that is the one clients use, and seldom the Service's."""
    if certificate is None:
        return None
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return trusting


def ask(address: str, key: str | None, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    body = json.dumps({"input": "Hello, world"}).encode()
    request = urllib.request.Request(f"{address}/v1/embeddings", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=tls) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def main() -> str | None:
    """None, or what is wrong."""
    address, key = os.environ["ADDRESS"], os.environ.get("API_KEY")
    status, body = ask(address, key, context(os.environ.get("CERTIFICATE")))
    if status == 401 and key is None and os.environ.get("KEYS") == "required":
        print("refused without a key, as it should be (test.existingSecret: a key for a vector)")
        return None
    if status != 200:
        return f"{address} answered {status}: {body[:500].decode(errors='replace')}"
    vector = json.loads(body)["data"][0]["embedding"]
    if not all(math.isfinite(number) for number in vector) or not any(vector):
        return f"{address} gave no vector: {vector[:5]}"
    print(f"{len(vector)} numbers, the first {vector[0]:.4f}")
    return None


sys.exit(main())
