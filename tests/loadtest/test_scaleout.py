"""What the rounds of loadtest.scaleout become."""

from __future__ import annotations

from loadtest.scaleout import ALONE, TARGET, Rate, rated_figures


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"3 pods": Rate(90, 11.0), ALONE: Rate(100, 10.0)},
        {ALONE: Rate(50, 10.0), "3 pods": Rate(47, 12.5)},  # the machine was busy
        {"3 pods": Rate(88, 10.0), ALONE: Rate(100, 10.0)},
    ]
    found = {(one.topic, one.name): one for one in rated_figures(rounds)}
    assert [one.topic for one in found.values()] == [ALONE] * 2 + ["3 pods"] * 4
    assert found[ALONE, "throughput"].value == 100
    assert found["3 pods", f"÷ {ALONE}"].value == 0.9
    assert found["3 pods", f"÷ {ALONE} by CPU time"].value == 10 / 11
    assert found["3 pods", f"÷ {ALONE}"].at_least == TARGET
