"""deploy/kustomize: current, and what kubectl builds of it is what clusters take and the server understands."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from service.settings import load_settings
from tests.chart.helm import KUBERNETES, Document, only
from tests.deploy.kustomize import BASE, FOLDER, OVERLAYS, build, files
from tests.deploy.test_kserve import CRDS, VALIDATE, VALIDATOR

heavy = pytest.mark.heavy


@pytest.fixture(scope="module")
def built() -> dict[str, list[Document]]:
    """What each folder gives."""
    return {folder.name: build(folder) for folder in (BASE, *OVERLAYS)}


@heavy
@pytest.mark.parametrize("name", ["objects.yaml", "embedserve.toml"])
def test_the_base_is_what_the_chart_renders(name: str) -> None:
    assert (BASE / name).read_text("utf-8") == files()[name], "run make kustomize"


@heavy
def test_every_kubernetes_takes_it(built: dict[str, list[Document]], tmp_path: Path) -> None:
    documents = [one for found in built.values() for one in found]
    file = tmp_path / "documents.json"
    file.write_text(json.dumps(dict.fromkeys(KUBERNETES, documents)), "utf-8")
    assert VALIDATOR.run(str(VALIDATE), str(file), str(CRDS)) == []


@heavy
def test_nothing_of_helms_is_left(built: dict[str, list[Document]]) -> None:
    assert "Helm" not in json.dumps(built)
    assert "helm.sh" not in json.dumps(built)


@heavy
@pytest.mark.parametrize("overlay", [folder.name for folder in OVERLAYS])
def test_an_overlays_settings_are_those_of_its_pods(built: dict[str, list[Document]], overlay: str) -> None:
    settings, pods = only(built[overlay], "ConfigMap"), only(built[overlay], "Deployment")["spec"]["template"]["spec"]
    written = (FOLDER / "overlays" / overlay / "embedserve.toml").read_text("utf-8")
    assert settings["data"] == {"embedserve.toml": written}
    [volume] = [one for one in pods["volumes"] if one["name"] == "config"]
    assert volume["configMap"]["name"] == settings["metadata"]["name"] != "embedserve"


@heavy
def test_a_changed_setting_replaces_the_pods(tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", FOLDER, tmp_path], check=True, timeout=60)
    overlay = tmp_path / "kustomize" / "overlays" / "cpu"
    before = only(build(overlay), "Deployment")
    (overlay / "embedserve.toml").write_text('model = "all-MiniLM-L6-v2"\nstrict = true\n', "utf-8")
    assert only(build(overlay), "Deployment")["spec"]["template"] != before["spec"]["template"]


@heavy
def test_the_overlay_of_a_gpu_has_it(built: dict[str, list[Document]]) -> None:
    deployment = only(built["gpu"], "Deployment")["spec"]
    pods = deployment["template"]["spec"]
    for container in (*pods["initContainers"], *pods["containers"]):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert container["image"].endswith("-gpu")
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("**/embedserve.toml")), ids=lambda file: file.parent.name)
def test_the_server_understands_the_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the pod has the time that its drain takes."""
    monkeypatch.setenv("EMBEDSERVE_CONFIG", str(file))
    settings = load_settings()
    objects = (BASE / "objects.yaml").read_text("utf-8")
    assert f"terminationGracePeriodSeconds: {settings.drain_grace + settings.drain_timeout + 5:.0f}\n" in objects
