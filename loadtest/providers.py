"""Another build of ONNX Runtime, with another execution provider for CPUs, beside the server's own session.

    python -m venv .venv-openvino && .venv-openvino/bin/pip install onnxruntime-openvino openvino numpy
    python -m loadtest.providers BUNDLE [BUNDLE …] --python .venv-openvino/bin/python

The wheels of ONNX Runtime exclude each other, so each provider runs in a process and an environment of its own; they
take turns. All run the same batches: rows of 8 to 128 tokens, up to 512 tokens a batch, from as many threads as there
are cores, as the server's executors do. Tokens for each second of CPU time can be compared on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

BUDGET, LENGTHS, BATCHES = 512, (8, 16, 24, 32, 48, 64, 96, 128), 24
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--python", default=sys.executable, help="of the environment with onnxruntime-openvino")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(_measure(options.bundles[0] / "model.onnx", options.worker, options.seconds)))
        return
    _compare(options)


def _compare(options: argparse.Namespace) -> None:
    providers = {"CPUExecutionProvider": sys.executable, "OpenVINOExecutionProvider": options.python}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for bundle in options.bundles:
            for provider, python in providers.items():
                command = [python, __file__, str(bundle), "--worker", provider, "--seconds", str(options.seconds)]
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
                one = json.loads(done.stdout.splitlines()[-1])
                said = f"{one['rate']:,.0f} tokens/s, {one['per_cpu_second']:,.0f} a second of CPU time"
                print(f"{bundle.name}  {provider}  {said}", file=sys.stderr, flush=True)
                found.setdefault((bundle.name, provider), []).append(one)
    vectors = {key: np.array(rounds[0]["vector"]) for key, rounds in found.items()}
    first = next(iter(vectors.values()))
    print("bundle  provider  tokens/s (each round)  tokens/CPU-second (median)  cosine to the first line")
    for (name, provider), rounds in found.items():
        rates = " ".join(f"{one['rate']:,.0f}" for one in rounds)
        vector = vectors[name, provider]
        cosine = vector @ first / np.linalg.norm(vector) / np.linalg.norm(first)
        a_cpu_second = median(one["per_cpu_second"] for one in rounds)
        print(f"{name}  {provider} {rounds[0]['version']}  {rates}  {a_cpu_second:,.0f}  {cosine:.6f}")


def _measure(model: Path, provider: str, seconds: float) -> dict[str, Any]:
    """In the provider's own environment, which has numpy and ONNX Runtime and nothing else."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    settings = {"device_type": "CPU", "num_of_threads": str(CORES), "num_streams": str(CORES)}
    chosen: list[Any] = [(provider, settings)] if provider.startswith("OpenVINO") else [provider]
    session = ort.InferenceSession(str(model), options, providers=chosen, disabled_optimizers=["SkipLayerNormFusion"])
    assert session.get_providers()[0] == provider, session.get_providers()
    names = {one.name for one in session.get_inputs()}
    batches = [{name: batch[name] for name in names} for batch in _batches()]

    def run(batch: dict[str, Any]) -> int:
        session.run(["sentence_embedding"], batch)
        return int(batch["attention_mask"].sum())

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(run, batches))  # every shape once
        begun, used, tokens = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begun < seconds:
            tokens += sum(pool.map(run, batches))
        clock, cpu = time.perf_counter() - begun, time.process_time() - used
    vector = session.run(["sentence_embedding"], batches[0])[0][0]
    return {
        "rate": tokens / clock,
        "per_cpu_second": tokens / cpu,
        "vector": vector.tolist(),
        "version": ort.__version__,
    }


def _batches() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(BATCHES):
        length = int(rng.choice(LENGTHS))
        ids = rng.integers(1000, 20_000, (BUDGET // length, length))
        kinds = {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found.append({"input_ids": ids, **kinds})
    return found


if __name__ == "__main__":
    main()
