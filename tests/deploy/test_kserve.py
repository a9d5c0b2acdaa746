"""deploy/kserve: the container as KServe would start it, and the files as its API server would read them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.settings import Settings
from tests.clients.environments import Python
from tests.clients.test_kserve_client import KSERVE
from tests.conftest import Golden, StartServer
from tests.deploy.kserve import MODELS, RUNTIME, Document, container, document, services
from tests.e2e.process import Server

ROOT = Path(__file__).parents[2]
SERVICES = services()
NAME = "all-minilm-l6-v2"
VALIDATOR = Python("kubernetes-validate", ("kubernetes-validate==1.37.0",))
VALIDATE, CRDS = ROOT / "tests/chart/scripts/validate.py", ROOT / "tests/chart/crds"
# What differs on this machine: the model's place, and free ports on loopback.
HERE = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8080": "--port=0", "--admin-port=9190": "--admin-port=0"}

# In the same pod, and so on the same addresses: Knative's queue-proxy (networking and profiling ports of
# knative/serving), KServe's agent and its gatherer of metrics.
SIDECARS = {8008, 8012, 8013, 8022, 8112, 9090, 9091} | {9081, 9088}


@pytest.fixture(scope="module")
def rendered() -> Document:
    return container(document(RUNTIME), SERVICES["inferenceservice.yaml"])


@pytest.fixture(scope="module")
def served(rendered: Document, bundle: Path, launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The real server, started by the runtime's arguments."""
    command, model, *flags = rendered["args"]
    assert (command, model) == ("serve", MODELS)
    mounted = tmp_path_factory.mktemp("mnt") / "models"
    mounted.symlink_to(bundle)
    here = {**HERE, "--cache-dir=/cache": f"--cache-dir={tmp_path_factory.mktemp('cache')}"}
    assert here.keys() <= set(flags)
    return launch(*(here.get(flag, flag) for flag in flags), model=mounted, port=None)


@pytest.mark.parametrize("probe", ["livenessProbe", "readinessProbe"])
def test_its_probes_succeed(served: Server, rendered: Document, probe: str) -> None:
    get = rendered[probe]["httpGet"]
    assert get["port"] == rendered["ports"][0]["containerPort"]
    assert f"--port={get['port']}" in rendered["args"]
    assert served.http.get(get["path"]).status_code == 200


def test_it_is_served_under_the_services_name_by_v1_and_v2(served: Server, golden: Golden) -> None:
    reply = served.post(f"/v1/models/{NAME}:predict", {"instances": golden.texts[:2]})
    assert np.abs(np.array(reply.json()["predictions"]) - golden.vectors[:2]).max() <= 1e-4
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": golden.texts[:2]}
    reply = served.post(f"/v2/models/{NAME}/infer", {"inputs": [tensor]})
    [output] = reply.json()["outputs"]
    assert np.abs(np.array(output["data"]).reshape(output["shape"]) - golden.vectors[:2]).max() <= 1e-4
    for path in (f"/v1/models/{NAME}", f"/v2/models/{NAME}/ready"):
        assert served.http.get(path).status_code == 200


def test_metrics_are_where_the_annotation_says(rendered: Document) -> None:
    annotations = document(RUNTIME)["spec"]["annotations"]
    assert f"--admin-port={annotations['prometheus.kserve.io/port']}" in rendered["args"]
    assert annotations["prometheus.kserve.io/path"] == "/metrics"


def test_no_port_is_a_sidecars(rendered: Document) -> None:
    ports = {int(flag.partition("port=")[2]) for flag in rendered["args"] if "port=" in flag}
    assert len(ports) == 2
    assert not ports & SIDECARS


def test_no_time_is_too_short_for_the_drain(rendered: Document) -> None:
    given = dict(flag.removeprefix("--").split("=", 1) for flag in rendered["args"] if "=" in flag)
    assert {name.replace("-", "_") for name in given} <= Settings.model_fields.keys()
    longest = float(given.get("request-timeout", Settings.model_fields["request_timeout"].default))
    assert float(given["drain-timeout"]) >= longest
    drain = float(given["drain-grace"]) + float(given["drain-timeout"])
    predictor = SERVICES["inferenceservice.yaml"]["spec"]["predictor"]
    assert predictor["terminationGracePeriodSeconds"] == drain + 5
    assert SERVICES["inferenceservice-scale-to-zero.yaml"]["spec"]["predictor"]["timeout"] >= drain + 5


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_asks_for_what_the_runtime_has(name: str) -> None:
    runtime, model = document(RUNTIME), SERVICES[name]["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_every_writable_folder_is_a_volume(rendered: Document) -> None:
    assert rendered["securityContext"]["readOnlyRootFilesystem"]
    assert {one["mountPath"] for one in rendered["volumeMounts"]} == {"/cache", "/tmp"}
    volumes = {one["name"] for one in document(RUNTIME)["spec"]["volumes"]}
    assert {one["name"] for one in rendered["volumeMounts"]} == volumes


def complaints_of_the_sdk(*documents: Document) -> list[str]:
    """Fields that KServe's and Kubernetes' own Python models do not have, or have with another type."""
    found: list[str] = KSERVE.run("kserve_objects.py", json.dumps(documents))
    return found


def complaints_of_the_schema(documents: list[Document], folder: Path) -> list[list[str]]:
    """What the API server would say of an InferenceService, and of what it would drop."""
    file = folder / "documents.json"
    file.write_text(json.dumps({"1.33.0": documents}), "utf-8")
    found: list[list[str]] = VALIDATOR.run(str(VALIDATE), str(file), str(CRDS))
    return found


def changed(found: Document, path: str, value: Any) -> Document:
    """A copy with one field more; numbers in the path are places in lists."""
    made = copy.deepcopy(found)
    *way, last = path.split("/")
    inner: Any = made
    for step in way:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[last] = value
    return made


@pytest.mark.heavy
def test_kserves_own_models_know_every_field_and_no_typing_error() -> None:
    errors = {
        "spec/supportedModelFormat": [],
        "spec/containers/0/readinesProbe": {},
        "spec/containers/0/resources/limit": {},
        "spec/protocolVersions": "v2",
        "spec/supportedModelFormats/0/version": 1,
        "spec/multiModel": "false",
    }
    wrong = [changed(document(RUNTIME), path, value) for path, value in errors.items()]
    found = complaints_of_the_sdk(document(RUNTIME), *SERVICES.values(), *wrong)
    assert [line.partition(":")[0] for line in found] == [path.replace("/", ".") for path in errors]


@pytest.mark.heavy
def test_services_fit_the_schema_of_the_cluster(tmp_path: Path) -> None:
    assert complaints_of_the_schema(list(SERVICES.values()), tmp_path) == []


@pytest.mark.heavy
def test_typing_errors_in_a_service_are_found(tmp_path: Path) -> None:
    good = SERVICES["inferenceservice.yaml"]
    errors = {
        "spec/predictor/minReplica": 1,
        "spec/predictor/model/storageURI": "pvc://models",
        "spec/predictor/minReplicas": "2",
        "spec/predictor/model/modelFormat/versions": "1",
    }
    documents = [changed(good, path, value) for path, value in errors.items()]
    assert len(complaints_of_the_schema(documents, tmp_path)) == len(errors)


@pytest.mark.heavy
def test_kserves_own_client(served: Server, golden: Golden) -> None:
    found = KSERVE.run("kserve_client.py", served.url, NAME, json.dumps(golden.texts))
    assert found["v1"] == [True, True]
    assert found["v2"] == [True, True, True]
    for vectors in found["vectors"].values():
        assert np.abs(np.array(vectors) - golden.vectors).max() <= 1e-4
