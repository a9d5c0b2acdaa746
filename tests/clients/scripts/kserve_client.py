"""KServe's InferenceRESTClient: <url> <model> <texts as JSON>."""

import asyncio
import json
import sys
from importlib.metadata import version

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL, MODEL, TEXTS = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def request(binary, binary_output=None, shape=None):
    array = np.array([text.encode() for text in TEXTS], dtype=np.object_).reshape(shape or [len(TEXTS)])
    tensor = InferInput("text", list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    parameters = None if binary_output is None else {"binary_data": binary_output}
    outputs = [RequestedOutput("embedding", parameters)]
    return InferRequest(MODEL, [tensor], request_id="42", request_outputs=outputs)


async def v1():
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    found = await client.infer(URL, {"instances": TEXTS}, model_name=MODEL)
    return {
        "vectors": {"V1 predict": found["predictions"]},
        "v1": [await client.is_server_live(URL), await client.is_model_ready(URL, MODEL)],
    }


async def v2():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    cases = {
        "V2 infer, binary both ways": request(binary=True, binary_output=True),
        "V2 infer, binary in, JSON out": request(binary=True),
        "V2 infer, JSON both ways": request(binary=False),
        "V2 infer, JSON in, binary out": request(binary=False, binary_output=True),
        "V2 infer, shape [n, 1]": request(binary=True, binary_output=True, shape=[-1, 1]),
    }
    vectors = {}
    for name, case in cases.items():
        reply = await client.infer(URL, case, model_name=MODEL)
        assert reply.id == "42"
        assert reply.model_name == MODEL
        vectors[name] = reply.outputs[0].as_numpy().tolist()
    return {
        "vectors": vectors,
        "v2": [
            await client.is_server_live(URL),
            await client.is_server_ready(URL),
            await client.is_model_ready(URL, MODEL),
        ],
    }


old, new = asyncio.run(v1()), asyncio.run(v2())
vectors = {**old.pop("vectors"), **new.pop("vectors")}
print(json.dumps({"version": version("kserve"), "vectors": vectors, **old, **new}))
