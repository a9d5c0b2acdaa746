"""How a bundle's matrices are kept. Imports nothing heavy: what finds a compiled bundle is quick."""

from __future__ import annotations

from typing import Literal

from service.device_name import Target

Precision = Literal["fp32", "int8", "fp16"]
"""Sums and normalisation are float32 in all of them; int8 is for CPUs, fp16 for GPUs."""

USUAL_PRECISION: dict[Target, Precision] = {"cpu": "fp32", "cuda": "fp16", "tensorrt": "fp16"}
"""Of a bundle that is compiled without a wish."""
