"""The load generator: HTTP/1.1 keep-alive connections that send ready bytes and hardly look at the answers.

It runs in a process of its own (`python -m loadtest.client`: a job as JSON on stdin, a result on stdout) and measures
what it costs, because it shares the machine with the server. Every connection sends its next request as soon as it
has its answer. The window that is measured opens when every connection has had an answer (before that, requests that
all began at once would each claim the same time), and the load lasts until every request under way at its end is
answered. A request counts for the share of its time that lies in the window, so that a few long requests are measured
as well as many short ones. Which part of its work was done in that share of its time is a guess all the same; so
where a server counts what it computes, its counters are read as well when the window opens and closes.

A job `once` has no such edges: every body is sent once, and the window lasts from the first byte to the last answer.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import cast

from loadtest.server import Server, real_tokens

_PATIENCE = 60.0  # seconds beyond its time before a load is given up
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Job:
    """A load. `bodies` are sent in order, `tokens[i]` are those of body i; `sampled` answers are brought back."""

    host: str
    port: int
    path: str
    connections: int
    seconds: float
    bodies: Sequence[str]
    tokens: Sequence[int]
    warmup: float = 1.0  # seconds at least
    sampled: Sequence[int] = ()
    server_pid: int | None = None  # whose CPU time to read
    once: bool = False  # all bodies once, for however long that takes; `seconds` is then what it may take
    counts_parts: bool = False  # requests are few and long: what the window's edges cut must count in part


@dataclass(frozen=True, slots=True)
class Result:
    """What a load gave. Rates are per second; p50 and p99 in milliseconds, of requests that touched the window."""

    requests_per_second: float
    tokens_per_second: float
    p50: float
    p99: float
    answered: int
    seconds: float
    repeated: int  # requests sent again because there were too few
    client_cpu: float  # seconds of CPU time in the window
    server_cpu: float | None
    failures: dict[str, int] = field(default_factory=dict)
    first_failure: str = ""
    samples: dict[str, str] = field(default_factory=dict)  # number of the body → the answer to it
    computed_per_second: float | None = None  # tokens without padding, by the server's own counters
    generator: str = "python"

    @property
    def server_microseconds(self) -> float:
        """Of the server's CPU for a request; not a number where that is not known."""
        answered = self.requests_per_second * self.seconds
        return 1e6 * self.server_cpu / answered if self.server_cpu is not None and answered else math.nan


class Generator:
    """A load under way. Several may run at once; leaving the context ends what still runs."""

    def __init__(self, job: Job) -> None:
        self._time_limit = job.warmup + job.seconds + 2 * _PATIENCE
        # Files, not pipes: nobody has to read while the load runs.
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        with tempfile.TemporaryFile("w+", encoding="utf-8") as given:
            json.dump(asdict(job), given)
            given.seek(0)
            command = [sys.executable, "-m", "loadtest.client"]
            self._process = subprocess.Popen(command, stdin=given, stdout=self._output)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._output.close()

    def result(self) -> Result:
        """Waits for the end. Raises RuntimeError where the generator itself failed."""
        try:
            status = self._process.wait(self._time_limit)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the load generator did not end within {self._time_limit:.0f} s") from None
        if status:
            raise RuntimeError(f"the load generator ended with {status}")
        self._output.seek(0)
        return Result(**json.load(self._output))


def run(job: Job) -> Result:
    """One load, in a process of its own."""
    with Generator(job) as generator:
        return generator.result()


@dataclass(frozen=True, slots=True)
class _Answer:
    number: int
    sent: float
    received: float


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Seconds: by the wall, of CPU time of client and server; and the tokens that the server has computed so far."""

    wall: float
    client: float
    server: float | None
    computed: float | None


class _Load:
    """The state that all connections share."""

    def __init__(self, job: Job) -> None:
        head = f"POST {job.path} HTTP/1.1\r\nhost: {job.host}:{job.port}\r\ncontent-type: application/json\r\n"
        bodies = [body.encode() for body in job.bodies]
        self.requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self.sampled = frozenset(job.sampled)
        self.answers: list[_Answer] = []
        self.samples: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self.first_failure = ""
        self.sent = 0
        self.begin = self.end = math.inf
        self.clocks: list[_Clocks] = []  # at begin and end
        self._job = job
        self._not_before = time.perf_counter() + job.warmup
        self._cold = job.connections
        self.over = asyncio.get_running_loop().create_future()
        self._busy = job.connections
        if job.once:
            self._begin()

    @property
    def all_sent(self) -> bool:
        """Whether there is nothing left to send."""
        return self._job.once and self.sent == len(self.requests)

    def next_number(self) -> int:
        number = self.sent % len(self.requests)
        self.sent += 1
        return number

    def fail(self, kind: str, detail: str) -> None:
        self.failures[kind] += 1
        self.first_failure = self.first_failure or f"{kind}: {detail}"

    def warm(self) -> None:
        """A connection has had its first answer."""
        self._cold -= 1
        if not self._cold and not self._job.once:
            asyncio.get_running_loop().call_later(max(0.0, self._not_before - time.perf_counter()), self._open)

    def _begin(self) -> None:
        self.begin = time.perf_counter()
        self._read_clocks()

    def _open(self) -> None:
        self._begin()
        self.end = self.begin + self._job.seconds
        asyncio.get_running_loop().call_later(self.end - time.perf_counter(), self._read_clocks)

    def _read_clocks(self) -> None:
        computed, pid = self._computed() if self._job.counts_parts else None, self._job.server_pid
        self.clocks.append(_Clocks(time.perf_counter(), time.process_time(), cpu_seconds(pid), computed))

    def _computed(self) -> float | None:
        """Tokens so far, by the server's counters; without them the load has failed."""
        try:
            return real_tokens(Server(self._job.host, self._job.port, 0).counters())
        except RuntimeError as error:
            self.fail("no counters", str(error))
            return None

    def settle(self) -> None:
        """A connection has no request left that began in the window."""
        self._busy -= 1
        if not self._busy and not self.over.done():
            if self._job.once:
                self.end = time.perf_counter()
            if len(self.clocks) == 1:  # as for answers that come all at once, just before the timer
                self._read_clocks()
            self.over.set_result(None)


class _Connection(asyncio.Protocol):
    """One request at a time: send, count the answer's bytes, send the next."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._warm = self._settled = False
        self._parts: list[bytes] = []
        self._have = self._need = self._head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._send_or_settle()

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._have += len(data)
        if not self._need:
            self._read_head()
        if self._need and self._have >= self._need:
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if not (self._settled or self._load.over.done()):  # servers close connections that are idle
            self._load.fail("connection lost", str(exc))
            self._settle()

    def _send(self) -> None:
        self._number = self._load.next_number()
        self._sent = time.perf_counter()
        self._transport.write(self._load.requests[self._number])

    def _read_head(self) -> None:
        data = b"".join(self._parts)
        stop = data.find(_END_OF_HEAD)
        if stop < 0:
            return
        head = data[:stop].lower()
        at = head.find(_LENGTH)
        if at < 0:
            self._load.fail("no content-length", head.decode("latin-1"))
            self._transport.abort()
            return
        self._head = stop + len(_END_OF_HEAD)
        self._need = self._head + int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])

    def _answered(self) -> None:
        load, now = self._load, time.perf_counter()
        status = self._parts[0][9:12]
        if status != b"200":
            body = b"".join(self._parts)[self._head :]
            load.fail(status.decode("latin-1"), body[:500].decode("utf-8", "replace"))
        elif self._number in load.sampled:
            load.samples[str(self._number)] = b"".join(self._parts)[self._head :].decode()
        load.answers.append(_Answer(self._number, self._sent, now))
        self._parts.clear()
        self._have = self._need = 0
        if not self._warm:
            self._warm = True
            load.warm()
        if now >= load.end:
            self._settle()
        self._send_or_settle()

    def _send_or_settle(self) -> None:
        if self._load.all_sent:
            self._settle()
        elif not self._load.over.done():
            self._send()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self._load.settle()


async def _measure(job: Job) -> Result:
    loop = asyncio.get_running_loop()
    load = _Load(job)
    transports: list[asyncio.Transport] = []
    try:
        async with asyncio.timeout(job.warmup + job.seconds + _PATIENCE):
            for _ in range(job.connections):
                transport, _ = await loop.create_connection(lambda: _Connection(load), job.host, job.port)
                transports.append(transport)
            await load.over
    except TimeoutError:
        load.fail("no answer", f"within {job.warmup + job.seconds + _PATIENCE:.0f} s")
    except OSError as error:
        load.fail("no connection", str(error))
    for transport in transports:
        transport.abort()
    return _result(job, load)


def _result(job: Job, load: _Load) -> Result:
    nothing = _Clocks(0.0, 0.0, None, None)
    begin, end = (*load.clocks, nothing, nothing)[:2]
    seconds = load.end - load.begin if job.once else job.seconds
    shares = [_share(answer, load.begin, load.end) for answer in load.answers]
    tokens = sum(job.tokens[answer.number] * share for answer, share in zip(load.answers, shares, strict=True))
    latencies = [1e3 * (a.received - a.sent) for a, share in zip(load.answers, shares, strict=True) if share]
    return Result(
        requests_per_second=sum(shares) / seconds,
        tokens_per_second=tokens / seconds,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
        answered=len(latencies),
        seconds=seconds,
        repeated=max(0, load.sent - len(load.requests)),
        client_cpu=end.client - begin.client,
        server_cpu=None if begin.server is None or end.server is None else end.server - begin.server,
        failures=dict(load.failures),
        first_failure=load.first_failure,
        samples=load.samples,
        computed_per_second=_computed_per_second(begin, end),
    )


def _computed_per_second(begin: _Clocks, end: _Clocks) -> float | None:
    if begin.computed is None or end.computed is None:
        return None
    return (end.computed - begin.computed) / (end.wall - begin.wall)


def _share(answer: _Answer, begin: float, end: float) -> float:
    """How much of a request's time lies in the window."""
    inside = min(answer.received, end) - max(answer.sent, begin)
    return max(0.0, inside) / (answer.received - answer.sent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; not a number where there are no values."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else math.nan


def cpu_seconds(pid: int | None) -> float | None:
    """User and system time of a process and all its threads; None where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Reads a job, runs it, writes the result."""
    job = Job(**json.load(sys.stdin))
    if sys.platform == "win32":
        result = asyncio.run(_measure(job))
    else:
        import uvloop

        result = uvloop.run(_measure(job))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
