"""What is made of a probe's times, and that a server which does not answer, or refuses, ends the run with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

from loadtest import fairness
from loadtest.command import MeasurementError
from loadtest.fairness import BulkRound, Latency, bulk_summary
from loadtest.server import Server
from loadtest.texts import Texts
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

REFUSAL = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo long"


@asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[Server]:
    """A server that says the same to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as one:
        yield Server("127.0.0.1", one.sockets[0].getsockname()[1], 0)


@pytest.mark.parametrize(("pause", "counted"), [(0.05, [0.2, 0.15, 0.1, 0.05]), (0.3, [0.2]), (0.0, [0.2])])
def test_a_wait_counts_for_the_probes_that_would_have_been_sent(pause: float, counted: list[float]) -> None:
    found = list(islice(fairness._as_if_sent_all_the_time(0.2, pause), 10))
    assert [one for one in found if one > 1e-9] == pytest.approx(counted)


def test_an_answer_that_does_not_come_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "_PATIENCE", 0.1)

    async def ask() -> None:
        async with _answering(b"HTTP/1.1 200 OK\r\n") as server, fairness._connected(server) as connection:
            await connection.exchange(fairness._get("/livez"))

    with pytest.raises(MeasurementError, match=r"no answer: TimeoutError"):
        asyncio.run(asyncio.wait_for(ask(), 30))


def test_bulk_that_is_refused_ends_the_run_before_anything_is_measured(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_FILL", 1.0), ("_SETTLE", 0.0), ("_SHORT_TEXTS", 4), ("_BULK_TEXTS", 4)):
        monkeypatch.setattr(fairness, name, value)
    texts = Texts(Tokenizer(bundle / TOKENIZER_JSON), 0)
    measured = False

    async def load() -> None:
        nonlocal measured
        async with _answering(REFUSAL) as server:
            bench = fairness._Bench(server, texts, seconds=0.1, pause=0.0, characters=0)
            async with bench._bulk_load():
                measured = True

    with pytest.raises(MeasurementError, match=r"not every answer is a 200: http/1\.1 413"):
        asyncio.run(load())
    assert not measured


def _round(idle: float, beside: float, alone: float, kept: float) -> BulkRound:
    before, during = (Latency(p99 / 2, p99, p99, p99, 9) for p99 in (idle, beside))
    return BulkRound(before, during, alone, kept, tokens_of_probe=10.0, probes=5.0, micro_batch=20.0)


def test_ratios_are_taken_within_rounds() -> None:
    found = bulk_summary([_round(10, 30, 1000, 950), _round(20, 200, 500, 400), _round(5, 20, 2000, 1840)])
    assert found["p99_of_bound"] == pytest.approx(30 / 60)  # of 30 ÷ 60, 200 ÷ 100 and 20 ÷ 40
    assert found["kept"] == pytest.approx(0.92)
    assert found["holds"] == {"latency": True, "throughput": True}
    assert found["tokens_alone"] == 1000
