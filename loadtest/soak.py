"""`python -m loadtest.soak`: whether memory stays what it is, over hundreds of thousands of texts of all lengths."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loadtest import command
from loadtest.command import MeasurementError
from loadtest.process_watch import memory_of
from loadtest.report import aligned
from loadtest.server import find_bundle
from loadtest.small_bundle import write_small_bundle
from service.batcher import Batcher
from service.bundle import TOKENIZER_JSON, is_bundle, read_bundle
from service.cores import usable_cores
from service.device import Device
from service.encoder import Encoder
from service.runtime.providers import CPU, Execution
from service.settings import DEFAULT_MODEL, ModelSettings, load_settings
from service.tokenizer import Tokenizer

_SEED = 20_240_229
_CLIENTS = 64
_SHORTEST = 4  # tokens
_SAMPLES = 100  # of the process's memory
_PATIENCE = 120.0  # seconds for a row

_HELP = """\
The server's own batcher and encoder, without HTTP, on rows of 4 tokens to the model's limit (evenly spread over the
orders of magnitude), 64 at a time. By default the model is a small one, built by the compiler from two layers of the
real one, so that 200,000 requests take some minutes; each way of handling memory has a process of its own.

  start, half, end  MB of the process's memory (RSS) after 1 %, 50 % and all of the requests
  slope             MB for 100,000 requests more, by least squares over the second half
"""

_say = partial(command.say, "soak")


@dataclass(frozen=True, slots=True)
class Policy:
    """A way of handling memory: ONNX Runtime's, and that of the C library by its variables."""

    execution: Execution
    environment: Mapping[str, str] = field(default_factory=dict)


_SHRINKING = (("memory.enable_memory_arena_shrinkage", "cpu:0"),)
_NO_ARENA = replace(CPU, enable_cpu_mem_arena=False)
POLICIES = {
    "as-served": Policy(CPU),
    "patterns": Policy(replace(CPU, enable_mem_pattern=True)),
    "no-arena": Policy(_NO_ARENA),
    "shrinking": Policy(replace(CPU, run_config=_SHRINKING)),
    "no-arena-one-heap": Policy(_NO_ARENA, {"MALLOC_ARENA_MAX": "1"}),
    "no-arena-keep-freed": Policy(
        _NO_ARENA, {"MALLOC_TRIM_THRESHOLD_": str(2**27), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    ),
}


@dataclass(frozen=True, slots=True)
class Soaked:
    """`memory` in MB, at even distances over `requests`; tokens per second without padding."""

    policy: str
    requests: int
    memory: list[float]
    peak: float
    tokens_per_second: float

    @property
    def slope(self) -> float:
        """MB for 100,000 requests, over the second half."""
        second = self.memory[len(self.memory) // 2 :]
        apart = self.requests / len(self.memory)
        return float(np.polyfit(np.arange(len(second)) * apart, second, 1)[0]) * 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("soak", lambda: _in_this_process(options) if options.child else _measure(options))


def _measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="embedserve-soak-") as place:
        folder = find_bundle(options.model, _say) if options.real else _small(options.model, Path(place, "small"))
        rows = [_row(_in_a_process(name, folder, options.requests)) for name in options.policies]
    heads = ["memory", "start MB", "half MB", "end MB", "peak MB", "slope MB", "tokens/s"]
    print("\n".join(aligned([heads, *rows])))


def _small(model: str, folder: Path) -> Path:
    """Raises MeasurementError where there is no checkpoint to make it of."""
    if is_bundle(Path(model)):
        raise MeasurementError(
            f"{model} is a bundle, and a small model is made of a checkpoint: --real takes it as it is"
        )
    return write_small_bundle(model, load_settings().cache_dir, folder, _say)


def _in_a_process(policy: str, folder: Path, requests: int) -> Soaked:
    """Raises RuntimeError with the last of its words."""
    _say(f"{policy}: {requests} requests")
    own = [
        sys.executable,
        "-m",
        "loadtest.soak",
        "--child",
        policy,
        "--requests",
        str(requests),
        "--model",
        str(folder),
    ]
    done = subprocess.run(own, env=os.environ | POLICIES[policy].environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace")[-2000:])
    return Soaked(**json.loads(done.stdout))


def _row(one: Soaked) -> list[str]:
    start, half, end = (one.memory[i] for i in (1, len(one.memory) // 2, -1))
    figures = [f"{value:.0f}" for value in (start, half, end, one.peak)]
    return [one.policy, *figures, f"{one.slope:+.2f}", f"{one.tokens_per_second:,.0f}"]


def _in_this_process(options: argparse.Namespace) -> None:
    print(json.dumps(asdict(_soak(options.child, Path(options.model), options.requests))))


def _soak(policy: str, folder: Path, requests: int) -> Soaked:
    """In the process that is measured."""
    bundle = read_bundle(folder)
    cores = usable_cores()
    encoder = Encoder(folder, bundle, POLICIES[policy].execution, 1, cores)
    vocabulary = Tokenizer(folder / TOKENIZER_JSON).vocab_size
    ids = random.Random(_SEED).choices(range(vocabulary), k=bundle.max_seq_length)
    memory, tokens, seconds = asyncio.run(_load(encoder, cores, ids, requests))
    return Soaked(policy, requests, memory, _peak(), tokens / seconds)


async def _load(encoder: Encoder, cores: int, ids: Sequence[int], requests: int) -> tuple[list[float], int, float]:
    """Memory in MB, tokens, seconds."""
    device: Device[Any] = Device(cores)
    batcher = Batcher(
        encoder.run,
        encoder.run_lone,
        model="soak",
        device=device,
        max_batch_tokens=ModelSettings().max_batch_tokens,
        max_queue_tokens=10**9,
    )
    draw = random.Random(_SEED)
    numbers = iter(range(requests))
    memory: list[float] = []
    tokens = 0

    async def client() -> None:
        nonlocal tokens
        for number in numbers:
            if number % max(1, requests // _SAMPLES) == 0:
                memory.append(memory_of())
            length = round(_SHORTEST * (len(ids) / _SHORTEST) ** draw.random())
            try:
                async with asyncio.timeout(_PATIENCE):
                    await batcher.submit([ids[:length]])
            except TimeoutError:
                raise MeasurementError(f"a row was not answered within {_PATIENCE:g} s") from None
            tokens += length

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    seconds = time.perf_counter() - started
    await batcher.close()
    device.close()
    return [*memory, memory_of()], tokens, seconds


def _peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--requests",
        type=command.number(int, _SAMPLES),
        default=200_000,
        help="of one text each (default: %(default)s)",
    )
    parser.add_argument(
        "--policies", nargs="+", choices=list(POLICIES), default=["as-served"], help="(default: as-served)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what is soaked, or made small (default: %(default)s)")
    parser.add_argument("--real", action="store_true", help="the model itself: a fiftieth of the speed")
    parser.add_argument("--child", choices=list(POLICIES), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
