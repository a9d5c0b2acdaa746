"""Settings → execution providers and session options. Never a silent fallback to another device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Execution:
    """How sessions of one target run: ONNX Runtime's own terms."""

    execution_providers: tuple[str, ...]
    disabled_optimizers: tuple[str, ...]
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = False
    run_config: tuple[tuple[str, str], ...] = ()  # entries for every run


# ONNX Runtime would fuse Add + LayerNormalization into SkipLayerNormalization, whose CPU kernel is
# about 5 times slower than the two it replaces.
# Memory: the arena stays on. Patterns are off: ONNX Runtime keeps one for every shape it has seen, rows times
# lengths, for ever. docs/PERFORMANCE.md has the figures, `python -m loadtest.soak` measures them.
CPU = Execution(("CPUExecutionProvider",), ("SkipLayerNormFusion",))
