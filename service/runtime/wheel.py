"""The installed ONNX Runtime itself: what it was built with, and whether its providers' libraries load.

The only importer of onnxruntime: the others take it from here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
from importlib import import_module
from pathlib import Path

from service.errors import StartupError

try:
    import onnxruntime as ort
except ImportError as missing:
    raise StartupError(
        "ONNX Runtime is not installed",
        "install one of the two: pip install 'embedserve[cpu]' or pip install 'embedserve[gpu]'",
    ) from missing

ort.disable_telemetry_events()  # which only Microsoft's own builds for Windows send
# Of what belongs to no session, errors and worse: why a provider cannot be loaded is one. Opening a session with CUDA
# would warn that no plugin has its device, which is so wherever the provider is the wheel's own.
ort.set_default_logger_severity(3)

__all__ = ["available_providers", "cuda_version", "load_provider", "ort", "version"]

_LIBRARIES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
_SHARED = "libonnxruntime_providers_shared.so"  # which the others find their host by, so it is loaded before them
_TENSORRT_PACKAGE = "tensorrt_libs"
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")


def available_providers() -> list[str]:
    """Built in: which says nothing about what they need at run time."""
    found: list[str] = ort.get_available_providers()
    return found


def version() -> str:
    """ONNX Runtime's own."""
    return str(ort.__version__)


def cuda_version() -> str | None:
    """That the wheel was built for; None for a CPU wheel."""
    found = getattr(import_module("onnxruntime.capi.build_and_package_info"), "cuda_version", None)
    return str(found) if found else None


def load_provider(provider: str) -> str | None:
    """Loads a provider's library as ONNX Runtime will; the dynamic linker's words where it cannot be.

    NVIDIA's libraries are taken from the packages beside ONNX Runtime, or from where the system looks.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses, which we say ourselves
        ort.preload_dlls()
    if provider == "TensorrtExecutionProvider":
        _preload_tensorrt()
    folder = Path(ort.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / _SHARED), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARIES[provider]))
    except OSError as error:
        return str(error)
    return None


def _preload_tensorrt() -> None:
    """From NVIDIA's package, which the system's linker does not look into; a missing one is found out afterwards."""
    package = importlib.util.find_spec(_TENSORRT_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for name in _TENSORRT_LIBRARIES:
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(Path(folder) / name), ctypes.RTLD_GLOBAL)
