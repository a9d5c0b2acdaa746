"""tritonclient[http] as an administrator: <url> <admin key> <name of a model> <another key>."""

import json
import sys

import tritonclient.http as sync
from tritonclient.utils import InferenceServerException

URL, ADMIN, MODEL, OTHER = sys.argv[1].removeprefix("http://"), *sys.argv[2:]


def headers(key=ADMIN):
    return {"Authorization": f"Bearer {key}"}


def index(client):
    return {one["name"]: one["state"] for one in client.get_model_repository_index(headers=headers())}


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


with sync.InferenceServerClient(URL) as client:
    found = {"start": index(client), "ready": [client.is_model_ready(MODEL)]}
    client.unload_model(MODEL, headers=headers())
    found["ready"].append(client.is_model_ready(MODEL))
    client.load_model(MODEL, headers=headers())
    found["ready"].append(client.is_model_ready(MODEL))
    found["end"] = index(client)
    found["refusals"] = {
        "key": refusal(lambda: client.load_model(MODEL, headers=headers(OTHER))),
        "name": refusal(lambda: client.load_model("no-such-model", headers=headers())),
        "config": refusal(lambda: client.load_model(MODEL, headers=headers(), config="{}")),
        "unload": refusal(lambda: client.unload_model("no-such-model", headers=headers())),
    }
print(json.dumps(found))
