"""What this user may not do is told with what would let it. No mode stops root, who may run tests: so it is thrown."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from service.bundle import is_bundle, read_bundle, verify_files
from service.doors import listen
from service.errors import BundleError, StartupError


def refuse(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_file_of_a_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_bundle(bundle)
    monkeypatch.setattr("service.bundle.sha256_of", refuse)
    with pytest.raises(BundleError, match="cannot be read: Permission denied") as raised:
        verify_files(bundle, found)
    assert raised.value.remedy == f"let the user that serves read it: chmod -R a+rX {bundle}"


def test_the_folder_of_a_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(BundleError) as raised:
        is_bundle(bundle)
    assert raised.value.remedy.endswith(f"chmod -R a+rX {bundle}")


def test_a_port_of_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartupError, match="Permission denied") as raised:
        listen("127.0.0.1", 80, "--admin-")
    assert raised.value.remedy.startswith("pick one above 1023 with --admin-port")
