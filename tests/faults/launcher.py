"""`python -m tests.faults.launcher FILE serve …`: the server with faults at its seams, as FILE says at any moment.

FILE holds a JSON object; without the file, or with an empty object, nothing is wrong. `fault` is one of those below.
Those of the runtime, one level below `service.runtime.session`, concern every run, or, with `token`, those runs in
which some row holds that token id; with `model`, those of the bundle at a path that holds this. Those of the tokenizer
concern texts that hold `word`.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service import cli
from service.runtime.wheel import ort
from service.tokenizer import Tokenizer

_EXIT = {"x86_64": 60, "aarch64": 93}  # Linux's number of the system call that ends a thread, and not its process
_VALUES = {"nan": np.nan, "infinity": np.inf, "zero": 0.0}


class PanicException(BaseException):
    """As pyo3's is: a BaseException of a class that cannot be imported."""


class Faults:
    """What FILE says now."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._once = threading.Lock()

    def now(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        return found

    def take_once(self) -> bool:
        """Whether this is the first to meet a fault that happens once."""
        with self._once:
            is_first = self._file.exists()
            self._file.unlink(missing_ok=True)
            return is_first

    def wait_while(self, kind: str) -> dict[str, Any]:
        while (fault := self.now()).get("fault") == kind:
            time.sleep(0.01)
        return fault


def break_runtime(faults: Faults) -> None:
    """Every run of ONNX Runtime's is looked at first."""
    run: Callable[..., list[Any]] = ort.InferenceSession.run

    def broken(session: Any, outputs: Any, feeds: dict[str, Any], options: Any = None) -> list[Any]:
        fault = faults.now()
        if fault.get("fault") == "hold":  # and then whatever comes after it
            fault = faults.wait_while("hold")
        if not _concerns(fault, session, feeds):
            return run(session, outputs, feeds, options)
        _before(fault, faults, len(feeds["input_ids"]))
        results = run(session, outputs, feeds, options)
        if fault["fault"] == "skew":
            return [one + np.linspace(1, 5, one.shape[-1], dtype=np.float32) for one in results]
        if (value := _VALUES.get(fault["fault"])) is not None:
            guilty = (feeds["input_ids"] == fault["token"]).any(axis=1)
            results[0] = np.array(results[0])
            results[0][guilty] = value
        return results

    ort.InferenceSession.run = broken


def _concerns(fault: dict[str, Any], session: Any, feeds: dict[str, Any]) -> bool:
    if "fault" not in fault or "word" in fault or fault.get("model", "") not in str(session._model_path):
        return False
    return "token" not in fault or bool((feeds["input_ids"] == fault["token"]).any())


def _before(fault: dict[str, Any], faults: Faults, rows: int) -> None:
    match fault["fault"]:
        case "raise":
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : injected")
        case "once" if faults.take_once():
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : injected once")
        case "no room" if rows > fault["rows"]:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested")
        case "memory error" if rows > fault["rows"]:
            raise MemoryError
        case "hang":
            faults.wait_while("hang")
        case "end thread":
            ctypes.CDLL(None).syscall(_EXIT[platform.machine()], 0)
        case "throw":
            throw_into_executors()
            threading.Timer(0.02, throw_into_executors).start()  # when they wait for something to do


def throw_into_executors() -> None:
    """As PyThreadState_SetAsyncExc does it: SystemExit, at each one's next instruction."""
    for thread in threading.enumerate():
        if thread.name.startswith(("executor", "express")):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def break_tokenizer(faults: Faults) -> None:
    """Every text is looked at first."""
    encode = Tokenizer.encode

    def broken(tokenizer: Tokenizer, texts: Any, *arguments: Any) -> Any:
        fault = faults.now()
        if "word" in fault and any(fault["word"] in text for text in texts):
            match fault["fault"]:
                case "tokenizer raises":
                    raise TypeError("injected")
                case "tokenizer panics":
                    raise PanicException("called `Option::unwrap()` on a `None` value")
                case "event loop blocks":
                    faults.wait_while("event loop blocks")
        return encode(tokenizer, texts, *arguments)

    Tokenizer.encode = broken  # type: ignore[method-assign, assignment]


def break_clock(faults: Faults) -> None:
    """The wall clock is `clock` seconds off."""
    true = time.time

    def false() -> float:
        return true() + float(faults.now().get("clock", 0))

    time.time = false


def main() -> int:
    """As the command line's."""
    faults = Faults(Path(sys.argv[1]))
    break_runtime(faults)
    break_tokenizer(faults)
    break_clock(faults)
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
