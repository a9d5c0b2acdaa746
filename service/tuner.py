"""`embedserve tune`: how fast this machine runs a bundle, by executors, threads inside a batch and budget of tokens.

The server's own encoder and packing, without HTTP and tokenising, on random tokens. All combinations take turns, and
medians count, because a machine is not equally fast from one second to the next. `tuning` decides what follows.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.bundle import Bundle, read_bundle, verify_files
from service.device_name import AUTO
from service.encoder import Encoder
from service.packing import LOOKAHEAD, Costs, pack
from service.placement import execution_on
from service.runtime.preflight import choose, gpu_name
from service.runtime.providers import Execution
from service.runtime.session import runtime_version
from service.tokenizer import open_tokenizer
from service.tuning import (
    CHOICES,
    Measurement,
    Tuning,
    batch_overhead,
    combinations,
    costs_of,
    fastest,
    gpu_combinations,
    this_machine,
)

_ROUNDS = 3
_ROWS = 1024  # of each mix
_SEED = 20_240_229
_LIMIT = 1.8  # times the seconds asked for, after which what has not been measured is left out
# Batches whose time tells what one costs beside its tokens: (rows, tokens of each).
_SHAPES = tuple((rows, length) for rows in (1, 2, 4, 8) for length in (8, 16, 32))
# On a GPU, where some hundred tokens take as long as one, larger ones tell.
_GPU_SHAPES = tuple((rows, length) for rows in (8, 32, 128) for length in (16, 64, 128))
_MOST_OVERHEAD = 10_000.0  # tokens; beyond it the figure is noise
_OVERHEAD_SECONDS = 4.0

Row = Sequence[int]
Batch = Sequence[Row]
Shape = tuple[int, int]  # rows, tokens of each
Combination = tuple[int, int, int]  # executors, intra_op_threads, max_batch_tokens


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly: `seconds` of measuring, divided among all combinations, of these budgets."""

    seconds: float
    budgets: tuple[int, ...]
    gpu_budgets: tuple[int, ...]


USUAL = Effort(60.0, (256, 512, 1024, 2048), (4_096, 8_192, 16_384, 32_768, 65_536))
QUICK = Effort(12.0, (256, 512, 1024), (8_192, 16_384, 32_768))


def measure(folder: Path, effort: Effort, device_wish: str = AUTO, memory_limit: int | None = None) -> Tuning:
    """Shows a bar on a terminal. Raises BundleError, InferenceError, and StartupError for a device that is not had."""
    bundle = read_bundle(folder)
    verify_files(folder, bundle)
    device = choose(device_wish, bundle.target).device
    machine = this_machine(runtime_version(), gpu=gpu_name(device))
    vocabulary = open_tokenizer(folder, bundle).vocab_size
    on_cpu = device.kind == "cpu"
    todo = list(combinations(machine.cores, effort.budgets) if on_cpu else gpu_combinations(effort.gpu_budgets))
    most = max(budget for _, _, budget in todo)
    execution = execution_on(device, folder, bundle, max_batch_tokens=most, memory_limit=memory_limit)
    overhead = _overhead(Encoder(folder, bundle, execution), vocabulary, _shapes(bundle, on_cpu=on_cpu))
    costs = costs_of(overhead, on_gpu=not on_cpu, packed=bundle.packed)
    rates = _Rates(folder, bundle, execution, mixes(bundle, vocabulary), costs)
    rates.measure(todo, effort.seconds)
    return Tuning(
        machine=machine,
        batch_overhead=round(overhead, 2),
        measurements=list(rates.medians(todo)),
    )


def render(tuning: Tuning) -> str:
    """Every combination as a line for a person, and which one a server takes that is told nothing."""
    chosen = fastest(tuning.measurements, {})
    heads = "executors  threads  budget      short      mixed   tokens per second"
    lines = [
        f"{one.executors:9d}  {one.intra_op_threads:7d}  {one.max_batch_tokens:6d}"
        f"  {one.short:9,.0f}  {one.mixed:9,.0f}{'   ← chosen' if one is chosen else ''}"
        for one in tuning.measurements
    ]
    machine = tuning.machine
    about = f"{machine.gpu or machine.cpu}, {machine.cores} usable cores, ONNX Runtime {machine.onnxruntime}"
    return "\n".join([about, heads, *lines, f"A batch costs {tuning.batch_overhead:g} tokens beside its own."])


def flags(tuning: Tuning) -> str:
    """What was chosen, as options of `embedserve serve`."""
    chosen = fastest(tuning.measurements, {})
    return " ".join(f"--{name.replace('_', '-')} {getattr(chosen, name)}" for name in CHOICES)


class _Rates:
    """Tokens per second of combinations and mixes, several times each."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        execution: Execution,
        mixes: Mapping[str, Sequence[Row]],
        costs: Costs,
    ) -> None:
        self._folder = folder
        self._bundle = bundle
        self._execution = execution
        self._mixes = mixes
        self._costs = costs
        self._found: dict[tuple[Combination, str], list[float]] = defaultdict(list)

    def measure(self, todo: Sequence[Combination], seconds: float) -> None:
        """Rounds of all, until they are done or much more time has passed: one batch of a large model takes long."""
        share = seconds / (_ROUNDS * len(todo) * len(self._mixes))
        end = time.monotonic() + _LIMIT * seconds
        with tqdm(total=_ROUNDS * len(todo) * len(self._mixes), unit="run", disable=None, file=sys.stderr) as bar:
            for _ in range(_ROUNDS):
                for encoder, combination in self._opened(todo):
                    for name in self._mixes:
                        if time.monotonic() > end:
                            return
                        self._found[combination, name].append(self._rate(encoder, combination, name, share))
                        bar.update()

    def medians(self, todo: Sequence[Combination]) -> Iterator[Measurement]:
        """Of those that were measured, in the order of `todo`."""
        for combination in todo:
            rates = {name: self._found[combination, name] for name in self._mixes}
            if all(rates.values()):
                executors, threads, budget = combination
                yield Measurement(
                    executors=executors,
                    intra_op_threads=threads,
                    max_batch_tokens=budget,
                    **{name: round(statistics.median(found), 1) for name, found in rates.items()},
                )

    def _opened(self, todo: Sequence[Combination]) -> Iterator[tuple[Encoder, Combination]]:
        """One session at a time, for a large model's sake."""
        for threads in sorted({threads for _, threads, _ in todo}):
            encoder = Encoder(self._folder, self._bundle, self._execution, threads)
            yield from ((encoder, one) for one in todo if one[1] == threads)

    def _rate(self, encoder: Encoder, combination: Combination, mix: str, seconds: float) -> float:
        executors, _, budget = combination
        packed = list(batches(self._mixes[mix], budget, self._costs))
        return rate(encoder.run, packed, executors, seconds)


def rate(run: Callable[[Batch], Any], packed: Sequence[Batch], executors: int, seconds: float) -> float:
    """Tokens per second, padding not counted, of so many threads that run batches without pause. Raises what `run`
    does, when all threads have ended."""
    turns = [cycle(packed[number::executors] or packed) for number in range(executors)]

    def one_rate(mine: Iterator[Batch]) -> float:
        started = now = time.perf_counter()
        tokens = 0
        while now - started < seconds:
            batch = next(mine)
            run(batch)
            tokens += sum(map(len, batch))
            now = time.perf_counter()
        return tokens / (now - started)

    with ThreadPoolExecutor(executors) as pool:
        list(pool.map(lambda mine: run(next(mine)), turns))  # memory is allocated before the time begins
        return sum(pool.map(one_rate, turns))


def mixes(bundle: Bundle, vocabulary: int) -> dict[str, list[Row]]:
    """Queries and the like, and texts of every length up to that of long paragraphs or the model's limit."""
    draw = random.Random(_SEED)
    longest = min(250, bundle.max_seq_length)
    spans = {"short": (min(8, longest), min(24, longest)), "mixed": (min(8, longest), longest)}
    return {name: [_row(draw, vocabulary, draw.randint(*span)) for _ in range(_ROWS)] for name, span in spans.items()}


def _row(draw: random.Random, vocabulary: int, length: int) -> Row:
    return [draw.randrange(vocabulary) for _ in range(length)]


def batches(rows: Sequence[Row], budget: int, costs: Costs) -> Iterator[Batch]:
    """As a server packs them whose queue never gets short."""
    waiting = list(rows)
    while waiting:
        chosen = set(pack([len(row) for row in waiting[:LOOKAHEAD]], budget, costs))
        yield [waiting[i] for i in chosen]
        waiting = [row for i, row in enumerate(waiting) if i not in chosen]


def _shapes(bundle: Bundle, *, on_cpu: bool) -> list[Shape]:
    """No longer than the model reads."""
    shapes = _SHAPES if on_cpu else _GPU_SHAPES
    return [(rows, min(length, bundle.max_seq_length)) for rows, length in shapes]


def _overhead(encoder: Encoder, vocabulary: int, shapes: Sequence[Shape]) -> float:
    """In tokens, from batches without padding, one at a time."""
    draw = random.Random(_SEED)
    batches = [[_row(draw, vocabulary, length) for _ in range(rows)] for rows, length in shapes]
    times: list[list[float]] = [[] for _ in batches]
    end = time.monotonic() + _OVERHEAD_SECONDS
    while not times[-1] or time.monotonic() < end:
        for batch, found in zip(batches, times, strict=True):
            started = time.perf_counter()
            encoder.run(batch)
            found.append(time.perf_counter() - started)
    tokens = [rows * length for rows, length in shapes]
    return min(batch_overhead(tokens, [statistics.median(found) for found in times]), _MOST_OVERHEAD)
