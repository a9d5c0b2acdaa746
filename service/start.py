"""Where the command `embedserve` begins: it knows what signals mean before anything slow is imported."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import NoReturn


def main() -> int:
    """As service.cli's. A server that does not serve yet has nothing to finish: SIGTERM ends it with 0, as it does
    later, and SIGINT with 130. Other commands need a handler as process 1, as the kernel drops signals without one."""
    if sys.argv[1:2] == ["serve"]:
        # numpy's own would wait for work in a loop for a tenth of a second, on a core that loads the model by then.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        _end(signal.SIGTERM, 0)
        _end(signal.SIGINT, 130)
    elif os.getpid() == 1:
        signal.signal(signal.SIGTERM, _raise)
    from service.cli import main as command

    return command()


def _end(number: signal.Signals, status: int) -> None:
    """At once: an exception in the midst of an import becomes another one, of a package that is missing."""
    if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell's script
        signal.signal(number, partial(_exit, status))


def _exit(status: int, _: int, __: object) -> NoReturn:
    os._exit(status)


def _raise(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
