"""Which load generator sends a load, and on which core.

It runs on the last core of those there are. On a machine whose cores are all the server's, nothing is fair to both:
what the generator takes, the server lacks, and the figures show how much it was.
"""

from __future__ import annotations

from loadtest import client, wrk
from loadtest.client import Job, Result
from loadtest.command import MeasurementError
from loadtest.pinning import cores, on_cores


def run(job: Job) -> Result:
    """One load: wrk's where it can count it, else the Python client's. Raises RuntimeError."""
    with on_cores(cores()[-1:]):
        return wrk.run(job) if wrk.available() and not (job.once or job.counts_parts) else client.run(job)


def checked(result: Result, name: str = "") -> Result:
    """The same. Raises MeasurementError where not every answer is a 200."""
    if result.failures:
        where = f"{name}: " if name else ""
        raise MeasurementError(f"{where}not every answer is a 200: {result.failures}, {result.first_failure}")
    return result
