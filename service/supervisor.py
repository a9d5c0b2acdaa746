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
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import service
from service import channel
from service.channel import ADMIN, ASKED, CLIENT, CLOSED, END, LEAVE, READY, REPLACE, STARTING, WAITING, Membership
from service.doors import Doors, open_doors, queued
from service.errors import StartupError
from service.ledger import Ledger
from service.logs import configure, event, finish
from service.open_files import raise_limit
from service.settings import Settings

_TICK = 0.1  # seconds from one look at the processes to the next
_SILENT_TICKS = 30  # from which on others are preferred: every second a process says how it is
_MANY = 64  # connections taken before others get their turn
# What is started anew: at once when it has served for so long, and else after a while that doubles.
_PROVED_SECONDS = 60.0
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0
# Until a process that asks for it is replaced: a signal to all of them, whoever has it first, is this one's to heed.
_REPLACE_SECONDS = 0.5
# Beside the time to drain, until a process that should have ended is killed.
_PATIENCE = 20.0
_LAST_SECONDS = 5.0  # at the end, until everybody has taken what was still queued
# They run what this one runs, wherever that was started; an installed package stays behind the standard library.
_START = """\
import sys
here = {!r}
if here not in sys.path:
    sys.path.insert(0, here)
from service.start import main
sys.exit(main())
"""


def restart_delay(delay: float, served: float) -> tuple[float, float]:
    """Seconds until one that has ended is started anew, having been ready for `served` seconds, and the `delay` to give
    the next time."""
    if served > _PROVED_SECONDS:
        return 0.0, _FIRST_DELAY
    return delay, min(2 * delay, _LONGEST_DELAY)


@dataclass(slots=True, eq=False)
class Process:
    """One of those that serve, as it is known here."""

    number: int
    child: subprocess.Popen[bytes]
    channel: socket.socket
    connections: int = 0
    state: bytes = b""  # nothing yet
    ready_since: float | None = None  # its first word of that
    silent: int = 0  # ticks since it was heard last
    kill_at: float | None = None  # once it is to end
    knows_end: bool = False
    replace_at: float = 0.0  # where it has said REPLACE

    @property
    def takes_connections(self) -> bool:
        """Whether it will see them."""
        return bool(self.state) and self.kill_at is None


def choose(processes: Iterable[Process]) -> Process | None:
    """Whose is the next connection: of those that are ready and were heard, or else of all that listen, his who has the
    fewest."""
    listening = [one for one in processes if one.takes_connections]
    ready = [one for one in listening if one.state == READY and one.silent < _SILENT_TICKS]
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
    for name in ("admin_keys", "admin_key_file", "model_dir"):
        if getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            reason = (
                f"{flag} and --processes {settings.processes} do not go together: one process alone would load models"
            )
            raise StartupError(reason, "leave one of the two out, or start single processes behind a balancer")
    if not (hasattr(socket, "send_fds") and hasattr(os, "memfd_create")):
        raise StartupError("--processes needs Linux, which hands connections over and shares memory", "leave it out")


class _Supervisor:
    """Owned by the event loop."""

    def __init__(self, settings: Settings, arguments: Sequence[str], doors: Doors) -> None:
        self._settings = settings
        self._arguments = arguments
        self._doors = doors
        self._ledger = Ledger.make()
        self._listeners = [(one, CLIENT) for one in doors.client] + [(one, ADMIN) for one in doors.admin or []]
        self._processes: dict[int, Process] = {}
        self._due = {0: 0.0}  # number → when it is to be started
        self._delay: dict[int, float] = {}
        self._starts = [0] * settings.processes
        self._status = 0
        self._has_served = False  # whether any of them was ever ready: then what fails is not the settings' fault
        self._end_at: float | None = None  # once it is leaving
        self._is_ending = False
        self._is_accepting = False
        self._tell_again_at = 0.0
        self._held: deque[tuple[socket.socket, bytes]] = deque()  # accepted; who is next has not taken what it has

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
            elif process.kill_at is not None:  # what it does then may take longer than from one word to the next
                self._see_off(process, now)
            elif process.state == REPLACE and now > process.replace_at and self._end_at is None:
                self._dismiss(process)
            elif process.state and process.silent * _TICK > self._settings.stall_timeout + 1:
                event(logging.ERROR, "a process says nothing any more, and is killed", process=process.number)
                process.kill_at, process.knows_end = now, True
        if self._end_at is None:
            self._start_due(now)
        elif now >= self._end_at:
            self._end(now)
        self._accept()

    def _start_due(self, now: float) -> None:
        for number in [number for number, due in self._due.items() if now >= due]:
            if self._end_at is None:  # which one that cannot be started may change
                del self._due[number]
                self._start(number, now)

    def _start(self, number: int, now: float) -> None:
        try:
            child, ours = self._spawn(number)
        except OSError as error:  # no memory, no files, no interpreter any more: others go on
            event(logging.ERROR, f"a process cannot be started: {error}", process=number)
            self._due[number] = now + _LONGEST_DELAY
            if not self._has_served:
                self._fail(1, now)
            return
        self._starts[number] += 1
        self._processes[number] = process = Process(number, child, ours)
        self._loop.add_reader(ours, self._hear, process)

    def _spawn(self, number: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """And this one's end of the channel. Raises OSError."""
        ours, theirs = channel.pair()
        with theirs:
            told = Membership(
                theirs.fileno(),
                self._ledger.file,
                number,
                self._settings.processes,
                self._starts[number],
                self._doors.urls,
            )
            command, *arguments = self._arguments
            program = _START.format(str(Path(service.__file__).parents[1]))
            try:
                child = subprocess.Popen(
                    # -P: no folder `service` where it was started is meant.
                    [
                        sys.executable,
                        "-P",
                        "-c",
                        program,
                        command,
                        f"--member={told.write()}",
                        *arguments,
                    ],
                    pass_fds=[theirs.fileno(), self._ledger.file],
                    process_group=0,  # a terminal's Ctrl-C is for this process, which tells the others
                )
            except OSError:
                ours.close()
                raise
        return child, ours

    def _ended(self, process: Process, status: int, now: float) -> None:
        self._loop.remove_reader(process.channel)
        process.channel.close()
        del self._processes[process.number]
        if self._end_at is not None:
            self._status = self._status or _exit_status(status)
        elif self._has_served:
            self._replace(process, status, now)
        else:
            if status <= 0:  # or else it has said why
                event(logging.ERROR, "the first process ended before it served", status=status)
            self._fail(max(status, 1), now)

    def _fail(self, status: int, now: float) -> None:
        self._status, self._end_at = status, now

    def _replace(self, process: Process, status: int, now: float) -> None:
        number = process.number
        served = 0.0 if process.ready_since is None else now - process.ready_since
        delay, self._delay[number] = restart_delay(self._delay.get(number, _FIRST_DELAY), served)
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
                process.state, process.knows_end = b"", True
                process.kill_at = process.kill_at or self._loop.time() + _PATIENCE
            for message in messages:
                self._heed(process, bytes([message]), files)

    def _heed(self, process: Process, message: bytes, files: list[int]) -> None:
        process.silent = 0
        if message == CLOSED:
            process.connections -= 1
        elif message == ASKED:
            self._pass_on(process, files)
        elif message == REPLACE:
            if process.state != REPLACE:
                process.state, process.replace_at = REPLACE, self._loop.time() + _REPLACE_SECONDS
        elif message == STARTING:
            process.state = b""
        elif message in (READY, WAITING):
            process.state = message
            if message == READY and process.ready_since is None:
                self._is_ready(process)
        self._accept()

    def _is_ready(self, process: Process) -> None:
        """The first one has found that all is well, and compiled what had to be; the others follow."""
        process.ready_since, self._has_served = self._loop.time(), True
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
            now = self._loop.time()
            process.kill_at = now + self._settings.drain_timeout + _PATIENCE
            self._see_off(process, now)

    def _see_off(self, process: Process, now: float) -> None:
        """Tells it that it is to end, as soon as it can be told, and kills it when it should have ended."""
        process.knows_end = process.knows_end or self._send(process, LEAVE + END)
        if now > (process.kill_at or 0.0):
            process.child.kill()  # again and again, as one that waits for a device may take its time to die

    # --- connections ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Again, unless somebody has to take what is held first. Called whenever that may have changed."""
        if not self._is_accepting and not self._is_ending and self._hand_over():
            self._is_accepting = True
            for listener, kind in self._listeners:
                self._loop.add_reader(listener, self._take, listener, kind)

    def _pause(self) -> None:
        """Until something is heard, or looked at; the kernel holds what comes."""
        self._is_accepting = False
        for listener, _ in self._listeners:
            self._loop.remove_reader(listener)

    def _take(self, listener: socket.socket, kind: bytes) -> None:
        for _ in range(_MANY):
            if choose(self._processes.values()) is None:
                self._pause()
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # as many files are open as may be
                self._tell_of_refusal(error)
                self._pause()
                return
            self._held.append((connection, kind))
            if not self._hand_over():
                self._pause()
                return

    def _tell_of_refusal(self, error: OSError) -> None:
        """Now and then: it is tried again ten times a second."""
        if (now := self._loop.time()) > self._tell_again_at:
            self._tell_again_at = now + _LONGEST_DELAY
            event(logging.ERROR, f"connections wait, as none can be accepted: {error.strerror}")

    def _hand_over(self) -> bool:
        """Whether all that is held was taken."""
        while self._held:
            connection, kind = self._held[0]
            if not self._give(connection, kind):
                return False
            self._held.popleft()
            connection.close()
        return True

    def _give(self, connection: socket.socket, kind: bytes) -> bool:
        """To the next best where one has not taken what it was given before."""
        left = list(self._processes.values())
        while (process := choose(left)) is not None:
            if self._send(process, kind, [connection.fileno()]):
                process.connections += 1
                return True
            left.remove(process)
        return False

    # --- the end ----------------------------------------------------------------------------------------------

    def _leave(self, number: int) -> None:
        if self._end_at is not None:
            if number == signal.SIGINT:
                self._kill_all()
            return
        is_serving = any(one.ready_since for one in self._processes.values())
        if number == signal.SIGINT and not is_serving:
            self._status = 130  # as a process alone says it
        self._end_at = self._loop.time() + (self._settings.drain_grace if is_serving else 0.0)
        for process in self._processes.values():
            if not (process.state and self._send(process, LEAVE)):
                process.child.terminate()  # it does not listen yet, and has nothing to finish

    def _kill_all(self) -> None:
        self._status = 130
        for process in self._processes.values():
            process.child.kill()
        self._close_listeners()

    def _end(self, now: float) -> None:
        """Nobody can connect any more, and who has is somebody's."""
        if not self._is_ending:
            self._close_listeners()
        if self._hand_over() or now > (self._end_at or 0.0) + _LAST_SECONDS:
            if self._held:
                event(logging.WARNING, "connections were closed, as no process took them", connections=len(self._held))
                self._held.clear()
            for process in self._processes.values():
                self._dismiss(process)

    def _close_listeners(self) -> None:
        """What the kernel has accepted is held."""
        self._is_ending = True
        for listener, kind in self._listeners:
            self._loop.remove_reader(listener)
            self._held.extend((connection, kind) for connection in queued(listener))
            listener.close()


def _exit_status(status: int) -> int:
    """At the end: SIGTERM ends at once what had nothing to finish, any other signal is a failure."""
    if status == -signal.SIGTERM:
        return 0
    return status if status >= 0 else 1
