"""Who fetches models: an authority, a region or a proxy of one's own reaches it as it reaches the server."""

from __future__ import annotations

import pytest

from tests.chart.helm import HELMS, Helm, Rendering, Values, only

pytestmark = pytest.mark.heavy

MOUNT = {"name": "authority", "mountPath": "/authority", "readOnly": True}
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
HOME = {"name": "HOME", "value": "/authority"}
MORE = {"configMapRef": {"name": "more"}}
S3 = {"uri": "s3://a/b", "image": "aws-cli", "existingSecret": "reader"}
SOURCES: tuple[Values, ...] = ({"type": "download"}, {"type": "s3", "s3": S3})


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source["type"])
def test_what_is_extra_reaches_who_fetches(source: Values, helm: Helm) -> None:
    values = {
        "modelSource": source,
        "extraEnv": [PROXY, HOME],
        "extraEnvFrom": [MORE],
        "extraVolumes": [{"name": "authority", "configMap": {"name": "authority"}}],
        "extraVolumeMounts": [MOUNT],
    }
    pod = only(helm.documents(Rendering(values=values)), "Deployment")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert MOUNT in container["volumeMounts"]
        assert PROXY in container["env"]
        assert [one for one in container["env"] if one["name"] == "HOME"] == [HOME]
        assert MORE in container["envFrom"]
