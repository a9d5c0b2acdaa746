"""What is told of variables and mounts reaches who fetches models: an authority of one's own is of use there first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.helm import only, render

pytestmark = pytest.mark.heavy

MORE: dict[str, Any] = {
    "extraEnv": [{"name": "AWS_CA_BUNDLE", "value": "/authority/ca.crt"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "authority", "configMap": {"name": "authority"}}],
    "extraVolumeMounts": [{"name": "authority", "mountPath": "/authority"}],
}
S3 = {"type": "s3", "s3": {"uri": "s3://a/b", "image": "aws:2", "existingSecret": "reader"}}


@pytest.mark.parametrize("source", [{"type": "download"}, S3], ids=["download", "s3"])
def test_who_fetches_models_has_what_the_server_has(source: dict[str, Any]) -> None:
    pod = only(render({"modelSource": source, **MORE}), "Deployment")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert MORE["extraEnv"][0] in container["env"], container["name"]
        assert MORE["extraEnvFrom"][0] in container["envFrom"], container["name"]
        assert MORE["extraVolumeMounts"][0] in container["volumeMounts"], container["name"]
