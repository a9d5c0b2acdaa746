"""`python -m loadtest.stages`: where the microseconds of a short request go, by stage, from py-spy's samples.

A sample's stage is that of its innermost frame that belongs to one: what a stage calls counts as its own. py-spy looks
at whoever holds the interpreter's lock, because on one core a thread that only waits for its turn looks busy too; where
nobody does, the time is the system's or the runtime's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path

from loadtest import client, command
from loadtest.client import Job
from loadtest.command import MeasurementError
from loadtest.generator import checked
from loadtest.null_bundle import null_server
from loadtest.pinning import cores, on_cores
from loadtest.report import aligned
from loadtest.server import Server, find_bundle
from loadtest.texts import SINGLES, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

_TEXTS = 4_000
_CONNECTIONS = 64
_RATE = 250  # samples per second
_BEGIN_LIMIT = 30.0  # seconds until a load must have begun
_OTHER = "event loop, Python itself"
_OUTSIDE = "outside Python: system calls, runtime"

# (stage, what one of its frames begins with or ends with: "function (file"), the first that fits.
_STAGES: Sequence[tuple[str, Sequence[str]]] = (
    ("write the reply to the socket", ("Exchange.reply (",)),
    ("read and parse HTTP", ("(service/protocol.py", "(uvicorn/protocols/")),
    ("JSON body → fields", ("Call.parse (", "(pydantic/", "(service/api/openai_fields.py")),
    ("text → ids", ("(service/tokenizer.py", "(service/words.py")),
    ("vectors → JSON", ("_body (", "_encode (", "(service/api/wire.py", "(service/postprocess.py")),
    (
        "metrics, log line",
        (
            *("Call.count (", "_observe (", "(service/metrics.py", "(service/tallies.py", "(service/logs.py"),
            *("(service/tracing.py", "(service/telemetry/", "(service/api/traced.py"),
        ),
    ),
    (
        "route, request id, key, headers",
        ("(service/api/", "(service/app.py", "(service/registry.py", "(service/spending.py", "(service/rate_limits.py"),
    ),
    (
        "rules, chunks, result",
        ("(service/pipeline.py", "(service/reader.py", "(service/long_input.py", "(service/chunking.py"),
    ),
    ("batch → runtime (null encoder)", ("(service/encoder.py", "(service/runtime/")),
    (
        "queue, batches, threads",
        (
            *("(service/batch", "(service/executors.py", "(service/queueing.py", "(service/packing.py"),
            *("(service/scheduling.py", "(service/waiting.py", "(service/cache.py"),
        ),
    ),
)

_HELP = """\
The server has one core, a bundle whose encoder costs nothing, and 64 connections with a text of 8-24 tokens each. Its
CPU time for a request is measured without a profiler; shares of it are those of py-spy's samples
(pip install 'embedserve[loadtest]'). The server must have been busy all the time, and only what is a percent or more
means something.
"""

_say = partial(command.say, "stages")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("stages", lambda: _measure(options))


def stage_of(stack: str) -> str:
    """`stack` as py-spy writes one: frames from the outermost to the innermost, `function (file:line)` each."""
    for frame in reversed(stack.split(";")):
        for stage, marks in _STAGES:
            if any(frame.startswith(mark) if mark.endswith(" (") else mark in frame for mark in marks):
                return stage
    return _OTHER


def shares(lines: Iterable[str], looks: int) -> dict[str, float]:
    """Of all times py-spy looked, by stage; the largest first. Raises MeasurementError where it saw nothing."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counts[stage_of(stack)] += int(count)
    if not counts:
        raise MeasurementError("py-spy has taken no samples")
    counts[_OUTSIDE] = max(0, looks - counts.total())
    return {stage: count / counts.total() for stage, count in counts.most_common() if count}


def _measure(options: argparse.Namespace) -> None:
    program = _py_spy()
    source = find_bundle(options.model, _say)
    texts = Texts(Tokenizer(source / TOKENIZER_JSON), SEED).draw(_TEXTS, SINGLES)
    bodies = [body_of([text], "base64") for text in texts]
    with (
        tempfile.TemporaryDirectory(prefix="embedserve-stages-") as folder,
        null_server(source, options.serve_options) as server,
        on_cores(cores()[1:]),
    ):
        found, microseconds = _profile(program, server, bodies, options.seconds, Path(folder, "samples"))
    print("\n".join(aligned([["stage", "share", "µs"], *_rows(found, microseconds)])))
    if options.svg:
        options.svg.write_text(svg(found, microseconds), "utf-8")


def _profile(
    program: str, server: Server, bodies: Sequence[str], seconds: float, samples: Path
) -> tuple[Mapping[str, float], float]:
    """Shares of stages, and the CPU time of a request."""
    tokens = [0] * len(bodies)
    job = Job(server.host, server.port, PATH, _CONNECTIONS, seconds, bodies, tokens, server_pid=server.pid)
    plain = checked(client.run(job))
    microseconds = plain.server_microseconds
    _say(f"{microseconds:.0f} µs a request; now with py-spy")
    with client.Generator(replace(job, seconds=seconds + 2)) as load:
        _until_busy(server)
        with _sampling(program, server.pid, seconds, samples):
            checked(load.result())
    return shares(samples.read_text("utf-8").splitlines(), round(seconds) * _RATE), microseconds


def _until_busy(server: Server) -> None:
    """Until the load has begun: looks at a server that waits would count as time outside of Python. Raises
    MeasurementError."""
    before, give_up = server.counters()["batch_rows_count"], time.monotonic() + _BEGIN_LIMIT
    while server.counters()["batch_rows_count"] == before:
        if time.monotonic() > give_up:
            raise MeasurementError(f"the load did not begin within {_BEGIN_LIMIT:g} s")
        time.sleep(0.05)


def _py_spy() -> str:
    """The program. Raises MeasurementError where it is not installed."""
    found = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        raise MeasurementError("py-spy is not installed; pip install 'embedserve[loadtest]'")
    return found


@contextlib.contextmanager
def _sampling(program: str, pid: int, seconds: float, target: Path) -> Iterator[None]:
    what = ["--pid", str(pid), "--duration", str(round(seconds)), "--rate", str(_RATE)]
    process = subprocess.Popen(
        [program, "record", "--gil", *what, "--format", "raw", "--output", str(target)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield
        _, said = process.communicate(timeout=seconds + 60)
        if process.returncode:
            raise MeasurementError(f"py-spy failed: {said.strip()}")
    finally:
        process.kill()
        process.wait()


def _rows(found: Mapping[str, float], microseconds: float) -> Iterator[list[str]]:
    for stage, share in found.items():
        yield [stage, f"{share:.1%}", f"{share * microseconds:.0f}"]
    yield ["in all", "", f"{microseconds:.0f}"]


_ROW, _LABELS, _WIDE, _TOP = 22, 240, 720, 46


def svg(found: Mapping[str, float], microseconds: float) -> str:
    """Bars, one a stage."""
    height = _TOP + _ROW * len(found) + 12
    scale = (_WIDE - _LABELS - 90) / max(found.values())
    title = f"CPU of a short request with an encoder that costs nothing: {microseconds:.0f} µs on one core"
    bars = []
    for i, (stage, share) in enumerate(found.items()):
        y, width = _TOP + _ROW * i, share * scale
        bars += [
            f'<text x="{_LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(stage)}</text>',
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_ROW - 6}" fill="#4a7fb5"/>',
            f'<text x="{_LABELS + width + 6:.1f}" y="{y + 13}">{share * microseconds:.0f} µs · {share:.0%}</text>',
        ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}" font-family="sans-serif" '
            'font-size="12">',
            f'<rect width="{_WIDE}" height="{height}" fill="#fff"/>',
            f'<text x="12" y="24" font-size="14" font-weight="bold">{escape(title)}</text>',
            *bars,
            "</svg>\n",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("stages", _HELP, model="whose tokenizer is used")
    command.add_seconds(parser, 10.0, "of each of two loads")
    parser.add_argument("--svg", type=command.output, metavar="FILE", help="also draw it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
