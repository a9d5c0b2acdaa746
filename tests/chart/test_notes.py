"""NOTES.txt: what it advises can be done."""

from __future__ import annotations

import pytest

from tests.chart.helm import CHART, HELM4, NAMESPACE, RELEASE

pytestmark = pytest.mark.heavy

WORDS = ("Everybody who reaches the Service", f"test {RELEASE} --logs")


def notes(*values: str) -> str:
    """By Helm 4, which needs no cluster for them."""
    options = [option for value in values for option in ("--set", value)]
    whole = HELM4.run("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE, *options)
    return whole.rpartition("NOTES:")[2]


def test_clients_with_certificates_are_not_everybody() -> None:
    open_to_all = notes()
    assert [words in open_to_all for words in (*WORDS, "--cert ")] == [True, True, False]
    mutual = notes("tls.existingSecret=a", "tls.clientCA.existingSecret=b")
    assert [words in mutual for words in (*WORDS, "--cert ")] == [False, False, True]
