"""Settings → execution providers and session options. Never a silent fallback to another device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Execution:
    """How sessions of one target run: ONNX Runtime's own terms."""

    execution_providers: tuple[str, ...]
    disabled_optimizers: tuple[str, ...]


# ONNX Runtime would fuse Add + LayerNormalization into SkipLayerNormalization, whose CPU kernel is
# about 5 times slower than the two it replaces.
CPU = Execution(("CPUExecutionProvider",), ("SkipLayerNormFusion",))
