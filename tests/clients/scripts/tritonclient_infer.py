"""tritonclient[http]: <url> <model> <key> <texts as JSON>."""

import asyncio
import json
import sys
from importlib.metadata import version

import numpy as np
import tritonclient.http as sync
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

URL, MODEL, KEY = sys.argv[1].removeprefix("http://"), sys.argv[2], sys.argv[3]
TEXTS = json.loads(sys.argv[4])


def headers():
    """Made anew for every call: the client writes the length of its JSON into the dictionary it is given."""
    return {"Authorization": f"Bearer {KEY}"}


def tensor(texts, binary=True, column=False):
    array = np.array([text.encode() for text in texts], dtype=np.object_)
    array = array.reshape(-1, 1) if column else array
    found = sync.InferInput("text", list(array.shape), "BYTES")
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def rows(result):
    return result.as_numpy("embedding").tolist()


def output(**options):
    return [sync.InferRequestedOutput("embedding", **options)]


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def use_sync(client):
    def infer(model, *inputs, **options):
        return client.infer(model, list(inputs), headers=headers(), **options)

    pending = client.async_infer(MODEL, [tensor(TEXTS)], headers=headers())
    named = infer(MODEL, tensor(TEXTS), outputs=output(), request_id="42", model_version="1")
    numbers = sync.InferInput("text", [1], "FP32")
    numbers.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    return {
        "vectors": {
            "infer, binary both ways": rows(infer(MODEL, tensor(TEXTS))),
            "infer, binary in, JSON out": rows(infer(MODEL, tensor(TEXTS), outputs=output(binary_data=False))),
            "infer, JSON in, binary out": rows(infer(MODEL, tensor(TEXTS, binary=False))),
            "infer, JSON both ways": rows(infer(MODEL, tensor(TEXTS, binary=False), outputs=output(binary_data=False))),
            "infer, shape [n, 1]": rows(infer(MODEL, tensor(TEXTS, column=True))),
            "infer, version 1 and a request id": rows(named),
            "async_infer": rows(pending.get_result()),
            "infer, a name with a slash": rows(infer(f"sentence-transformers/{MODEL}", tensor(TEXTS))),
            "infer, parameters": rows(infer(MODEL, tensor(TEXTS), parameters={"dimensions": 384}, priority=1)),
        },
        "id": named.get_response()["id"],
        "response": {name: value for name, value in named.get_response().items() if name != "id"},
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [
            client.is_model_ready(MODEL),
            client.is_model_ready(MODEL, "1"),
            client.is_model_ready(MODEL, "2"),
            client.is_model_ready("no-such-model"),
        ],
        "server": client.get_server_metadata(headers=headers()),
        "model": client.get_model_metadata(MODEL, headers=headers()),
        "refusals": {
            "model": refusal(lambda: infer("no-such-model", tensor(TEXTS))),
            "version": refusal(lambda: infer(MODEL, tensor(TEXTS), model_version="2")),
            "datatype": refusal(lambda: infer(MODEL, numbers)),
            "output": refusal(lambda: infer(MODEL, tensor(TEXTS), outputs=[sync.InferRequestedOutput("logits")])),
            "two inputs": refusal(lambda: infer(MODEL, tensor(TEXTS), tensor(TEXTS))),
            "key": refusal(lambda: client.infer(MODEL, [tensor(TEXTS)])),
            "metadata": refusal(lambda: client.get_model_metadata("no-such-model", headers=headers())),
        },
    }


async def use_aio():
    async with aio.InferenceServerClient(URL) as client:
        assert await client.is_server_ready()
        return rows(await client.infer(MODEL, [tensor(TEXTS)], headers=headers()))


with sync.InferenceServerClient(URL, concurrency=2) as client:
    found = use_sync(client)
found["vectors"]["aio infer"] = asyncio.run(use_aio())
print(json.dumps({"version": version("tritonclient"), **found}))
