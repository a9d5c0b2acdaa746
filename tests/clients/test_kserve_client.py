"""KServe's own Python client, which speaks V1 and V2 (in binary and in JSON)."""

from __future__ import annotations

import json

import pytest

from tests.clients.environments import Python
from tests.clients.matrix import Record
from tests.conftest import Golden
from tests.e2e.process import MODEL, Server

pytestmark = pytest.mark.heavy

KSERVE = Python("kserve", ("kserve==0.21.0",))
ROUTES = 6


def test_predict_and_infer(server: Server, golden: Golden, record: Record) -> None:
    found = KSERVE.run("kserve_client.py", server.url, MODEL, json.dumps(golden.texts))
    assert found["v1"] == [True, True]  # live, model ready
    assert found["v2"] == [True, True, True]  # live, ready, model ready
    assert len(found["vectors"]) == ROUTES
    for route, vectors in found["vectors"].items():
        record("kserve", found["version"], route, vectors, golden.vectors)
