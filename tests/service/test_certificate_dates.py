"""When certificates end, compared with what made them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trustme

from service.certificate_dates import expires_at

YEAR_2060 = datetime(2060, 1, 2, 3, 4, 5, tzinfo=UTC)  # beyond 2049 a year has four digits


@pytest.mark.parametrize("end", [datetime(2031, 12, 30, 23, 59, 59, tzinfo=UTC), YEAR_2060])
@pytest.mark.parametrize("key_type", list(trustme.KeyType))
def test_the_end_of_the_first_certificate(end: datetime, key_type: trustme.KeyType) -> None:
    issued = trustme.CA(key_type=key_type).issue_cert("localhost", not_after=end, key_type=key_type)
    pem = b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode()
    assert expires_at(pem) == end.timestamp()
    assert expires_at("what others write\n-----BEGIN CERTIFICATE----- before it\n" + pem + pem) == end.timestamp()


@pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
def test_the_end_of_one_with_another_label(label: str) -> None:
    end = datetime(2031, 12, 30, 23, 59, 59, tzinfo=UTC)
    pem = trustme.CA().issue_cert("localhost", not_after=end).cert_chain_pems[0].bytes().decode()
    assert expires_at(pem.replace("CERTIFICATE", label)) == end.timestamp()


@pytest.mark.parametrize("name", ["nothing", "no end", "no DER", "cut short"])
def test_what_is_no_certificate(name: str) -> None:
    pem = trustme.CA().issue_cert("localhost").cert_chain_pems[0].bytes().decode()
    head, *_, foot = pem.strip().splitlines()
    spoilt = {
        "nothing": "",
        "no end": pem.replace(foot, ""),
        "no DER": "\n".join([head, "AAAA", foot]),
        "cut short": "\n".join([head, "MIIB", foot]),
    }
    with pytest.raises(ValueError, match=r"certificate|unpack"):
        expires_at(spoilt[name])
