"""What every benchmark is as a command: how it ends, and what it says on the way."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from service.errors import StartupError
from service.settings import DEFAULT_MODEL

_LEAVING = (signal.SIGTERM, signal.SIGHUP)
RESULTS = Path(__file__).parent / "results"


class MeasurementError(Exception):
    """The figures would mean nothing: an answer was wrong, or was none."""


def run(name: str, work: Callable[[], None]) -> int:
    """Exit status: 0; 1 with a reason; 130 where it was interrupted. SIGTERM and SIGHUP end it by SystemExit, so that
    children are ended on the way out."""
    before = {one: signal.signal(one, lambda got, _: sys.exit(128 + got)) for one in _LEAVING}
    try:
        work()
    except (MeasurementError, StartupError, RuntimeError, OSError) as error:
        say(name, str(error) or repr(error))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    return 0


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """For what must not end halfway: a process that is being started, and that nobody knows of yet who would end it.
    Signals to leave come when the block is over. Of a program's main thread."""
    came: list[int] = []
    before = {one: signal.signal(one, lambda got, _: came.append(got)) for one in (*_LEAVING, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in came:
        signal.raise_signal(number)


def parser(name: str, text: str, examples: str = "", *, model: str = "what to serve") -> argparse.ArgumentParser:
    """With the options that all of them have; `model` says what that is to this one."""
    found = argparse.ArgumentParser(
        prog=f"python -m loadtest.{name}",
        description=text,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--model", default=DEFAULT_MODEL, help=f"{model} (default: %(default)s)")
    words = "options of `embedserve serve`"
    found.add_argument("serve_options", type=_of_one_process, nargs="*", metavar="-- OPTION", help=words)
    return found


def _of_one_process(option: str) -> str:
    if option.partition("=")[0] == "--processes":
        raise argparse.ArgumentTypeError("--processes: what is measured here is one process; see loadtest.processes")
    return option


def add_json(parser: argparse.ArgumentParser) -> None:
    """For the benchmarks that keep their figures."""
    parser.add_argument(
        "--json", type=output, metavar="FILE", help="for every figure (default: a new file in results/)"
    )


def add_rounds(parser: argparse.ArgumentParser, default: int = 3, what: str = "of everything, in turns") -> None:
    """For those that measure everything several times."""
    words = f"{what} (default: %(default)s)"
    parser.add_argument("--rounds", type=number(int, 1), metavar="N", default=default, help=words)


def add_seconds(parser: argparse.ArgumentParser, default: float, what: str) -> None:
    """How long something is measured."""
    words = f"{what} (default: %(default)g)"
    parser.add_argument("--seconds", type=number(float, 0.1), metavar="N", default=default, help=words)


def add_locust(parser: argparse.ArgumentParser) -> None:
    """For those that send users."""
    words = "where it is; make puts one into .venv-load/bin (default: %(default)s, on the PATH)"
    parser.add_argument("--locust", default="locust", metavar="PROGRAM", help=words)


def number(kind: type[int] | type[float], least: float = 0) -> Callable[[str], float]:
    """For argparse: one of that kind, not below `least`, and finite."""

    def parse(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text} is not a {what} of {least:g} or more")
        return value

    return parse


def results_file(given: Path | None, name: str, suffix: str = ".json") -> Path:
    """`given`, or a new one in results/. To be asked for before anything is measured: raises OSError where it could not
    be written."""
    return writable(given or RESULTS / time.strftime(f"{name}-%Y%m%d-%H%M%S{suffix}"))


def writable(path: Path) -> Path:
    """The same, in a folder that is there. Raises OSError where it cannot be written; leaves no file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    path.open("a").close()
    if is_new:
        path.unlink()
    return path


def output(name: str) -> Path:
    """For argparse: a file to write at the end, refused at once where it cannot be."""
    try:
        return writable(Path(name))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be written: {error}") from None


@contextlib.contextmanager
def needing(packages: str) -> Iterator[None]:
    """Around imports that not every environment can do: ends the program with a line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"there is no module {error.name}: pip install '{packages}'")


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """For argparse: names separated by commas, each of them known."""
    names = list(known)

    def parse(value: str) -> list[str]:
        found = value.split(",")
        if unknown := set(found) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: none of {', '.join(names)}")
        return found

    return parse


def say(name: str, line: str) -> None:
    """On stderr, at once."""
    print(f"{name}: {line}", file=sys.stderr, flush=True)
