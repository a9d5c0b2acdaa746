"""The lighter load generator: wrk, which Debian packages, with a script (`wrk.lua`) that sends every body once.

wrk counts whole requests only, and does not show its answers. So it is for requests that are many and short, and the
answers that are to be looked at come from a connection beside it, while it warms the server up. Its percentiles count
what requests late in being sent would have waited (wrk's own correction, by the mean interval of a connection).
"""

from __future__ import annotations

import http.client
import json
import math
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.client import Job, Result, cpu_seconds

_SCRIPT = Path(__file__).with_suffix(".lua")
_PATIENCE = 60  # seconds beyond its time before a load is given up; also, until an answer counts as missing
_WARM_REQUESTS = 4  # a connection: those that warm the server up are sent over and over


def available() -> bool:
    """Whether this machine has it."""
    return shutil.which("wrk") is not None


def run(job: Job) -> Result:
    """One load. Raises RuntimeError where wrk itself failed."""
    with tempfile.TemporaryDirectory(prefix="embedserve-wrk-") as folder:
        measured, warm = Path(folder, "measured"), Path(folder, "warm")
        bodies, warming = _divided(job)
        _write(measured, bodies)
        _write(warm, warming)
        samples = _warmed_up(job, warm) if job.warmup else {}
        before = _clocks(job)
        said = _finish(_start(job, measured, job.seconds), job.seconds)
        after = _clocks(job)
    return _result(job, len(bodies), said, (before, after), samples)


def _divided(job: Job) -> tuple[Sequence[str], Sequence[str]]:
    """Bodies for the load, and some for the time before it: others, unless there are so few that they are meant to come
    again and again."""
    spare = _WARM_REQUESTS * job.connections if job.warmup else 0
    if len(job.bodies) < 2 * spare:
        return job.bodies, job.bodies
    return job.bodies[: len(job.bodies) - spare], job.bodies[len(job.bodies) - spare :]


def _write(path: Path, bodies: Sequence[str]) -> None:
    path.write_text("".join(f"{body}\n" for body in bodies), "utf-8")


def _start(job: Job, bodies: Path, seconds: float) -> subprocess.Popen[str]:
    load = ["-t1", f"-c{job.connections}", f"-d{max(1, math.ceil(seconds))}s", f"--timeout={_PATIENCE}s"]
    url = f"http://{job.host}:{job.port}{job.path}"
    command = ["wrk", *load, f"--script={_SCRIPT}", url, "--", str(bodies)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish(process: subprocess.Popen[str], seconds: float) -> Any:
    """What the script's last line says. Ends the process in any case."""
    try:
        output, _ = process.communicate(timeout=seconds + _PATIENCE)
        return json.loads(output.strip().rpartition("\n")[2])
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"wrk did not end within {seconds + _PATIENCE:.0f} s") from None
    except json.JSONDecodeError:
        raise RuntimeError(f"wrk failed:\n{output.strip()[-2000:]}") from None
    finally:
        process.kill()
        process.wait()


def _warmed_up(job: Job, bodies: Path) -> dict[str, str]:
    """Answers to the sampled bodies, given while the server was busy."""
    process = _start(job, bodies, job.warmup)
    connection = http.client.HTTPConnection(job.host, job.port, timeout=_PATIENCE)
    try:
        return {str(number): _answer(connection, job, job.bodies[number]) for number in job.sampled}
    except OSError as error:
        raise RuntimeError(f"no answer: {error!r}") from None
    finally:
        connection.close()
        _finish(process, job.warmup)


def _answer(connection: http.client.HTTPConnection, job: Job, body: str) -> str:
    connection.request("POST", job.path, body.encode(), {"content-type": "application/json"})
    reply = connection.getresponse()
    content = reply.read().decode("utf-8", "replace")
    if reply.status != 200:
        raise RuntimeError(f"not every answer is a 200: {reply.status}: {content[:500]}")
    return content


def _clocks(job: Job) -> tuple[float, float | None]:
    """CPU time of the processes that were waited for (wrk, between two looks at it), and of the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime, cpu_seconds(job.server_pid)


def _result(
    job: Job,
    count: int,
    said: Any,
    clocks: tuple[tuple[float, float | None], tuple[float, float | None]],
    samples: dict[str, str],
) -> Result:
    answered, seconds = int(said["requests"]), said["duration"] / 1e6
    tokens = sum(job.tokens[number % count] for number in range(answered))  # they were sent in this order
    failures = {name: int(number) for name, number in said["errors"].items() if number}
    (client_before, server_before), (client_after, server_after) = clocks
    return Result(
        requests_per_second=answered / seconds,
        tokens_per_second=tokens / seconds,
        p50=said["p50"] / 1e3,
        p99=said["p99"] / 1e3,
        answered=answered,
        seconds=seconds,
        repeated=max(0, answered + job.connections - count),
        client_cpu=client_after - client_before,
        server_cpu=None if server_before is None or server_after is None else server_after - server_before,
        failures=failures,
        first_failure="wrk's own count; status: answers of 400 and above" if failures else "",
        samples=samples,
        generator="wrk",
    )
