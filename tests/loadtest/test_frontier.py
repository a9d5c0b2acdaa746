"""The frontier's own arithmetic: neighbours, their agreement, blocks of weights, and a plot that is XML."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from onnx import numpy_helper

from loadtest.frontier import _agreement, _nearest
from loadtest.frontier_graphs import _blocks
from loadtest.frontier_report import Point, plot, table


def point(name: str, ratio: float, agreement: float, batch: float = 1.0) -> Point:
    return Point(name, 1000.0, ratio, ratio, ratio, ratio, 0.999, 0.99, agreement, batch)


def test_the_nearest_are_the_ten_others_of_the_largest_cosine() -> None:
    angles = np.linspace(0, 1, 30)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert set(_nearest(vectors)[0]) == set(range(1, 11))


def test_agreement_is_the_mean_share_in_common() -> None:
    left = np.array([range(10), range(10)])
    right = np.array([range(10), range(5, 15)])
    assert _agreement(left, left[:, ::-1]) == 1
    assert _agreement(left, right) == pytest.approx(0.75)


def test_blocks_hold_their_weights() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (96, 5)).astype(np.float32)
    codes, scales = map(numpy_helper.to_array, _blocks(weight, "w"))
    assert (codes.shape, scales.shape) == ((5, 3, 32), (5, 3))
    assert codes.dtype == np.uint8
    restored = ((codes.astype(np.float32) - 128) * scales[..., None]).reshape(5, 96).T
    np.testing.assert_allclose(restored, weight, atol=float(scales.max()) * 0.51)


def test_every_graph_is_in_table_and_plot_and_those_that_vary_are_hollow() -> None:
    points = [point("fp32", 1, 1), point("int8", 2.4, 0.96), point("a & b", 2.5, 0.81, batch=0.98)]
    tree = ET.fromstring(plot(points, 0.999999, (2.2, 0.95)))
    names = [one.text for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    kinds = [one.get("class") for one in tree.iter("{http://www.w3.org/2000/svg}circle")]
    assert {"fp32", "int8", "a & b"} <= set(names)
    assert sorted(str(kind) for kind in kinds) == ["same", "same", "varies"]
    assert table(points).count("\n") == 2 + len(points)
