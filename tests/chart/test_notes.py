"""NOTES.txt: what it advises can be done."""

from __future__ import annotations

import pytest

from tests.chart.helm import CHART, HELM4, NAMESPACE, RELEASE, render

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


def test_the_log_that_is_asked_for_is_there() -> None:
    """Helm carries out a hook's policy first, and then asks for the log of a pod that is called like the hook."""
    documents = render({"loadtest": {"enabled": True}})
    tests = {
        one["metadata"]["name"]: one for one in documents if "helm.sh/hook" in one["metadata"].get("annotations", {})
    }
    policies = {one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for one in tests.values()}
    assert policies == {"before-hook-creation"}
    (command,) = (line for line in notes("loadtest.enabled=true").splitlines() if " --logs" in line)
    assert tests[command.partition("--filter name=")[2]]["kind"] == "Pod"
