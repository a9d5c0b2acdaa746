"""Another build of ONNX Runtime, with another execution provider for CPUs, beside the server's own session.

    python -m venv .venv-openvino && .venv-openvino/bin/pip install onnxruntime-openvino openvino numpy
    python -m loadtest.providers BUNDLE [BUNDLE …] --python .venv-openvino/bin/python

The wheels of ONNX Runtime exclude each other, so each provider runs in a process and an environment of its own
(provider_worker.py); they take turns. All run the same batches: rows of 8 to 128 tokens, up to 512 tokens a batch, from
as many threads as there are cores, as the server's executors do. Tokens for each second of CPU time can be compared on
a busy machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from loadtest import command
from loadtest.command import MeasurementError
from loadtest.peers.environments import run
from loadtest.report import aligned
from service.bundle import MODEL_ONNX, is_bundle

_WORKER = Path(__file__).with_name("provider_worker.py")
_AROUND = 120.0  # seconds that a process may take beside its measuring

Rounds = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""By bundle and provider: what the worker said."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("providers", lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    for bundle in options.bundles:
        if not is_bundle(bundle):
            raise MeasurementError(f"{bundle} is no bundle: `embedserve compile` makes one")
    providers = {"CPUExecutionProvider": sys.executable, "OpenVINOExecutionProvider": options.python}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for bundle in options.bundles:
            for provider, python in providers.items():
                worker = [python, str(_WORKER), str(bundle / MODEL_ONNX), provider, str(options.seconds)]
                one = json.loads(run(worker, options.seconds + _AROUND).splitlines()[-1])
                said = f"{one['rate']:,.0f} tokens/s, {one['per_cpu_second']:,.0f} a second of CPU time"
                command.say("providers", f"{bundle.name}, {provider}: {said}")
                found.setdefault((str(bundle), provider), []).append(one)
    print(_table(found))


def _table(found: Rounds) -> str:
    rows = [["bundle", "provider", "tokens/s, each round", "tokens/CPU second, median", "cosine to the first line"]]
    first = np.array(next(iter(found.values()))[0]["vector"])
    for (bundle, provider), rounds in found.items():
        vector = np.array(rounds[0]["vector"])
        cosine = vector @ first / np.linalg.norm(vector) / np.linalg.norm(first)
        rates = " ".join(f"{one['rate']:,.0f}" for one in rounds)
        of_cpu = median(one["per_cpu_second"] for one in rounds)
        name = f"{provider} {rounds[0]['version']}"
        rows.append([Path(bundle).name, name, rates, f"{of_cpu:,.0f}", f"{cosine:.6f}"])
    return "\n".join(aligned(rows, left=(0, 1)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.providers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundles", nargs="+", type=Path, metavar="BUNDLE", help="a folder that `embedserve compile` made"
    )
    parser.add_argument("--python", default=sys.executable, help="of the environment with onnxruntime-openvino")
    command.add_rounds(parser)
    command.add_seconds(parser, 6.0, "of each measurement")
    return parser


if __name__ == "__main__":
    sys.exit(main())
