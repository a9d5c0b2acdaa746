"""NOTES.txt: what it advises can be done."""

from __future__ import annotations

import re

import pytest

from tests.chart.helm import CHART, HELM4, NAMESPACE, RELEASE, only, render

pytestmark = pytest.mark.heavy

WORDS = ("Everybody who reaches the Service", f"test {RELEASE} --logs")


PAGES = ("README.md", "docs/KUBERNETES.md", "helm/embedserve/README.md")


def notes(*values: str) -> str:
    """By Helm 4, which needs no cluster for them."""
    options = [option for value in values for option in ("--set", value)]
    whole = HELM4.run("install", RELEASE, str(CHART), "--dry-run=client", "--namespace", NAMESPACE, *options)
    return whole.rpartition("NOTES:")[2]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_tested_at_once_is_waited_for(page: str) -> None:
    """`helm test` asks once, and `helm install` alone ends before a pod is ready."""
    consoles = re.findall(r"```console\n(.*?)```", (CHART.parents[1] / page).read_text("utf-8"), re.DOTALL)
    (installed,) = (
        line for one in consoles if "helm test" in one for line in one.splitlines() if "helm install" in line
    )
    assert " --wait " in installed


def test_clients_with_certificates_are_not_everybody() -> None:
    open_to_all = notes()
    assert [words in open_to_all for words in (*WORDS, "--cert ")] == [True, True, False]
    mutual = notes("tls.existingSecret=a", "tls.clientCA.existingSecret=b")
    assert [words in mutual for words in (*WORDS, "--cert ")] == [False, False, True]


@pytest.mark.parametrize(
    ("timeout", "too_short"),
    [("", False), ("0s", False), ("60s", True), ("59s999ms", True), ("1m1s", False), ("1h", False)],
)
def test_a_gateway_that_gives_up_before_the_server_is_noted(timeout: str, too_short: bool) -> None:
    told = notes("httpRoute.enabled=true", "httpRoute.parentRefs[0].name=gateway", f"httpRoute.timeout={timeout}")
    assert ("The gateway gives up" in told) is too_short


def test_the_log_that_is_asked_for_is_there() -> None:
    """Helm carries out a hook's policy first, and then asks for the log of a pod that is called like the hook."""
    documents = render({"loadtest": {"enabled": True}})
    tests = {
        one["metadata"]["name"]: one for one in documents if "helm.sh/hook" in one["metadata"].get("annotations", {})
    }
    policies = {one["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for one in tests.values()}
    assert policies == {"before-hook-creation"}
    of_smoke, of_load = (line for line in notes("loadtest.enabled=true").splitlines() if f" test {RELEASE} " in line)
    assert " --logs " in of_smoke
    assert tests[of_smoke.partition("--filter name=")[2]]["kind"] == "Pod"
    assert tests[of_load.partition("--filter name=")[2].split()[0]]["kind"] == "Job"


def test_a_load_is_waited_for_as_long_as_it_may_take() -> None:
    job = only(render({"loadtest": {"enabled": True, "seconds": 1000}}), "Job")
    assert f"--timeout {job['spec']['activeDeadlineSeconds']}s" in notes(
        "loadtest.enabled=true", "loadtest.seconds=1000"
    )


def test_the_documents_name_of_the_load_is_a_jobs() -> None:
    written = (CHART.parents[1] / "loadtest" / "README.md").read_text("utf-8")
    (release, name) = re.findall(r"helm test (\S+) --filter name=(\S+)", written)[0]
    only(render({"loadtest": {"enabled": True}}, release=release), "Job", name)


@pytest.mark.parametrize(
    ("values", "remedies", "words"),
    [
        (["monitoring.prometheusRule.enabled=true"], ["monitoring.podMonitor.enabled=true"], "EmbedserveAbsent fires"),
        (["monitoring.dashboard.enabled=true"], ["monitoring.podMonitor.enabled=true"], "EmbedserveAbsent fires"),
        (
            ["monitoring.podMonitor.enabled=true", "tls.existingSecret=t"],
            ["monitoring.tlsConfig.insecureSkipVerify=true"],
            "set monitoring.tlsConfig",
        ),
        (["gpu.enabled=true"], ["resources.limits.memory=4Gi"], "holds 0.7 GB before its first request"),
        (["drain.graceSeconds=0"], ["drain.preStopSeconds=10"], "requests are lost"),
    ],
    ids=str,
)
def test_what_would_be_found_out_later_is_said(values: list[str], remedies: list[str], words: str) -> None:
    assert words in notes(*values)
    assert words not in notes(*values, *remedies)
