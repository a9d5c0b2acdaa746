"""One server for all attacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL
from tests.hostile.target import ADMIN_KEY, KEY, Target
from tests.models.kinds import bundles_of, listed

KINDS = ("reranker", "sparse", "tokens")


@pytest.fixture(scope="session")
def one_target(launch: StartServer, bundle: Path, golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The real model first, then one of each other kind."""
    root = tmp_path_factory.mktemp("hostile")
    file = root / "models.toml"
    file.write_text(listed({MODEL: bundle, **bundles_of(KINDS, root)}))
    (root / "more").mkdir()
    server = launch(
        *("--config", str(file), "--model-dir", str(root / "more"), "--log-level", "debug"),
        no_model=True,
        env={"EMBEDSERVE_API_KEYS": KEY, "EMBEDSERVE_ADMIN_KEYS": ADMIN_KEY},
    )
    return Target(server, golden)


@pytest.fixture(scope="module")
def target(one_target: Target) -> Iterator[Target]:
    """Well and silent after each file of tests."""
    yield one_target
    one_target.assert_well()
