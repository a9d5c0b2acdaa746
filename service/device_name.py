"""What a model runs on, in words: `cpu`, `cuda:1`, `tensorrt`. Settings are read before any runtime is."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Target = Literal["cpu", "cuda", "tensorrt"]
"""What a bundle is compiled for: its graph has operators and number types that are good there."""

AUTO = "auto"
DEVICES = "cpu, cuda, cuda:N, tensorrt, tensorrt:N or auto"

_FORM = re.compile(r"cpu|(?:cuda|tensorrt)(?::(\d{1,3}))?")


class DeviceName(NamedTuple):
    """`number` counts the devices that CUDA shows this process, from 0; a CPU has none but 0."""

    kind: Target
    number: int = 0

    def __str__(self) -> str:
        """As it is asked for."""
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.number}"


def parse(text: str) -> DeviceName | None:
    """None for `auto`. Raises ValueError for what is no device."""
    if text == AUTO:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not {DEVICES}")
    kind: Target = "cpu" if text == "cpu" else "cuda" if text.startswith("cuda") else "tensorrt"
    return DeviceName(kind, int(found[1] or 0))
