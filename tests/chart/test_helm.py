"""The tools themselves: a check by something that is not there passes anything."""

from __future__ import annotations

import pytest

from tests.chart.helm import HELM3, HELM4, Helm, Refused

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("helm", "version"), [(HELM3, "v3."), (HELM4, "v4.")], ids=["helm3", "helm4"])
def test_both_generations_of_helm_run(helm: Helm, version: str) -> None:
    assert helm.run("version", "--short").startswith(version)
    with pytest.raises(Refused, match="unknown flag"):
        helm.run("template", "--no-such-flag")
