"""How a bundle's matrices are kept. Imports nothing: what finds a compiled bundle is quick."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "int8"]
"""Sums, attention itself and normalisation are float32 in both."""
