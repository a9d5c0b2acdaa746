"""Models of every kind in one process: who answers a request that names no model, and one that does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.e2e.process import Server, run_command
from tests.models.kinds import bundles_of, listed

TEXT = "the river and the mill"
NAMES = ("classifier", "reranker", "narrow", "wide", "sparse", "tokens")  # in the file's order

# Route → body without a model → which of NAMES answers it.
UNNAMED: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/embeddings": ({"input": TEXT}, "narrow"),
    "/v2/embed": ({"texts": [TEXT], "input_type": "search_query"}, "narrow"),
    "/v1/publishers/google/models/wide:predict": ({"instances": [{"content": TEXT}]}, "wide"),
    "/embed": ({"inputs": TEXT}, "narrow"),
    "/embed_all": ({"inputs": TEXT}, "narrow"),
    "/similarity": ({"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}}, "narrow"),
    "/embed_sparse": ({"inputs": TEXT}, "sparse"),
    "/v1/multi-vector": ({"input": TEXT}, "tokens"),
    "/v1/rerank": ({"query": TEXT, "documents": [TEXT]}, "reranker"),
    "/v2/rerank": ({"query": TEXT, "documents": [TEXT]}, "reranker"),
    "/rerank": ({"query": TEXT, "texts": [TEXT]}, "reranker"),
    "/score": ({"text_1": TEXT, "text_2": TEXT}, "reranker"),
    "/predict": ({"inputs": TEXT}, "classifier"),
    "/tokenize": ({"inputs": TEXT}, "classifier"),
    "/decode": ({"ids": [5, 6]}, "classifier"),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return bundles_of(NAMES, tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def server(launch: StartServer, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("file") / "models.toml"
    file.write_text(listed(bundles))
    return launch("--config", str(file), model=None, no_model=True)


def answered(server: Server, route: str, body: dict[str, Any]) -> str:
    """Which model did, by the log."""
    reply = server.post(route, body)
    assert reply.status_code == 200, reply.text
    (line,) = server.access_lines(reply.headers["x-request-id"])
    return str(line["model"])


def test_what_is_to_be_tried_works(launch: StartServer, bundles: dict[str, Path]) -> None:
    for name, expected in (("sparse", "/embed_sparse"), ("reranker", "/v1/rerank"), ("classifier", "/predict")):
        server = launch(model=bundles[name])
        _, path, body = re.search(r"curl (http://[^/]+)(\S+) .*-d '(.*)'", server.stdout()).groups()  # type: ignore[union-attr]
        assert path == expected
        assert server.post(path, json.loads(body)).status_code == 200


def test_a_reranker_has_no_prompts(bundles: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(f'[[models]]\nmodel = "{bundles["reranker"]}"\nprompts = {{ query = "q: " }}\n')
    done = run_command("serve", "--port", "0", "--config", str(file))
    assert done.returncode == 1
    assert "which has no prompts" in done.stderr.decode()


@pytest.mark.parametrize("route", UNNAMED)
def test_without_a_name_the_first_model_that_can_answers(server: Server, route: str) -> None:
    body, expected = UNNAMED[route]
    assert answered(server, route, body) == expected


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("/embed", "wide"),
        ("/embed_all", "tokens"),
        ("/similarity", "wide"),
        ("/predict", "classifier"),
        ("/tokenize", "wide"),
        ("/decode", "sparse"),
        ("/embed_sparse", "sparse"),
    ],
)
def test_teis_routes_take_a_name_too(server: Server, route: str, name: str) -> None:
    assert answered(server, route, {**UNNAMED[route][0], "model": name}) == name


def test_the_root_is_the_named_models(server: Server) -> None:
    assert answered(server, "/", {"inputs": TEXT, "model": "wide"}) == "wide"
    assert len(server.post("/", {"inputs": TEXT, "model": "wide"}).json()[0]) == 32
    assert len(server.post("/", {"inputs": TEXT, "model": "narrow"}).json()[0]) == 20
    assert server.http.get("/info?model=sparse").json()["served_model_name"] == "sparse"


@pytest.mark.parametrize("route", [route for route in UNNAMED if not route.endswith(":predict")])
def test_a_name_that_nobody_has_is_not_found(server: Server, route: str) -> None:
    assert server.post(route, {**UNNAMED[route][0], "model": "nobody"}).status_code == 404


@pytest.mark.parametrize(
    ("route", "name"), [("/embed", "sparse"), ("/embed_sparse", "wide"), ("/rerank", "wide"), ("/predict", "tokens")]
)
def test_a_model_of_another_kind_says_so(server: Server, route: str, name: str) -> None:
    reply = server.post(route, {**UNNAMED[route][0], "model": name})
    assert reply.status_code == 424
    assert name in reply.json()["error"]


def test_a_publisher_model_says_how_it_predicts_only_if_it_does(server: Server) -> None:
    pages = {name: server.http.get(f"/v1/publishers/google/models/{name}").json() for name in NAMES}
    assert {name for name in NAMES if "predictSchemata" in pages[name]} == {"narrow", "wide"}


def test_gemini_names_the_method_only_of_models_that_have_it(server: Server) -> None:
    """By that list its clients choose the model that they embed with."""
    models = server.http.get("/v1beta/models").json()["models"]
    assert {one["displayName"] for one in models} == set(NAMES)
    assert {one["displayName"] for one in models if one["supportedGenerationMethods"]} == {"narrow", "wide"}


def test_a_model_of_another_kind_in_a_place_changes_nobodys_default(
    start_server: StartServer, bundles: dict[str, Path], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundles["sparse"])
    file = tmp_path / "models.toml"
    named = {"first": link, "second": bundles["narrow"]}
    file.write_text("\n".join(f'[[models]]\nmodel = "{at}"\nname = "{name}"\n' for name, at in named.items()))
    server = start_server("--config", str(file), no_model=True, env={"EMBEDSERVE_ADMIN_KEYS": "admin"})
    assert answered(server, "/v1/embeddings", {"input": TEXT}) == "second"
    link.unlink()
    link.symlink_to(bundles["wide"])
    loaded = server.http.post("/v2/repository/models/first/load", headers={"authorization": "Bearer admin"})
    assert loaded.status_code == 200, loaded.text
    assert answered(server, "/v1/embeddings", {"input": TEXT, "model": "first"}) == "first"
    assert answered(server, "/v1/embeddings", {"input": TEXT}) == "second"
    assert server.post("/embed_sparse", {"inputs": TEXT}).status_code == 424
