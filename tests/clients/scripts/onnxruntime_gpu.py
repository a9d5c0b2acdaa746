"""onnxruntime-gpu without NVIDIA's libraries: what our own preflight and session say of it. One line of JSON.

Arguments: a graph. Needs neither a GPU nor a driver; `preflight` is asked with one made up as well, to look further.
"""

import json
import sys
from pathlib import Path

from service.device_name import DeviceName
from service.errors import StartupError
from service.runtime.driver import Driver, Gpu
from service.runtime.preflight import Facts, both_wheels, choose, obstacle
from service.runtime.providers import Load, execution
from service.runtime.session import Session
from service.runtime.wheel import available_providers, cuda_version


class WithDriver(Facts):
    def driver(self) -> Driver:
        return Driver((13, 0), (Gpu("made up", 0),))


def opened(device: DeviceName) -> str:
    load = Load(("x",), "fp16", 256, 16_384, 512)
    try:
        Session(Path(sys.argv[1]), execution(device, load), 1)
    except StartupError as error:
        return str(error)
    return "a session"


CUDA, TENSORRT = DeviceName("cuda"), DeviceName("tensorrt")
print(
    json.dumps(
        {
            "providers": available_providers(),
            "cuda_version": cuda_version(),
            "both": both_wheels(),
            "cuda": obstacle(CUDA),
            "cuda_with_driver": obstacle(CUDA, WithDriver()),
            "tensorrt_with_driver": obstacle(TENSORRT, WithDriver()),
            "auto": choose("auto", "cpu").because,
            "opened_cuda": opened(CUDA),
            "opened_tensorrt": opened(TENSORRT),
        }
    )
)
