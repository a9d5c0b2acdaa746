"""The arithmetic of the evaluation of long documents."""

from __future__ import annotations

import numpy as np

from loadtest.long_scores import by_group, estimate, ranks, recall, reciprocal

# Three documents of two, one and two chunks; queries are axes.
DOCUMENTS = [np.array([[1.0, 0], [0, 1]]), np.array([[0.8, 0.6]]), np.array([[0.6, 0.8], [0.0, -1]])]
QUERIES = np.array([[1.0, 0], [0, 1]])


def test_a_document_is_as_near_as_its_nearest_chunk() -> None:
    for right, expected in enumerate([(1, 1), (2, 3), (3, 2)]):
        assert tuple(ranks(QUERIES, np.array([right, right]), DOCUMENTS)) == expected


def test_a_tie_counts_against_the_right_document() -> None:
    same = [np.array([[1.0, 0]])] * 3
    assert list(ranks(QUERIES[:1], np.array([1]), same)) == [3]


def test_recall_and_reciprocal_ranks() -> None:
    found = np.array([1, 2, 4])
    assert list(recall(found)) == [1, 0, 0]
    assert list(reciprocal(found)) == [1, 0.5, 0.25]
    assert by_group(recall(found), ["a", "a", "b"]) == {"a": 0.5, "b": 0.0}


def test_an_interval_is_around_its_mean_and_none_where_nothing_varies() -> None:
    values, clusters = np.array([1.0, 1, 0, 0]), np.array([0, 0, 1, 1])
    whole = estimate(values, clusters)
    assert (whole.value, whole.low, whole.high) == (0.5, 0.0, 1.0)
    alike = estimate(np.ones(4), clusters)
    assert (alike.value, alike.low, alike.high) == (1, 1, 1)
