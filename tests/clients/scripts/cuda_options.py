"""Shows ONNX Runtime's CUDA provider our options where there is no GPU: it reads them before it sets a device.

Needs onnxruntime-gpu with its CUDA libraries (pip install 'embedserve[gpu]', 2 GB) and a C compiler, which makes a
driver and a `cudaGetDeviceCount` that claim one device. Prints one line of JSON: what the provider says of our
options, and of a wrong one. Run it from the repository's root: python tests/clients/scripts/cuda_options.py
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "made up", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 1; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "made up"; return 0; }
int cuTensorMapEncodeTiled(void) { return 100; }
"""
COUNT = "int cudaGetDeviceCount(int *count) { *count = 1; return 0; }"
INNER = "EMBEDSERVE_MADE_UP_DRIVER"


def outer() -> None:
    """Builds both libraries, and starts again with them in the linker's way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for library, source in (("libcuda.so.1", DRIVER), ("count.so", COUNT)):
            compiler = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(folder / library)]
            subprocess.run(compiler, input=source, text=True, check=True)
        made_up = {"LD_LIBRARY_PATH": name, "LD_PRELOAD": str(folder / "count.so"), INNER: "1", "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, __file__], env=os.environ | made_up, check=True)


def said(options: dict[str, str]) -> str:
    """What opening a session with them ends in."""
    import onnxruntime as ort

    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    graph = Path(tempfile.mkdtemp()) / "relu.onnx"
    graph.write_bytes(RELU)
    try:
        ort.InferenceSession(str(graph), quiet, providers=[("CUDAExecutionProvider", options)], enable_fallback=0)
    except (RuntimeError, ValueError) as error:
        return str(error).strip()[-160:]
    return "a session"


# y = Relu(x), opset 17, as onnx writes it.
RELU = bytes.fromhex(
    "08083a350a0c0a0178120179220452656c751201675a100a0178120b0a09080112050a0312016e62100a0179120b0a09080112050a0312016e42040a001011"
)


def inner() -> None:
    from service.device_name import DeviceName
    from service.runtime.preflight import obstacle
    from service.runtime.providers import Load, execution

    device = DeviceName("cuda")
    missing = obstacle(device)
    load = Load(("x",), "fp16", 256, 16_384, 512, memory_limit=2**30)
    ours = dict((execution(device, load).provider_options or {})["CUDAExecutionProvider"])
    print(json.dumps({"missing": missing, "ours": said(ours), "wrong": said(ours | {"no_such_option": "1"})}))


if __name__ == "__main__":
    inner() if INNER in os.environ else outer()
