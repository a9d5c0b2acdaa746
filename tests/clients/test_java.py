"""Java's own HTTP client, on which its SDKs are built."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.clients.environments import RUN_SECONDS, SCRIPTS
from tests.clients.matrix import Record
from tests.conftest import Golden
from tests.e2e.process import Server

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")]


def test_java_net_http(server: Server, golden: Golden, record: Record) -> None:
    chosen = [0, 1, 2, 3]
    bodies = [json.dumps({"input": golden.texts[i]}) for i in chosen]
    command = ["java", str(SCRIPTS / "JavaClient.java"), server.url, *bodies]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
    replies = json.loads(done.stdout)
    vectors = np.array([reply["data"][0]["embedding"] for reply in replies], dtype=np.float32)
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    found = re.search(r'"([^"]+)"', version)
    record("java.net.http", found[1] if found else "?", "/v1/embeddings", vectors, golden.vectors[chosen])
