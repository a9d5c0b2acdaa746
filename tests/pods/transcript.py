"""What happened when, for people who read a test that failed and for the documentation."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """`at` is in seconds since the transcript began."""

    at: float
    who: str
    what: str


@dataclass
class Transcript:
    """Written by every thread of the kubelet's."""

    events: list[Event] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, who: str, what: str) -> None:
        """Now."""
        with self._lock:
            self.events.append(Event(time.monotonic() - self._began, who, what))

    def of(self, who: str) -> list[str]:
        """What happened to one, in order."""
        with self._lock:
            return [event.what for event in self.events if event.who == who]

    def __str__(self) -> str:
        with self._lock:
            width = max((len(event.who) for event in self.events), default=0)
            return "\n".join(f"{event.at:7.2f} s  {event.who:{width}}  {event.what}" for event in self.events)
