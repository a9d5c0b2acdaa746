"""A load that does not wait for answers: requests leave when their time has come, however many are under way.

It runs in a process of its own (`python -m loadtest.flood`: a plan as JSON on stdin, what came of each request as JSON
on stdout) and is cheap, because it shares the machine with the server: keep-alive connections that send ready bytes
and look at little more of an answer than its status. A connection that waits for its answer is not used for another
request; where none is idle, one more is opened.

Beside them there may be honest clients: each sends a request, and where it is refused, waits as told and comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import cast

from service.open_files import raise_limit

_TICK = 0.002  # seconds between two looks at what is due
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH, _SECONDS, _MILLISECONDS = b"\r\ncontent-length: ", b"\r\nretry-after: ", b"\r\nretry-after-ms: "


@dataclass(frozen=True, slots=True)
class Plan:
    """`phases` are (seconds, requests per second), one after another. `honest` clients begin with phase `honest_in`."""

    host: str
    port: int
    path: str
    phases: Sequence[tuple[float, float]]
    bodies: Sequence[str]
    honest: int = 0
    honest_in: int = 0
    patience: float = 90.0  # seconds after the last request until what is not answered counts as lost
    most_connections: int = 12_000


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. Times in seconds since the plan began; `status` 0: no answer came. What a refusal told: seconds by
    each of the two headers, 0 where it has none."""

    at: float
    took: float
    status: int
    retry_after: float = 0.0
    retry_after_exactly: float = 0.0


@dataclass(frozen=True, slots=True)
class Honest:
    """One honest client's request: how often it was sent, how long it took in all, what it was told each time."""

    tries: int
    took: float
    status: int
    told: list[float]


@dataclass(slots=True)
class Flooded:
    """What came of a plan."""

    sent: list[Sent] = field(default_factory=list)
    honest: list[Honest] = field(default_factory=list)
    unsent: int = 0  # for want of connections
    connections: int = 0
    cpu: float = 0.0  # seconds of CPU time


class Flood:
    """A plan under way, in a process of its own; leaving the context ends it."""

    def __init__(self, plan: Plan) -> None:
        # What is not answered is waited for once, and the honest clients behind it once more.
        self._limit = sum(seconds for seconds, _ in plan.phases) + 2 * plan.patience + 30
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        with tempfile.TemporaryFile("w+", encoding="utf-8") as given:
            json.dump(asdict(plan), given)
            given.seek(0)
            command = [sys.executable, "-m", "loadtest.flood"]
            self._process = subprocess.Popen(command, stdin=given, stdout=self._output)
        self._give_up = time.monotonic() + self._limit

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._output.close()

    def wait(self, seconds: float) -> bool:
        """Whether it is over within so many seconds, or must have been by now: `result` tells."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None or time.monotonic() > self._give_up

    def result(self) -> Flooded:
        """Waits for the end. Raises RuntimeError where the generator itself failed."""
        try:
            status = self._process.wait(max(0.0, self._give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the load did not end within {self._limit:.0f} s") from None
        if status:
            raise RuntimeError(f"the load generator ended with {status}")
        self._output.seek(0)
        found = json.load(self._output)
        return Flooded(
            [Sent(*row) for row in found["sent"]],
            [Honest(**one) for one in found["honest"]],
            found["unsent"],
            found["connections"],
            found["cpu"],
        )


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, pool: _Pool, is_shared: bool) -> None:
        self._pool = pool
        self._is_shared = is_shared  # when it is idle
        self._received = b""
        self._need = 0
        self._done: Callable[[Sent], None] | None = None
        self._at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, done: Callable[[Sent], None]) -> None:
        """`done` is told what came of it; a future for each would cost as much as all the rest."""
        self._received, self._need, self._done = b"", 0, done
        self._at = time.perf_counter()
        self._transport.write(request)

    @property
    def at(self) -> float:
        """When it last sent something, in seconds since the plan began."""
        return self._at - self._pool.began

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._need:
            stop = self._received.find(_END_OF_HEAD)
            if stop < 0:
                return
            self._head = self._received[:stop].lower()
            self._need = stop + len(_END_OF_HEAD) + int(_header(self._head, _LENGTH))
        if len(self._received) >= self._need:
            seconds, exactly = _header(self._head, _SECONDS), _header(self._head, _MILLISECONDS) / 1e3
            self._answered(int(self._head[9:12]), seconds, exactly)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.lost(self)
        self._answered(0)

    def _answered(self, status: int, seconds: float = 0.0, exactly: float = 0.0) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._is_shared and status and b"\r\nconnection: close" not in self._head:
            self._pool.idle.append(self)
        now = time.perf_counter()
        done(Sent(self.at, now - self._at, status, seconds, exactly))


def _header(head: bytes, name: bytes) -> float:
    at = head.find(name)
    return float(head[at + len(name) :].split(b"\r\n", 1)[0]) if at >= 0 else 0.0


class _Pool:
    """All connections, and what came of what they sent."""

    def __init__(self, plan: Plan) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle: list[_Connection] = []
        self.result = Flooded()
        self.began = time.perf_counter()
        self._plan = plan
        self._opening: dict[asyncio.Task[None], float] = {}  # and since when
        self._waiting: set[_Connection] = set()
        self._open = 0
        head = f"POST {plan.path} HTTP/1.1\r\nhost: {plan.host}:{plan.port}\r\ncontent-type: application/json\r\n"
        bodies = [body.encode() for body in plan.bodies]
        self._requests = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._next = 0

    def request(self) -> bytes:
        self._next += 1
        return self._requests[self._next % len(self._requests)]

    def lost(self, connection: _Connection) -> None:
        self._open -= 1
        if connection in self.idle[-64:]:
            self.idle.remove(connection)

    async def connect(self, is_shared: bool = True) -> _Connection:
        self._open += 1
        self.result.connections = max(self.result.connections, self._open)
        _, connection = await self.loop.create_connection(
            lambda: _Connection(self, is_shared), self._plan.host, self._plan.port
        )
        return connection

    def fire(self) -> None:
        """One request, without waiting for it."""
        while self.idle:
            connection = self.idle.pop()
            if not connection._transport.is_closing():
                self._send(connection)
                return
        if self._open >= self._plan.most_connections:
            self.result.unsent += 1
            return
        at = time.perf_counter() - self.began
        task = self.loop.create_task(self._fire_on_a_new_one(at))
        self._opening[task] = at
        task.add_done_callback(self._opening.pop)

    async def _fire_on_a_new_one(self, at: float) -> None:
        try:
            connection = await self.connect()
        except OSError:
            self._open -= 1
            self.result.sent.append(Sent(at, time.perf_counter() - self.began - at, 0))
            return
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        self._waiting.add(connection)
        connection.send(self.request(), partial(self._settled, connection))

    def _settled(self, connection: _Connection, sent: Sent) -> None:
        self._waiting.discard(connection)
        self.result.sent.append(sent)

    async def settle(self) -> None:
        """Until everything is answered, or the patience is over. What is not is lost, and so is what found nobody to
        take its connection."""
        give_up = time.perf_counter() + self._plan.patience
        while (self._waiting or self._opening) and time.perf_counter() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        unanswered = [*(one.at for one in self._waiting), *self._opening.values()]
        self.result.sent += [Sent(at, math.inf, 0) for at in unanswered]


async def _honest(pool: _Pool, delay: float, until: float) -> None:
    """One honest client after another, until the time is over; the last one is served to its end."""
    await asyncio.sleep(delay)
    while time.perf_counter() - pool.began < until:
        began, told, request = time.perf_counter(), list[float](), pool.request()
        connection = await pool.connect(is_shared=False)
        while True:
            answer: asyncio.Future[Sent] = pool.loop.create_future()
            connection.send(request, answer.set_result)
            sent = await answer
            if sent.status != 429:
                break
            told.append(sent.retry_after_exactly or sent.retry_after)
            await asyncio.sleep(told[-1])
        pool.result.honest.append(Honest(len(told) + 1, time.perf_counter() - began, sent.status, told))
        if sent.status != 200:
            return
        connection._transport.close()


def _due(phases: Sequence[tuple[float, float]]) -> Iterator[float]:
    """When each request is due, in seconds since the beginning."""
    begin = 0.0
    for seconds, rate in phases:
        for number in range(round(seconds * rate)):
            yield begin + number / rate
        begin += seconds


async def _until(moment: float) -> None:
    if (early := moment - time.perf_counter()) > 0:
        await asyncio.sleep(max(early, _TICK))


async def _run(plan: Plan) -> Flooded:
    pool = _Pool(plan)
    begin = sum(seconds for seconds, _ in plan.phases[: plan.honest_in])
    end = begin + plan.phases[plan.honest_in][0]
    honest = [asyncio.create_task(_honest(pool, begin + number / plan.honest, end)) for number in range(plan.honest)]
    for due in _due(plan.phases):
        await _until(pool.began + due)
        pool.fire()
        if pool._next % 32 == 0:  # answers are read also where it is late
            await asyncio.sleep(0)
    await pool.settle()
    if honest:
        ended, late = await asyncio.wait(honest, timeout=plan.patience)
        failed = [one for one in ended if one.exception()]  # who found no connection, for example
        pool.result.honest += [Honest(0, math.inf, 0, []) for _ in (*late, *failed)]
    pool.result.cpu = time.process_time()
    return pool.result


def main() -> None:
    """Reads a plan, runs it, writes what came of it."""
    plan = Plan(**json.load(sys.stdin))
    raise_limit()
    if sys.platform == "win32":
        found = asyncio.run(_run(plan))
    else:
        import uvloop

        found = uvloop.run(_run(plan))
    rows = [[one.at, one.took, one.status, one.retry_after, one.retry_after_exactly] for one in found.sent]
    json.dump({**asdict(found), "sent": rows}, sys.stdout)


if __name__ == "__main__":
    main()
