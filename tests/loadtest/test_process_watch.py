"""Whether growth is found where there is some, and only there."""

from __future__ import annotations

import os
import random

import pytest

from loadtest.endurance import Soaked
from loadtest.process_watch import BLOCKS, Sample, blocks, look, trend, watched
from tests.e2e.process import wait_until

MOST = 10.0  # MB an hour


def samples(slope: float = 0.0, descriptors: float = 0.0, threads: float = 0.0) -> list[Sample]:
    """Twenty minutes of a noisy process, with so much more an hour of each."""
    draw = random.Random(7)
    return [
        Sample(
            float(second),
            300 + draw.gauss(0, 1) + slope * second / 3600,
            40 + draw.randrange(6) + int(descriptors * second / 3600),
            12 + int(threads * second / 3600),
        )
        for second in range(600, 1800)
    ]


@pytest.mark.parametrize("slope", [0.0, 30.0, -5.0])
def test_the_interval_holds_the_slope(slope: float) -> None:
    found = trend(samples(slope), lambda one: one.memory)
    assert abs(found.slope - slope) <= 2 * found.margin
    assert found.margin < 2
    late = trend(samples(slope)[600:], lambda one: one.memory, BLOCKS // 2)
    assert abs(late.slope - slope) <= 2 * late.margin


def test_blocks_keep_every_sample() -> None:
    parts = blocks(samples())
    assert len(parts) == BLOCKS
    assert [one.seconds for one in parts] == sorted(one.seconds for one in parts)
    assert max(one.descriptors for one in parts) == max(one.descriptors for one in samples())


def judged(found: list[Sample], after: Sample | None = None) -> list[str]:
    """What is said to have grown."""
    idle = Sample(0, 250, 30, 10)
    return [one.topic for one in Soaked(found, idle, after or idle).figures(MOST) if one.met is False]


def test_what_is_flat_passes() -> None:
    assert judged(samples()) == []


@pytest.mark.parametrize("after", [600, 900, 1200, 1500])
def test_what_grows_once_passes(after: int) -> None:
    stepped = [one._replace(memory=one.memory + 8 * (one.seconds >= after)) for one in samples()]
    assert judged(stepped) == []


def test_what_grows_by_steps_again_and_again_fails() -> None:
    stepped = [one._replace(memory=one.memory + 8 * (one.seconds // 200)) for one in samples()]
    assert judged(stepped) == ["memory"]


def test_what_grows_fails() -> None:
    assert judged(samples(slope=30)) == ["memory"]
    assert judged(samples(descriptors=100)) == ["descriptors"]
    assert judged(samples(threads=100)) == ["threads"]
    assert judged(samples(), Sample(1803, 250, 130, 10)) == ["descriptors"]


def test_a_process_is_looked_at_while_the_block_runs() -> None:
    with watched(os.getpid()) as found:
        wait_until(lambda: len(found) > 0, "a look")
        with open(os.devnull) as _:
            assert look(os.getpid()).descriptors > 0
    count = len(found)
    assert found[0].memory > 1
    assert found[0].mapped > 1  # Python itself
    assert found[0].threads >= 2
    assert len(found) == count
