"""What was measured on this machine, and what a server makes of it. Pure, but for one small file beside the bundle.

`embedserve tune` (`tuner`) measures how fast batches run by executors, threads inside a batch and budget of tokens, and
keeps all of it in tuning-KEY.json. KEY follows from what the figures depend on: the CPU, the cores that may be used,
ONNX Runtime's version. So the machines that share a bundle have a file each, and none meets another's figures. The
files are no part of what bundle.json describes: any of them may be missing, stale or broken, and a server still starts.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.cores import usable_cores
from service.errors import BundleError
from service.packing import BATCH_OVERHEAD, PADDING_TAKEN_OUT, USUAL, Costs

CHOICES = ("executors", "intra_op_threads", "max_batch_tokens")
"""The settings that are chosen here, by their names."""

GPU_USUAL = {"executors": 2, "intra_op_threads": 1, "max_batch_tokens": 16_384}
"""Where nothing is set or measured: one batch is prepared and copied while another computes. On an H100 more tokens a
batch brought little, and fewer cost a tenth."""

GPU_BATCH_OVERHEAD = 1024
"""In tokens: starting the kernels of a layer takes as long as some hundred tokens in it. Measured on an H100 with 12
layers of 768; small models have more, which `embedserve tune` finds."""

_MOST_THREADS_A_CORE = 4

# A lone batch is one of some hundred tokens at most: with more threads each would have too few of them.
_MOST_LONE_THREADS = 16

# Rates closer than this are the same: measured again, either could be the faster.
_TIE = 0.03

Source = Literal["set", "tuned", "default", "device"]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Machine(_Strict):
    """What measurements depend on. `gpu` is the device's name where batches run on one."""

    cpu: str
    cores: Annotated[int, Field(ge=1)]
    onnxruntime: str
    gpu: str | None = None

    @property
    def key(self) -> str:
        """For the file's name: 12 hex digits of the sha256 of all of it."""
        return hashlib.sha256(self.model_dump_json(exclude_none=True).encode()).hexdigest()[:12]


class Measurement(_Strict):
    """Tokens per second, padding not counted, of one combination: with short texts, and with texts of all lengths."""

    executors: Annotated[int, Field(ge=1, le=256)]
    intra_op_threads: Annotated[int, Field(ge=1, le=256)]
    max_batch_tokens: Annotated[int, Field(ge=1, le=1_000_000)]
    short: _Rate
    mixed: _Rate

    @property
    def rate(self) -> float:
        """Both in one figure, the geometric mean: a tenth of either counts the same."""
        return math.sqrt(self.short * self.mixed)


class Tuning(_Strict):
    """tuning-KEY.json."""

    format: Literal[1] = 1
    machine: Machine
    batch_overhead: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]  # in tokens, as packing's
    measurements: Annotated[list[Measurement], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_threads(self) -> Self:
        """`combinations` has as many threads as cores: a file with many more was edited, and would start them all."""
        most = _MOST_THREADS_A_CORE * self.machine.cores
        if any(one.executors * one.intra_op_threads > most for one in self.measurements):
            raise ValueError(f"a measurement has more than {most} threads in all, on {self.machine.cores} cores")
        return self


@dataclass(frozen=True, slots=True)
class Plan:
    """How batches will be run, and where each of the `CHOICES` came from."""

    executors: int
    intra_op_threads: int
    max_batch_tokens: int
    sources: Mapping[str, Source]
    costs: Costs = USUAL
    on_gpu: bool = False

    @property
    def lone_threads(self) -> int:
        """Threads for a batch that has the machine to itself: those of all executors together, up to a limit.

        A GPU is itself that: no second session takes its memory.
        """
        if self.on_gpu:
            return self.intra_op_threads
        return min(self.executors * self.intra_op_threads, max(self.intra_op_threads, _MOST_LONE_THREADS))


def plan(
    settings: Mapping[str, int],
    explicit: Collection[str],
    tuning: Tuning | None,
    *,
    on_gpu: bool = False,
    packed: bool = False,
    processes: int = 1,
) -> Plan:
    """`settings` has a value for each of the `CHOICES`, its default where it is not in `explicit`.

    What is set stays as it is, and of what was measured with these very values the fastest decides the rest. Where
    nothing was, defaults do. `packed` as in Bundle. So many `processes` share the cores, as far as nothing is set.
    """
    fixed = {name: settings[name] for name in CHOICES if name in explicit}
    if on_gpu:
        settings = {**settings, **GPU_USUAL, **fixed}
    best = fastest(tuning.measurements if tuning else (), fixed)
    chosen = best.model_dump(include=set(CHOICES)) if best else {name: settings[name] for name in CHOICES}
    if "executors" not in fixed and not on_gpu:
        chosen["executors"] = max(1, chosen["executors"] // processes)
    otherwise: Source = "tuned" if best else "default"
    sources: dict[str, Source] = {name: "set" if name in fixed else otherwise for name in CHOICES}
    costs = costs_of(tuning.batch_overhead if tuning else None, on_gpu=on_gpu, packed=packed)
    return Plan(**chosen, sources=sources, costs=costs, on_gpu=on_gpu)


def costs_of(batch_overhead: float | None, *, on_gpu: bool, packed: bool) -> Costs:
    """With what was measured; the usual for None."""
    usual = GPU_BATCH_OVERHEAD if on_gpu else BATCH_OVERHEAD
    overhead = usual if batch_overhead is None else round(batch_overhead)
    return Costs(overhead, PADDING_TAKEN_OUT if packed and on_gpu else 1)


def fastest(measurements: Sequence[Measurement], fixed: Mapping[str, int]) -> Measurement | None:
    """The best of those that agree with `fixed`; of those about as fast, the one with the fewest tokens under way,
    because others wait for these, and then with the fewest threads in a batch."""
    fitting = [one for one in measurements if all(getattr(one, name) == fixed[name] for name in fixed)]
    if not fitting:
        return None
    enough = (1 - _TIE) * max(one.rate for one in fitting)
    return min(
        (one for one in fitting if one.rate >= enough),
        key=lambda one: (one.executors * one.max_batch_tokens, one.intra_op_threads),
    )


def batch_overhead(tokens: Sequence[int], seconds: Sequence[float]) -> float:
    """What a batch costs beside its tokens, in tokens: a ÷ b of the line seconds = a + b · tokens.

    Least squares of the relative errors (each equation divided by its seconds), so that large batches do not decide
    what small ones cost. Never below 0, which only noise can give. Wants two different numbers of tokens.
    """
    x, y = np.asarray(tokens, np.float64), np.asarray(seconds, np.float64)
    (a, b), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones_like(y), rcond=None)
    return max(0.0, float(a / b)) if b > 0 else 0.0


def this_machine(onnxruntime: str, root: Path = Path("/"), gpu: str | None = None) -> Machine:
    """As it is to this process: the cores that its container leaves, not those there are."""
    return Machine(cpu=processor(root), cores=usable_cores(root), onnxruntime=onnxruntime, gpu=gpu)


def processor(root: Path = Path("/")) -> str:
    """Which CPU it is. Linux names the model; hypervisors shorten the name, but not the numbers beside it: EPYCs of two
    generations, of which one is twice as fast, may have the same."""
    try:
        first = (root / "proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    telling = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
    return "/".join([platform.machine(), *(fields[name] for name in telling if name in fields)])


def path_of(folder: Path, machine: Machine) -> Path:
    """Where the figures of that machine for the bundle in `folder` are kept."""
    return folder / f"tuning-{machine.key}.json"


def read_tuning(folder: Path, machine: Machine) -> Tuning | None:
    """None where that machine has not been measured. Raises BundleError for a file that cannot be used."""
    path = path_of(folder, machine)
    try:
        found = Tuning.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}", _AGAIN) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"{path} is not valid: {where}: {first['msg']}", _AGAIN) from error
    if found.machine != machine:
        raise BundleError(f"{path} is of another machine: {found.machine.cpu}", _AGAIN)
    return found


_AGAIN = "measure again: embedserve tune"


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Puts the file in place whole, or not at all; returns its path. Raises OSError."""
    path = path_of(folder, tuning.machine)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(tuning.model_dump_json(indent=2, exclude_none=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def gpu_combinations(budgets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """As `combinations`, for a GPU: how many batches are under way on it, and how large they are."""
    yield from ((executors, 1, budget) for budget in sorted(budgets) for executors in (1, 2, 3))


def combinations(cores: int, budgets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(executors, intra_op_threads, max_batch_tokens) worth measuring: every core has one thread, smallest budgets
    first. Threads inside a batch double from 1 to all cores."""
    for budget in sorted(budgets):
        threads = 1
        while threads < cores:
            yield max(1, cores // threads), threads, budget
            threads *= 2
        yield 1, cores, budget
