"""8 bits in plain numbers: columns keep what they hold, units keep what comes in."""

from __future__ import annotations

import numpy as np
import pytest

from models.quantise import MIDDLE, STEPS, columns, units


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_a_column_is_rounded_in_steps_of_its_own(rng: np.random.Generator) -> None:
    weight = (rng.normal(0, 1, (64, 8)) * np.logspace(-3, 3, 8)).astype(np.float32)
    found = columns(weight)
    assert found.codes.dtype == np.int8
    np.testing.assert_array_equal(np.abs(found.codes.astype(int)).max(axis=0), STEPS)
    error = np.abs(found.codes * found.scales - weight)
    assert (error <= found.scales * 0.5001).all()


def test_a_column_of_zeros_stays_one() -> None:
    weight = np.zeros((3, 2), np.float32)
    weight[:, 1] = [1, -2, 3]
    found = columns(weight)
    assert np.isfinite(found.scales).all()
    np.testing.assert_array_equal(found.codes[:, 0], 0)


def test_units_hold_the_peaks_and_waste_no_steps(rng: np.random.Generator) -> None:
    peaks = rng.uniform(0.1, 30, 16).astype(np.float32)
    steps = peaks / units(peaks, rng.normal(0, 1, (16, 5)).astype(np.float32))
    assert steps.max() == pytest.approx(STEPS, rel=1e-5)


def test_units_of_unused_channels_are_positive() -> None:
    unit = units(np.array([0, 2, 3], np.float32), np.array([[1.0], [0.0], [1.0]], np.float32))
    assert np.isfinite(unit).all()
    assert (unit > 0).all()


def test_a_channel_of_outliers_costs_the_others_little(rng: np.random.Generator) -> None:
    """The product of integers is the product of reals, and nearer to it than with one unit for all channels."""
    values = rng.normal(0, 1, (200, 64)).astype(np.float32)
    values[:, 3] *= 40
    weight = rng.normal(0, 1, (64, 32)).astype(np.float32)
    weight[3] /= 40
    peaks = np.abs(values).max(axis=0)
    exact = values @ weight

    def error(unit: np.ndarray) -> float:
        codes = np.clip(np.rint(values / unit) + MIDDLE, 0, 255).astype(int)
        held = columns(weight * unit[:, None])
        product = (codes - MIDDLE) @ held.codes.astype(int) * held.scales
        return float(np.linalg.norm(product - exact) / np.linalg.norm(exact))

    own, same = error(units(peaks, weight)), error(np.full(64, peaks.max() / STEPS, np.float32))
    assert own < 0.015
    assert own < same / 3
