"""What `helm test` asks: does the API give a vector, or what else its models give, through the Service?

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
from collections.abc import Iterator

TEXT = "Hello, world"
# By kind of model: dense, sparse, of vectors of tokens, a reranker, a classifier.
QUESTIONS = (
    ("/v1/embeddings", {"input": TEXT}),
    ("/embed_sparse", {"inputs": TEXT}),
    ("/v1/multi-vector", {"input": TEXT}),
    ("/v1/rerank", {"query": TEXT, "documents": [TEXT]}),
    ("/predict", {"inputs": TEXT}),
)


def context(certificate: str | None) -> ssl.SSLContext | None:
    """The certificate is compared, not the name in it: that is the one clients use, and seldom the Service's."""
    if certificate is None:
        return None
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return trusting


def post(url: str, question: object, key: str | None, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, json.dumps(question).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=tls) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def ask(address: str, key: str | None, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
    """The answer of the first route that the models are for; the others' say which those are."""
    for path, question in QUESTIONS:
        status, body = post(f"{address}{path}", question, key, tls)
        if status == 200 or b"it answers at" not in body:
            break
    return status, body


def numbers(value: object) -> Iterator[float]:
    """Every number with a point in a reply: those of vectors, weights and scores, and no counts."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)


def main() -> str | None:
    """None, or what is wrong."""
    address, key = os.environ["ADDRESS"], os.environ.get("API_KEY")
    try:
        status, body = ask(address, key, context(os.environ.get("CERTIFICATE")))
    except OSError as error:
        return f"{address} cannot be reached: {error} (are its pods ready? `helm install --wait` waits for them)"
    if status == 401 and key is None and os.environ.get("KEYS") == "required":
        print("refused without a key, as it should be (test.existingSecret: a key for a vector)")
        return None
    if status != 200:
        return f"{address} answered {status}: {body[:500].decode(errors='replace')}"
    found = list(numbers(json.loads(body)))
    if not all(math.isfinite(number) for number in found) or not any(found):
        return f"{address} gave no vector: {found[:5]}"
    print(f"{len(found)} numbers, the first {found[0]:.4f}")
    return None


sys.exit(main())
