"""What a process holds, by the second, and whether it grows: memory, file descriptors, threads. Linux only."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 1.0  # seconds
BLOCKS = 20
_QUANTILES = {BLOCKS: 2.101, BLOCKS // 2: 2.306}  # of Student's t: 0.975, with so many - 2 degrees of freedom


class Sample(NamedTuple):
    """At `seconds` after the first one: resident memory of its own in MB, open descriptors, threads; and apart, in MB,
    pages of mapped files (weights, libraries), which come when they are looked at and go at the kernel's need."""

    seconds: float
    memory: float
    descriptors: int
    threads: int
    mapped: float = 0.0


class Trend(NamedTuple):
    """Of a straight line, in units an hour: its slope, and how far the true one may be from it (95 %)."""

    slope: float
    margin: float


def memory_of(pid: int | str = "self") -> float:
    """A process's memory (RSS), in MB; this one's by default. Raises OSError."""
    return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE / 2**20


def look(pid: int, seconds: float = 0.0) -> Sample:
    """Raises OSError when there is no such process any more."""
    folder = Path("/proc", str(pid))
    resident, shared = (int(one) * _PAGE / 2**20 for one in (folder / "statm").read_text().split()[1:3])
    descriptors, threads = (len(list((folder / name).iterdir())) for name in ("fd", "task"))
    return Sample(seconds, resident - shared, descriptors, threads, shared)


@contextmanager
def watched(pid: int) -> Iterator[list[Sample]]:
    """A list that grows by one a second while the block is running."""
    samples: list[Sample] = []
    done, started = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(_EVERY):
            try:
                samples.append(look(pid, time.monotonic() - started))
            except OSError:  # a process that has died tells of itself elsewhere
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def blocks(samples: Sequence[Sample], count: int = BLOCKS) -> list[Sample]:
    """Means of so many equal stretches of time; of descriptors and threads the most. At least `count` samples."""
    return [
        Sample(
            float(np.mean([one.seconds for one in part])),
            float(np.mean([one.memory for one in part])),
            max(one.descriptors for one in part),
            max(one.threads for one in part),
            float(np.mean([one.mapped for one in part])),
        )
        for part in ([samples[i] for i in found.tolist()] for found in np.array_split(np.arange(len(samples)), count))
    ]


def trend(samples: Sequence[Sample], value: Callable[[Sample], float], count: int = BLOCKS) -> Trend:
    """Least squares over the means of so many stretches (BLOCKS or half of them), because samples next to each other
    say the same. The margin is that of a simple regression's slope: t · √(Σ residuals² / (n − 2) / Σ (x − x̄)²)."""
    parts = blocks(samples, count)
    hours = np.array([one.seconds for one in parts]) / 3600
    values = np.array([value(one) for one in parts])
    slope, start = np.polyfit(hours, values, 1)
    residuals = values - (start + slope * hours)
    spread = float((residuals**2).sum() / (count - 2) / ((hours - hours.mean()) ** 2).sum())
    return Trend(float(slope), _QUANTILES[count] * spread**0.5)
