"""One execution provider's rate on one graph: `python FILE MODEL_ONNX PROVIDER SECONDS` prints a line of JSON.

It runs in the provider's own environment, which has numpy and ONNX Runtime and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort

BUDGET, LENGTHS, BATCHES = 512, (8, 16, 24, 32, 48, 64, 96, 128), 24
CORES = len(os.sched_getaffinity(0))


def main(model: str, provider: str, seconds: float) -> None:
    """Prints tokens by the clock and by CPU time, the first vector, and the version of ONNX Runtime."""
    session = _session(model, provider)
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
    rates = {"rate": tokens / clock, "per_cpu_second": tokens / cpu}
    print(json.dumps({**rates, "vector": vector.tolist(), "version": ort.__version__}))


def _session(model: str, provider: str) -> Any:
    """Ends the process where this ONNX Runtime has no such provider."""
    if provider not in ort.get_available_providers():
        sys.exit(
            f"the ONNX Runtime of {sys.executable} has no {provider}, but {', '.join(ort.get_available_providers())}"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    settings = {"device_type": "CPU", "num_of_threads": str(CORES), "num_streams": str(CORES)}
    chosen: list[Any] = [(provider, settings)] if provider.startswith("OpenVINO") else [provider]
    return ort.InferenceSession(model, options, providers=chosen, disabled_optimizers=["SkipLayerNormFusion"])


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
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
