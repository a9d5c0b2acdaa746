"""What `helm test` runs, beside real servers. Its values come from templates/tests/smoke.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from deploy.chart_schema import CHART
from tests.certificates import Files
from tests.conftest import StartServer
from tests.e2e.process import DIMENSIONS, PATIENCE, Server
from tests.models.kinds import NAMES, bundles_of

KEY = "a-key-of-a-client-that-tests"


def smoke(address: str, **told: str) -> tuple[int, str]:
    """Exit status, and everything it says."""
    script = (CHART / "files" / "smoke.py").read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "ADDRESS": address, **told},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"), trustme.CA())


@pytest.fixture(scope="module")
def locked(launch: StartServer, certificate: Files, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """By HTTPS and for clients with a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    return launch(*certificate.flags, "--api-key-file", str(keys))


def test_a_vector_is_what_it_asks_for(server: Server) -> None:
    status, said = smoke(server.url)
    assert status == 0, said
    assert f"{DIMENSIONS} numbers" in said


@pytest.mark.parametrize("kind", NAMES)
def test_every_kind_of_model_is_asked_for_what_it_gives(kind: str, launch: StartServer, tmp_path: Path) -> None:
    status, said = smoke(launch(model=bundles_of([kind], tmp_path)[kind]).url)
    assert status == 0, said
    assert " numbers, the first" in said


def test_any_other_refusal_is_told(launch: StartServer) -> None:
    status, said = smoke(launch("--max-body-bytes", "5").url)
    assert status == 1
    assert "answered 413" in said


def test_a_refusal_where_there_should_be_none(locked: Server, certificate: Files) -> None:
    status, said = smoke(locked.url, CERTIFICATE=str(certificate.certificate))
    assert status == 1
    assert "answered 401" in said


def test_a_refusal_where_keys_are_required(locked: Server, certificate: Files) -> None:
    status, said = smoke(locked.url, CERTIFICATE=str(certificate.certificate), KEYS="required")
    assert status == 0, said
    assert "refused without a key" in said


def test_a_key_and_the_servers_own_certificate(locked: Server, certificate: Files) -> None:
    told = {"CERTIFICATE": str(certificate.certificate), "KEYS": "required"}
    status, said = smoke(locked.url, API_KEY=KEY, **told)
    assert status == 0, said
    assert f"{DIMENSIONS} numbers" in said
    assert smoke(locked.url, API_KEY="another", **told)[0] == 1


def test_another_servers_certificate(locked: Server, tmp_path: Path) -> None:
    other = Files(tmp_path, trustme.CA())
    status, said = smoke(locked.url, CERTIFICATE=str(other.certificate), API_KEY=KEY)
    assert status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_nobody_there() -> None:
    status, said = smoke("http://127.0.0.1:1")
    assert status == 1
    assert "refused" in said
    assert "are its pods ready?" in said
    assert "Traceback" not in said
