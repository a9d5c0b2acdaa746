"""The device's vectors: those of sentence-transformers, whatever batch a text is in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.device_name import DeviceName
from service.precision import Precision
from tests.conftest import Golden, StartServer
from tests.e2e.process import Server, Vectors, cosines
from tests.gpu.conftest import Compiled
from tests.gpu.device import CLIENTS, text

pytestmark = pytest.mark.gpu

LENGTHS = (*range(1, 255, 4), 300, 600, 1200)  # in words; the last ones are chunked
TEXTS = [text(words) for words in LENGTHS]
MIN_COSINE_BETWEEN_BATCHES = 0.9999


@pytest.fixture(scope="module")
def alone(server: Server) -> Vectors:
    """Each text in a request of its own, one after the other. Any two differ by more than batches may."""
    vectors = np.concatenate([server.embed(one) for one in TEXTS])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (unit @ unit.T)[~np.eye(len(unit), dtype=bool)].max() < MIN_COSINE_BETWEEN_BATCHES
    return vectors


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.9999), ("fp32", 0.999999)])
def test_vectors_are_those_of_sentence_transformers(
    compiled: Compiled,
    device: DeviceName,
    start_server: StartServer,
    golden: Golden,
    precision: Precision,
    least: float,
) -> None:
    server = start_server("--device", str(device), model=compiled(precision))
    assert cosines(server.embed(golden.texts), golden.vectors).min() >= least


def test_in_one_request_each_text_gets_the_vector_that_it_gets_alone(server: Server, alone: Vectors) -> None:
    assert cosines(server.embed(TEXTS), alone).min() >= MIN_COSINE_BETWEEN_BATCHES


def test_beside_other_clients_each_text_gets_the_vector_that_it_gets_alone(server: Server, alone: Vectors) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        vectors = np.concatenate(list(pool.map(server.embed, TEXTS)))
    assert cosines(vectors, alone).min() >= MIN_COSINE_BETWEEN_BATCHES
