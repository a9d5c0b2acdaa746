"""A server whose encoder takes so many milliseconds a token, as a device of its own would, whatever else the machine
has to do: `python -m loadtest.paced_server MILLISECONDS serve …`. Its vectors mean nothing.

All else is the service itself: HTTP, tokenising, queue, batches, admission, metrics.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.null_bundle import write_null_bundle
from loadtest.server import Server, running
from service import cli
from service.runtime.session import Session


@contextlib.contextmanager
def paced_server(source: Path, milliseconds: float, serve_options: Sequence[str]) -> Iterator[Server]:
    """Of a model with the tokenizer of `source`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMBEDSERVE_", "AIP_"))}
    with tempfile.TemporaryDirectory(prefix="embedserve-paced-") as folder:
        write_null_bundle(source, Path(folder))
        command = [sys.executable, "-m", "loadtest.paced_server", str(milliseconds), "serve", folder, "--port", "0"]
        with running([*command, *serve_options], environment | {"EMBEDSERVE_ACCESS_LOG": "false"}) as server:
            yield server


def pace(milliseconds: float) -> None:
    """From now on every run takes so long for each token of its batch, padding counted."""
    run = Session.run

    def paced(self: Session, outputs: list[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        end = time.perf_counter() + feeds["input_ids"].size * milliseconds / 1e3
        results = run(self, outputs, feeds)
        time.sleep(max(0.0, end - time.perf_counter()))
        return results

    Session.run = paced  # type: ignore[method-assign]


if __name__ == "__main__":
    pace(float(sys.argv[1]))
    sys.exit(cli.main(sys.argv[2:]))
