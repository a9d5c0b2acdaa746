"""Between the process that accepts connections and those that serve them: what a byte on their pair of sockets says.

A byte is a whole message, so that nothing has to be framed, and what was said in a row can be read at once. Open files
travel with a byte (`SCM_RIGHTS`, unix(7)), which is then the last one of a read.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

# To a process that serves; with the first three comes one open file.
CLIENT = b"C"  # a connection to clients' port
ADMIN = b"A"  # one to the other port
ASKED = b"M"  # one on which a sibling asks for metrics
LEAVE = b"L"  # readiness fails; connections that still come are served
END = b"E"  # no more connections come: finish, and end

# From it, beside ASKED with a file for each sibling.
CLOSED = b"-"  # one of the connections above is gone
READY = b"r"  # how it is, every second
WAITING = b"w"
STARTING = b"u"  # it compiles anew what was damaged, and says nothing meanwhile
REPLACE = b"x"  # it is stuck, as /livez would say, or was told to end

_MANY = 4096  # bytes read at once
_MOST_FILES = 250  # SCM_MAX_FD is 253


@dataclass(frozen=True, slots=True)
class Membership:
    """What a process is told at its start: its end of the channel and the ledger's file, which of how many it is, how
    often that one was started anew, and where clients find all of them."""

    channel: int
    ledger: int
    number: int
    count: int
    restarts: int
    urls: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> Self:
        """From `write`'s."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """For a command line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


class Received(NamedTuple):
    """Bytes, none of them at the end of the channel, and the open files that came with the last one."""

    messages: bytes
    files: list[int]


def pair() -> tuple[socket.socket, socket.socket]:
    """Neither of them waits."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setblocking(False)
    return ends


def send(channel: socket.socket, message: bytes, files: Sequence[int] = ()) -> None:
    """Raises BlockingIOError where the other side has not taken what came before, other OSError where it is gone."""
    if files:
        socket.send_fds(channel, [message], list(files))
    else:
        channel.send(message)


def receive(channel: socket.socket) -> Received:
    """Raises BlockingIOError where nothing has come, other OSError where the other side is gone."""
    messages, files, _, _ = socket.recv_fds(channel, _MANY, _MOST_FILES)
    return Received(messages, files)
