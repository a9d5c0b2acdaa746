"""Where the command `embedserve` begins: a container's first process takes SIGTERM before anything slow is imported."""

from __future__ import annotations

import os
import signal


def main() -> int:
    """As service.cli's. The kernel drops signals that process 1 has no handler for: SIGTERM during a start would be
    lost, and the container killed when its time is over."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _exit)
    from service.cli import main as command

    return command()


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)
