"""`python -m tests.hostile.fuzz --seconds 300`: spoilt requests to every route of a real server, for as long as asked.

Says how many were sent, what came back, how long the slowest probe of /livez took meanwhile, and how memory went. Ends
with 1 and the first faults where one is found: --seed and --only N send that very request again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from models.compile import compile_checkpoint, find_cached
from service.settings import load_settings
from tests.conftest import PARITY, Golden
from tests.e2e.process import MODEL, Server
from tests.hostile.conftest import KINDS
from tests.hostile.routes import faults_of, routes_of, send_one
from tests.hostile.target import ADMIN_KEY, KEY, Target
from tests.models.kinds import bundles_of, listed

_MOST_FAULTS = 20


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of the one request to send")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = _start(Path(folder))
        try:
            return _fuzz(target, asked.seconds, asked.seed, asked.only)
        finally:
            target.server.stop()


def _fuzz(target: Target, seconds: float, seed: int, only: int | None) -> int:
    routes, statuses, used, faults = routes_of(target), Counter[int](), set[str](), list[str]()
    before, began, number = target.megabytes(), time.monotonic(), only or 0
    with target.watched() as slowest:
        while time.monotonic() < began + seconds and len(faults) < _MOST_FAULTS:
            try:
                sent = send_one(target, routes, random.Random(f"{seed} {number}"))
            except httpx.TransportError as error:
                faults.append(f"request {number}: no answer, {error!r}")
                number += 1
                continue
            statuses[sent.reply.status_code] += 1
            used.add(sent.route.path)
            faults += [f"request {number}: {one}" for one in faults_of(sent)]
            number += 1
            if only is not None:
                break
    took = time.monotonic() - began
    target.assert_well()
    counts = ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))
    print(
        f"{sum(statuses.values())} requests to {len(used)} of {len({one.path for one in routes})} paths in {took:.0f} s"
    )
    print(f"replies: {counts}; faults: {len(faults)}; no input and no key in {len(target.server.logged())} log lines")
    print(f"slowest /livez: {1000 * slowest():.0f} ms; memory: {before:.0f} → {target.megabytes():.0f} MB")
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


def _start(folder: Path) -> Target:
    cache_dir = load_settings().cache_dir
    bundle = find_cached(MODEL, cache_dir=cache_dir) or compile_checkpoint(MODEL, cache_dir=cache_dir, say=print)
    file = folder / "models.toml"
    file.write_text(listed({MODEL: bundle, **bundles_of(KINDS, folder)}))
    (folder / "more").mkdir()
    flags = ["--config", str(file), "--model-dir", str(folder / "more"), "--log-level", "debug", "--port", "0"]
    keys = {"EMBEDSERVE_API_KEYS": KEY, "EMBEDSERVE_ADMIN_KEYS": ADMIN_KEY}
    recorded = np.load(PARITY / f"{MODEL}.npz")
    golden = Golden(json.loads((PARITY / "texts.json").read_text("utf-8")), recorded["vectors"], recorded["tokens"])
    return Target(Server(folder / "output", flags, keys).wait_ready(), golden)


if __name__ == "__main__":
    sys.exit(main())
