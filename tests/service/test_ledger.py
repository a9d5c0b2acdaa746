"""Buckets that several processes share: they count as one, whatever becomes of one of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import ledger
from service.errors import StartupError
from service.ledger import Ledger
from service.rate_limits import MINUTE, Bucket

OWNER = "team"


@pytest.fixture
def shared() -> Iterator[Ledger]:
    made = Ledger.make()
    yield made
    os.close(made.file)


def beside(shared: Ledger, code: str) -> subprocess.Popen[str]:
    """Another process, which has a `bucket` of 1,000 a minute."""
    program = f"""\
import os, sys, time
from service.ledger import Ledger
shared = Ledger({shared.file})
bucket = shared.bucket({OWNER!r}, "requests", 1000, 0)
{code}
"""
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, pass_fds=[shared.file], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def asked(bucket: Bucket, step: str, amount: int, now: int) -> object:
    match step:
        case "take":
            return bucket.take(amount, now)
        case "wait":
            return bucket.wait(min(amount, 200), now)
        case "left":
            return bucket.left(now)
        case "until full":
            return bucket.until_full(now)
        case "standing":
            return bucket.standing(now)
    bucket.give_back(amount, now)
    return None


STEPS = st.sampled_from(["take", "wait", "left", "until full", "standing", "give back"])


@given(st.lists(st.tuples(STEPS, st.integers(1, 300), st.integers(0, MINUTE)), max_size=30))
def test_a_shared_bucket_is_a_bucket_whoever_asks(steps: list[tuple[str, int, int]]) -> None:
    made = Ledger.make()
    alone, now = Bucket(200, 0), 0
    both = [made.bucket(OWNER, "tokens", 200, 0), Ledger(made.file).bucket(OWNER, "tokens", 200, 0)]
    for number, (step, amount, pause) in enumerate(steps):
        now += pause
        found, expected = (asked(one, step, amount, now) for one in (both[number % 2], alone))
        assert found == expected, step
    os.close(made.file)


def test_owners_kinds_and_limits_have_buckets_of_their_own(shared: Ledger) -> None:
    first = shared.bucket(OWNER, "requests", 5, 0)
    others = [
        shared.bucket("other", "requests", 5, 0),
        shared.bucket(OWNER, "tokens", 5, 0),
        shared.bucket(OWNER, "requests", 6, 0),
    ]
    assert first.take(5, 0)
    assert [one.left(0) for one in (first, *others)] == [0, 5, 5, 6]
    assert shared.bucket(OWNER, "requests", 5, 0).left(0) == 0


def test_the_largest_limit_fits(shared: Ledger) -> None:
    bucket = shared.bucket(OWNER, "tokens", 10**15, 0)
    assert bucket.take(10**15 - 1, 0)
    assert (bucket.left(0), bucket.left(MINUTE)) == (1, 10**15)


def test_who_read_the_clock_before_another_looked_loses_nothing(shared: Ledger) -> None:
    bucket, other = shared.bucket(OWNER, "requests", 60, 0), shared.bucket(OWNER, "requests", 60, 0)
    assert bucket.take(60, 0)
    assert other.left(MINUTE // 2) == 30
    assert bucket.left(MINUTE // 4) == 30
    assert other.left(MINUTE // 2) == 30


def test_processes_at_once_let_through_exactly_the_limit(shared: Ledger) -> None:
    code = "print(sum(bucket.take(1, 0) for _ in range(600)))"
    processes = [beside(shared, code) for _ in range(4)]
    assert sum(int(said(one)) for one in processes) == 1000
    assert [one.wait() for one in processes] == [0] * 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nobody_waits_for_a_process_that_holds_a_row_and_is_no_more(
    shared: Ledger, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = beside(shared, "bucket.__enter__(); print('holds', flush=True); time.sleep(600)")
    assert said(holder) == "holds"
    holder.send_signal(number)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    bucket = shared.bucket(OWNER, "requests", 1000, 0)
    assert all(bucket.take(1, 0) for _ in range(50))
    assert bucket.left(0) == 950
    assert len(pauses) < 10  # once, and not for each of them
    holder.kill()
    holder.wait()


def test_who_was_stopped_in_the_middle_forgets_nothing_that_others_spent(shared: Ledger) -> None:
    bucket, other = (one.bucket(OWNER, "requests", 10, 0) for one in (shared, Ledger(shared.file)))
    with bucket:  # type: ignore[attr-defined]
        assert other.take(10, 0)
    assert (bucket.left(0), other.left(0)) == (0, 0)


def test_a_process_finds_the_rows_that_others_have_added_since(shared: Ledger) -> None:
    other = Ledger(shared.file)
    owners = [b"%d" % number for number in range(5)]
    for owner in owners:
        assert shared.bucket(owner, "requests", 5, 0).take(2, 0)
    assert [other.bucket(owner, "requests", 5, 0).left(0) for owner in owners] == [3] * 5
    assert other.bucket(b"new", "requests", 5, 0).take(5, 0)
    assert shared.bucket(b"new", "requests", 5, 0).left(0) == 0


def test_a_full_table_changes_nothing_for_those_in_it_and_new_ones_are_counted_by_each(
    shared: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ledger, "ROWS", 3)
    buckets = [shared.bucket(b"%d" % owner, "requests", 5, 0) for owner in range(3)]
    assert all(one.take(1, 0) for one in buckets)
    late = [one.bucket(b"%d" % owner, "requests", 5, 0) for one in (shared, Ledger(shared.file)) for owner in (3, 4)]
    assert all(one.take(5, 0) for one in late)
    assert caplog.text.count("3 limits are in it") == 2  # once by each
    assert Ledger(shared.file).bucket(b"1", "requests", 5, 0).left(0) == 4


def test_where_another_process_holds_on_to_the_table_new_keys_are_counted_by_each(
    shared: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holder = beside(shared, "shared.lock(0); print('holds', flush=True); time.sleep(600)")
    assert said(holder) == "holds"
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert shared.bucket(b"new", "requests", 5, 0).take(5, 0)
    assert "another process holds on to it" in caplog.text
    holder.kill()
    holder.wait()
    assert shared.bucket(b"new", "requests", 5, 0).left(0) == 5


def _refuse(*_: object) -> int:
    raise PermissionError(1, "Operation not permitted")


def test_without_memory_files_there_are_temporary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", _refuse)
    made = Ledger.make()
    assert made.bucket(OWNER, "requests", 5, 0).take(5, 0)
    assert Ledger(made.file).bucket(OWNER, "requests", 5, 0).left(0) == 0
    os.close(made.file)


def test_where_there_can_be_no_file_it_is_said_what_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", _refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", _refuse)
    with pytest.raises(StartupError, match=r"table of limits .* Operation not permitted"):
        Ledger.make()
