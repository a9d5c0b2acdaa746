"""`make load SHAPE=ramp`: the locust scenarios without a browser, on a server of its own or on any other."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtest import command
from loadtest.command import MeasurementError
from loadtest.server import embedserve, find_bundle
from loadtest.shapes import SECONDS, SHAPES
from loadtest.thresholds import Thresholds
from service.bundle import Bundle, read_bundle
from service.naming import Claim
from service.settings import DEFAULT_MODEL

_HERE = Path(__file__).parent
MIXES = {"usual": _HERE / "locustfile.py", "everyone": _HERE / "everyone.py"}
_PATIENCE = 180.0  # seconds beyond its time until locust is given up: requests in flight may take 65, twice

_HELP = "Searchers, indexers and bursts in two dialects, as many as a shape says:\n\n" + "\n".join(
    f"  {name:<6} {shape.__doc__}" for name, shape in SHAPES.items()
)

_say = partial(command.say, "load")


@dataclass(frozen=True, slots=True)
class Load:
    """What locust is told: a mix of users, how many of them and when, and what they must find."""

    mix: str
    shape: str
    users: int
    seconds: float
    thresholds: Thresholds

    def variables(self) -> dict[str, str]:
        """For the environment of locust."""
        return {
            "EMBEDSERVE_LOAD_SHAPE": self.shape,
            "EMBEDSERVE_LOAD_SECONDS": str(self.seconds),
            "EMBEDSERVE_LOAD_USERS": str(self.users),
            **self.thresholds.variables(),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 where a threshold was missed."""
    options = _parser().parse_args(arguments)
    return command.run("load", lambda: _load(options))


def _load(options: argparse.Namespace) -> None:
    report = command.results_file(options.html, f"load-{options.shape}", ".html")
    program = find_locust(options.locust)
    wished = Thresholds(options.fail_ratio, options.p95_ms, options.min_rps)
    load = Load(options.mix, options.shape, options.users, options.seconds or SECONDS[options.shape], wished)
    with _host(options) as (host, bundle):
        _say(f"{load.shape} of {load.users} users for {load.seconds:g} s on {host}")
        status = run(program, load, host, report, bundle)
    if report.exists():
        print(f"Report: {report}")
    if status:
        raise MeasurementError(f"a threshold was missed, or locust itself failed (its exit status is {status})")


@contextlib.contextmanager
def _host(options: argparse.Namespace) -> Iterator[tuple[str, Bundle | None]]:
    """Its URL, and what it serves where that is known."""
    if options.host:
        yield options.host, None
        return
    folder = find_bundle(options.model, _say)
    with embedserve(folder) as server:
        yield f"http://{server.host}:{server.port}", read_bundle(folder)


def find_locust(name: str) -> str:
    """The program. Raises MeasurementError where there is none."""
    program = shutil.which(name)
    if program is None:
        raise MeasurementError(f"there is no {name}; `make load` installs it into an environment of its own")
    return program


def run(program: str, load: Load, host: str, report: Path, bundle: Bundle | None) -> int:
    """Locust's exit status. Vectors must be those of `bundle`, where it is known. Raises MeasurementError where locust
    does not end."""
    environment = {"PYTHONPATH": str(_HERE.parent), **load.variables(), **(_served(bundle) if bundle else {})}
    arguments = ["-f", str(MIXES[load.mix]), "--headless", "--only-summary", "--host", host, "--html", str(report)]
    process = subprocess.Popen([program, *arguments], env=os.environ | environment)
    try:
        return process.wait(load.seconds + _PATIENCE)
    except subprocess.TimeoutExpired:
        raise MeasurementError("locust did not end in time") from None
    finally:
        process.kill()
        process.wait()


def _served(bundle: Bundle) -> dict[str, str]:
    """What users have to know of a model: its name, and how long its vectors are."""
    name = Claim(None, (), bundle.model_id).own
    return {"EMBEDSERVE_LOAD_MODEL": name, "EMBEDSERVE_BENCH_DIMENSIONS": str(bundle.dimensions)}


def _without_slash(url: str) -> str:
    """Paths bring their own."""
    return url.rstrip("/")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.load", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="ramp", help="(default: %(default)s)")
    parser.add_argument(
        "--mix", choices=MIXES, default="usual", help="usual, or everyone a server may meet (default: %(default)s)"
    )
    parser.add_argument("--users", type=command.number(int, 1), default=32, help="at the peak (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=command.number(float, 1),
        help=f"(default: {', '.join(f'{k} {v:g}' for k, v in SECONDS.items())})",
    )
    parser.add_argument(
        "--host",
        metavar="URL",
        type=_without_slash,
        help="a server that runs (default: one of this command's own)",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what that one serves (default: %(default)s)")
    parser.add_argument(
        "--fail-ratio",
        type=command.number(float),
        default=0.01,
        help="share of requests that may fail (default: %(default)g)",
    )
    parser.add_argument(
        "--p95-ms", type=command.number(float), metavar="MS", help="95 %% of the answers must come as soon"
    )
    parser.add_argument(
        "--min-rps", type=command.number(float), metavar="N", help="so many must be answered in a second"
    )
    parser.add_argument(
        "--html", type=command.output, metavar="FILE", help="the report (default: a new file in results/)"
    )
    command.add_locust(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
