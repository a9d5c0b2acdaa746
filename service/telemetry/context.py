"""Under which ids a request is traced, and whether it is recorded: W3C Trace Context, OpenTelemetry's samplers. Pure.

Not the library's, because every request pays for it, also those that are not recorded: this takes a third of the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import getrandbits
from typing import NamedTuple

from service.tracing import Context

Headers = Sequence[tuple[bytes, bytes]]

_FORM = re.compile(rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*")
_SAMPLED, _RANDOM = 1, 2  # flags; that a trace's id is random goes on as it came
_ALL = 1 << 64
_MOST_STATE = 512  # bytes that everybody has to pass on (3.3.1.5)


class Parent(NamedTuple):
    """The caller's span."""

    trace_id: str
    span_id: str
    flags: int


class Sampler(NamedTuple):
    """Keeps traces whose id's last 8 bytes are below `bound`; or what the caller keeps, if that is asked."""

    asks_caller: bool
    bound: int

    def keeps(self, trace_id: str, parent: Parent | None) -> bool:
        """Whether a request is recorded."""
        if self.asks_caller and parent is not None:
            return bool(parent.flags & _SAMPLED)
        return int(trace_id[16:], 16) < self.bound


def sampler(name: str, share: float) -> Sampler:
    """By one of OpenTelemetry's names, and the share of all traces that begin here which it keeps, from 0 to 1."""
    return Sampler(name.startswith("parentbased_"), round(share * _ALL))


def parent_of(headers: Headers) -> Parent | None:
    """By `traceparent`, of which there is one; any other form of it is as none (3.2.2.5, 4.3)."""
    found = [value for name, value in headers if name == b"traceparent"]
    read = _FORM.fullmatch(found[0]) if len(found) == 1 else None
    if read is None:
        return None
    version, trace_id, span_id, flags, rest = read.groups()
    if version == b"ff" or (version == b"00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(trace_id.decode(), span_id.decode(), int(flags, 16))


def state_of(headers: Headers) -> str:
    """What vendors on the way have said: `tracestate`, which may come in several lines. Empty where it is too long."""
    state = b",".join([value for name, value in headers if name == b"tracestate"])
    return state.decode("latin-1") if len(state) <= _MOST_STATE else ""


def context_of(parent: Parent | None, keeps: Sampler) -> Context:
    """A new span's, in the caller's trace or in one that begins here."""
    trace_id = f"{getrandbits(128) or 1:032x}" if parent is None else parent.trace_id
    flags = _RANDOM if parent is None else parent.flags & _RANDOM
    return Context(trace_id, f"{getrandbits(64) or 1:016x}", flags | keeps.keeps(trace_id, parent))
