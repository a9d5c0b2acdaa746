"""litellm's OpenAI and Vertex routes: litellm_embedding.py URL MODEL TEXTS BGE, where BGE is an alias with "bge" in it.

Vertex's credentials are a service account whose key is made here and whose token comes from a server in this process.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import rsa

url, model, path, bge = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))


class Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"access_token": "x", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


tokens = HTTPServer(("127.0.0.1", 0), Tokens)
threading.Thread(target=tokens.serve_forever, daemon=True).start()
account = {
    "type": "service_account",
    "project_id": "p",
    "client_email": "tester@p.iam.gserviceaccount.com",
    "private_key": rsa.newkeys(1024)[1].save_pkcs1().decode(),
    "token_uri": f"http://127.0.0.1:{tokens.server_port}/token",
}


def vectors(name: str, **options: object) -> list[list[float]]:
    reply = litellm.embedding(model=name, input=texts, num_retries=0, **options)
    return [one["embedding"] for one in reply.data]


vertex = {
    "api_base": url,
    "vertex_project": "p",
    "vertex_location": "us-central1",
    "vertex_credentials": json.dumps(account),
}
found = {
    "/v1/embeddings": vectors(f"openai/{model}", api_base=f"{url}/v1", api_key="x"),
    "/v1/embeddings, hosted_vllm": vectors(f"hosted_vllm/{model}", api_base=f"{url}/v1"),
    ":predict": vectors(f"vertex_ai/{model}", **vertex),
    ":predict, bge": vectors(f"vertex_ai/{bge}", **vertex),
}
print(json.dumps({"version": version("litellm"), "vectors": found}))
