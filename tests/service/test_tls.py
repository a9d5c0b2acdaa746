"""What is said of certificates that cannot be used, or will not be."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from service import tls
from service.errors import StartupError
from service.tls import certificates
from tests.certificates import NAMES, Files


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


def lose_the_end(files: Files) -> None:
    """Issues a certificate until the 99th of a December. OpenSSL loads it; clients do not take it."""
    issued = files.authority.issue_cert(*NAMES, not_after=datetime(2031, 12, 30, 23, 59, 59, tzinfo=UTC))
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    assert der.count(b"311230235959Z") == 1
    files.certificate.write_text(ssl.DER_cert_to_PEM_cert(der.replace(b"311230235959Z", b"311299235959Z")))
    files.key.write_bytes(issued.private_key_pem.bytes())


def refusal(files: Files, client_ca: Path | None = None) -> str:
    with pytest.raises(StartupError) as found:
        certificates(files.certificate, files.key, client_ca)
    assert len(str(found.value).splitlines()) == 2
    return str(found.value)


def test_without_settings_there_is_no_tls() -> None:
    assert certificates(None, None, None) is None


def test_a_good_pair_is_used_without_a_word(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    assert certificates(files.certificate, files.key, files.ca) is not None
    assert caplog.records == []


@pytest.mark.parametrize("given", ["--tls-certificate", "--tls-private-key", "--tls-client-ca"])
def test_half_of_the_settings_is_refused(files: Files, given: str) -> None:
    paths = (files.certificate, files.key, files.ca)
    flags = ("--tls-certificate", "--tls-private-key", "--tls-client-ca")
    only = [path if flag == given else None for path, flag in zip(paths, flags, strict=True)]
    with pytest.raises(StartupError, match=given):
        certificates(*only)


def test_a_missing_file_is_named_with_its_flag(files: Files) -> None:
    files.key.unlink()
    assert "tls.key cannot be read: No such file" in (said := refusal(files))
    assert "mend --tls-private-key" in said


def test_an_unreadable_file_is_named_with_its_flag(files: Files) -> None:
    files.certificate.unlink()
    files.certificate.mkdir()
    assert "tls.crt cannot be read: Is a directory" in (said := refusal(files))
    assert "mend --tls-certificate" in said


def test_a_key_of_another_certificate_is_refused(files: Files, authority: trustme.CA) -> None:
    files.key.write_bytes(authority.issue_cert(*NAMES).private_key_pem.bytes())
    assert "tls.key is not that of the certificate" in refusal(files)


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_what_is_not_pem_is_refused(files: Files, which: str) -> None:
    path: Path = getattr(files, which)
    path.write_bytes(b"\x30\x82\x01\x00 not PEM")
    assert "cannot be used" in refusal(files)


@pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
def test_other_labels_of_certificates_are_taken(files: Files, label: str) -> None:
    files.certificate.write_text(files.certificate.read_text().replace("CERTIFICATE", label))
    assert certificates(files.certificate, files.key, None) is not None


def test_a_certificate_without_an_end_is_refused(files: Files) -> None:
    lose_the_end(files)
    assert "tls.crt cannot be used" in refusal(files)


def test_a_certificate_without_an_end_changes_nothing_while_it_runs(
    files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_EVERY", 0.0)
    served = tls.Certificates(files.certificate, files.key)
    lose_the_end(files)
    served.look_again()
    assert "the certificate stays as it was" in caplog.text
    files.issue()
    with caplog.at_level(logging.INFO):
        served.look_again()
    assert "certificate read again" in caplog.text


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files: Files) -> None:
    files.protect()
    assert "tls.key is protected by a password" in (said := refusal(files))
    assert "openssl pkey" in said


def test_client_authorities_without_a_certificate_are_refused(files: Files) -> None:
    empty = files.ca.with_name("empty")
    empty.write_bytes(b"")
    assert "holds no certificate" in refusal(files, empty)


@pytest.mark.parametrize(("days", "word"), [(-1, "expired"), (1, "not yet valid")])
def test_a_certificate_out_of_its_time_is_served_with_a_warning(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture, days: int, word: str
) -> None:
    begins = datetime.now(UTC) + timedelta(days=days if days > 0 else -2)
    issued = authority.issue_cert(*NAMES, not_before=begins, not_after=begins + timedelta(days=1, hours=-1))
    files.certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    files.key.write_bytes(issued.private_key_pem.bytes())
    with caplog.at_level(logging.WARNING):
        assert certificates(files.certificate, files.key, None) is not None
    assert [word in record.getMessage() for record in caplog.records] == [True]
