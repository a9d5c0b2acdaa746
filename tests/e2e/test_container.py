"""Vertex AI's custom-container contract: AIP_HTTP_PORT, AIP_PREDICT_ROUTE, AIP_HEALTH_ROUTE."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import VERTEX_MODEL, Server, assert_google_error, vertex_vectors

PREDICT = "/v1/endpoints/123/deployedModels/456:predict"
HEALTH = "/v1/endpoints/123/deployedModels/456"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def container(launch: StartServer) -> Server:
    """As Vertex starts it, but for the address: tests stay on loopback."""
    env = {
        "AIP_HTTP_PORT": "1",
        "AIP_PREDICT_ROUTE": PREDICT,
        "AIP_HEALTH_ROUTE": HEALTH,
        "AIP_STORAGE_URI": "",
        "EMBEDSERVE_HOST": "127.0.0.1",
    }
    return launch(env=env)


def test_predict(container: Server, golden: Golden) -> None:
    body = container.predict(golden.texts[0], path=PREDICT)
    assert np.abs(vertex_vectors(body) - golden.vectors[:1]).max() <= 1e-4


def test_health_is_exactly_200(container: Server) -> None:
    assert container.http.get(HEALTH).status_code == 200
    assert container.http.get(HEALTH).json() == {"status": "ready"}


def test_errors_are_googles(container: Server) -> None:
    assert_google_error(container.post(PREDICT, {"instances": []}), 400)
    assert_google_error(container.http.get(PREDICT), 405, "UNIMPLEMENTED")


def test_the_other_routes_are_there_too(container: Server) -> None:
    container.assert_well()
    assert len(container.predict("a", path=VERTEX_MODEL)["predictions"]) == 1
    assert container.http.get("/readyz").status_code == 200


def test_route_is_labelled_in_metrics(container: Server) -> None:
    container.predict("a", path=PREDICT)
    assert container.metric("embedserve_requests_total", route=PREDICT, status="200") >= 1


def test_port_comes_from_aip_http_port(start_server: StartServer) -> None:
    port = free_port()
    server = start_server(env={"AIP_HTTP_PORT": str(port), "EMBEDSERVE_HOST": "127.0.0.1"}, port=None)
    assert server.port == port
    assert server.http.get("/readyz").status_code == 200


def test_flags_win_over_aip_http_port(container: Server) -> None:
    assert container.port != 1
