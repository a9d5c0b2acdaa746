"""Several processes behind one port: this one accepts connections, hands each to the process that has the fewest, and
starts anew what ends.

It serves nothing itself. A connection that the kernel gave to whoever asked first, or by a hash of its address, would
often be one too many for a process that has others, and lost with a process that ends before it is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import service
from service import channel
from service.channel import ADMIN, ASKED, CLIENT, CLOSED, END, LEAVE, READY, REPLACE, WAITING
from service.doors import Doors, open_doors, queued
from service.errors import StartupError
from service.logs import configure, event, finish
from service.member import Membership
from service.open_files import raise_limit
from service.settings import Settings

_TICK = 0.1  # seconds from one look at the processes to the next
_BUSY_SECONDS = 0.05  # until connections are accepted again that nobody could take
_MANY = 64  # connections taken before others get their turn
# What is started anew: at once when it has served for so long, and else after a while that doubles.
_PROVED_SECONDS = 60.0
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0
# Beside the time to drain, until a process that should have ended is killed.
_PATIENCE = 15.0
_START = "import sys; from service.start import main; sys.exit(main())"


@dataclass(slots=True, eq=False)
class Process:
    """One of those that serve, as it is known here."""

    number: int
    child: subprocess.Popen[bytes]
    channel: socket.socket
    started: float
    connections: int = 0
    state: bytes = b""  # nothing yet
    was_ready: bool = False
    silent: int = 0  # ticks since it was heard last
    kill_at: float | None = None  # once it is to end

    @property
    def takes_connections(self) -> bool:
        """Whether it will see them."""
        return bool(self.state) and self.kill_at is None


def choose(processes: Iterable[Process]) -> Process | None:
    """Whose is the next connection: of those that are ready, or else of all that listen, his who has the fewest."""
    listening = [one for one in processes if one.takes_connections]
    ready = [one for one in listening if one.state == READY]
    return min(ready or listening, key=lambda one: one.connections, default=None)


def supervise(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; gives the exit status. `arguments` are those of this process's own command. Raises
    StartupError."""
    _refuse_what_is_not_shared(settings)
    configure(settings.log_level, settings.log_format)
    try:
        raise_limit()
        return asyncio.run(_Supervisor(settings, arguments, open_doors(settings)).run())
    finally:
        finish()


def _refuse_what_is_not_shared(settings: Settings) -> None:
    for name in ("requests_per_minute", "tokens_per_minute", "admin_keys", "admin_key_file", "model_dir"):
        if getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            reason = f"{flag} and --processes {settings.processes} do not go together: each process would keep its own"
            raise StartupError(reason, "leave one of the two out, or start single processes behind a balancer")
    if not hasattr(socket, "send_fds"):
        raise StartupError("--processes needs a system that hands connections over", "leave it out")


class _Supervisor:
    """Owned by the event loop."""

    def __init__(self, settings: Settings, arguments: Sequence[str], doors: Doors) -> None:
        self._settings = settings
        self._arguments = arguments
        self._doors = doors
        self._listeners = [(one, CLIENT) for one in doors.client] + [(one, ADMIN) for one in doors.admin or []]
        self._processes: dict[int, Process] = {}
        self._due = {0: 0.0}  # number → when it is to be started
        self._delay: dict[int, float] = {}
        self._starts = [0] * settings.processes
        self._status = 0
        self._end_at: float | None = None  # once it is leaving
        self._is_ending = False
        self._is_accepting = False

    async def run(self) -> int:
        """The exit status."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave, number)
        while True:
            self._look()
            if self._is_ending and not self._processes:
                return self._status
            await asyncio.sleep(_TICK)

    # --- processes --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self._loop.time()
        for process in list(self._processes.values()):
            process.silent += 1
            if process.child.poll() is not None:
                self._ended(process, process.child.returncode, now)
            elif process.kill_at is not None and now > process.kill_at:
                process.child.kill()
            elif process.state and process.silent * _TICK > self._settings.stall_timeout + 1:
                event(logging.ERROR, "a process says nothing any more, and is killed", process=process.number)
                process.child.kill()
        if self._end_at is None:
            for number in [number for number, due in self._due.items() if now >= due]:
                del self._due[number]
                self._start(number, now)
        elif now >= self._end_at and not self._is_ending:
            self._end()

    def _start(self, number: int, now: float) -> None:
        ours, theirs = channel.pair()
        told = Membership(theirs.fileno(), number, self._settings.processes, self._starts[number], self._doors.urls)
        self._starts[number] += 1
        child = subprocess.Popen(
            [sys.executable, "-c", _START, *self._arguments, f"--member={told.write()}"],
            env=os.environ | {"PYTHONPATH": _with_this_project(os.environ.get("PYTHONPATH"))},
            pass_fds=[theirs.fileno()],
            process_group=0,  # a terminal's Ctrl-C is for this process, which tells the others
        )
        theirs.close()
        self._processes[number] = process = Process(number, child, ours, now)
        self._loop.add_reader(ours, self._hear, process)

    def _ended(self, process: Process, status: int, now: float) -> None:
        self._loop.remove_reader(process.channel)
        process.channel.close()
        del self._processes[process.number]
        if self._end_at is not None:
            self._status = self._status or _exit_status(status)
        elif process.was_ready or any(one.was_ready for one in self._processes.values()):
            self._replace(process, status, now)
        else:  # it has said why
            self._status = max(status, 1)
            self._end_at = now

    def _replace(self, process: Process, status: int, now: float) -> None:
        number, proved = process.number, now - process.started > _PROVED_SECONDS
        delay = 0.0 if proved else self._delay.get(number, _FIRST_DELAY)
        self._delay[number] = min(2 * delay or _FIRST_DELAY, _LONGEST_DELAY)
        self._due[number] = now + delay
        event(logging.WARNING, "a process has ended, and is started anew", process=number, status=status, seconds=delay)

    def _send(self, process: Process, message: bytes, files: Sequence[int] = ()) -> bool:
        """Whether it can be told."""
        try:
            channel.send(process.channel, message, files)
        except OSError:
            return False
        return True

    # --- what they say ----------------------------------------------------------------------------------------

    def _hear(self, process: Process) -> None:
        with suppress(OSError):
            messages, files = channel.receive(process.channel)
            if not messages:  # it has ended, or is about to
                self._loop.remove_reader(process.channel)
                process.state = b""
            for message in messages:
                self._heed(process, bytes([message]), files)

    def _heed(self, process: Process, message: bytes, files: list[int]) -> None:
        process.silent = 0
        if message == CLOSED:
            process.connections -= 1
        elif message == ASKED:
            self._pass_on(process, files)
        elif message == REPLACE:
            self._dismiss(process)
        elif message in (READY, WAITING):
            process.state = message
            if message == READY and not process.was_ready:
                self._is_ready(process)
            self._accept()

    def _is_ready(self, process: Process) -> None:
        """The first one has found that all is well, and compiled what had to be; the others follow."""
        process.was_ready = True
        self._due |= {number: 0.0 for number in range(self._settings.processes) if not self._starts[number]}

    def _pass_on(self, asking: Process, files: list[int]) -> None:
        others = [one for one in self._processes.values() if one is not asking and one.takes_connections]
        for process, file in zip(others, files, strict=False):
            self._send(process, ASKED, [file])
        for file in files:
            os.close(file)

    def _dismiss(self, process: Process) -> None:
        """It finishes what it has, and another one takes its place."""
        if process.kill_at is None:
            if not self._is_ending:
                event(logging.WARNING, "a process is stuck, or was told to end; it finishes", process=process.number)
            process.kill_at = self._loop.time() + self._settings.drain_timeout + _PATIENCE
            self._send(process, LEAVE + END)

    # --- connections ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        if not self._is_accepting and not self._is_ending:
            self._is_accepting = True
            for listener, kind in self._listeners:
                self._loop.add_reader(listener, self._take, listener, kind)

    def _pause(self) -> None:
        """Until somebody says something, or a moment has passed; the kernel holds what comes."""
        self._is_accepting = False
        for listener, _ in self._listeners:
            self._loop.remove_reader(listener)
        self._loop.call_later(_BUSY_SECONDS, self._accept)

    def _take(self, listener: socket.socket, kind: bytes) -> None:
        for _ in range(_MANY):
            if choose(self._processes.values()) is None:
                self._pause()
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # as many files are open as may be
                self._pause()
                return
            with connection:
                self._hand_over(connection, kind)

    def _hand_over(self, connection: socket.socket, kind: bytes) -> None:
        """To the next best where one has not taken what it was given before."""
        left = list(self._processes.values())
        while (process := choose(left)) is not None:
            if self._send(process, kind, [connection.fileno()]):
                process.connections += 1
                return
            left.remove(process)
        event(logging.WARNING, "a connection was closed, as no process takes any")

    # --- the end ----------------------------------------------------------------------------------------------

    def _leave(self, number: int) -> None:
        if self._end_at is not None:
            if number == signal.SIGINT:
                self._kill_all()
            return
        is_serving = any(one.was_ready for one in self._processes.values())
        self._end_at = self._loop.time() + (self._settings.drain_grace if is_serving else 0.0)
        for process in self._processes.values():
            if not (process.state and self._send(process, LEAVE)):
                process.child.terminate()  # it does not listen yet, and has nothing to finish

    def _kill_all(self) -> None:
        self._status = 130
        for process in self._processes.values():
            process.child.kill()
        self._is_ending = True

    def _end(self) -> None:
        """What the kernel holds is handed over before."""
        self._is_ending = True
        for listener, kind in self._listeners:
            self._loop.remove_reader(listener)
            for connection in queued(listener):
                with connection:
                    self._hand_over(connection, kind)
            listener.close()
        for process in self._processes.values():
            self._dismiss(process)


def _exit_status(status: int) -> int:
    """At the end: SIGTERM ends at once what had nothing to finish, any other signal is a failure."""
    if status == -signal.SIGTERM:
        return 0
    return status if status >= 0 else 1


def _with_this_project(path: str | None) -> str:
    """For PYTHONPATH: the processes run what this one runs, wherever it was started."""
    here = str(Path(service.__file__).parents[1])
    return os.pathsep.join([here, *([path] if path else [])])
