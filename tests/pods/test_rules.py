"""The kubelet's own rules, without any pod: what it makes of quantities, references, answers and percentages."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.pods.deployment import share
from tests.pods.environment import environment, expand, field
from tests.pods.keeper import backoff
from tests.pods.objects import NotConfigured, Object, Objects
from tests.pods.probes import Tally
from tests.pods.quantities import number

POD: Object = {
    "metadata": {"name": "one", "labels": {"app.kubernetes.io/name": "embedserve"}},
    "spec": {},
    "status": {"podIP": "198.18.0.2"},
}


@pytest.mark.parametrize(
    ("quantity", "value"), [("250m", 0.25), ("1Gi", 2**30), ("1.5", 1.5), (2, 2), ("1e3", 1000), ("100M", 10**8)]
)
def test_quantities(quantity: str | int, value: float) -> None:
    assert number(quantity) == value


@pytest.mark.parametrize("quantity", ["", "1GB", "1 Gi", "many"])
def test_what_is_no_quantity(quantity: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        number(quantity)


def test_references_to_variables() -> None:
    variables = {"NAME": "value"}
    assert expand("$(NAME), $$(NAME), $(OTHER), $NAME", variables) == "value, $(NAME), $(OTHER), $NAME"


def test_fields_of_a_pod() -> None:
    assert field("status.podIP", POD) == "198.18.0.2"
    assert field("metadata.labels['app.kubernetes.io/name']", POD) == "embedserve"


def test_an_environment_in_the_order_of_its_sources() -> None:
    service = {"kind": "Service", "metadata": {"name": "embedserve"}, "spec": {"ports": [{"port": 80}]}}
    config = {"kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"A": "1", "B": "2"}}
    env: list[Object] = [{"name": "B", "value": "3"}, {"name": "C", "value": "$(A)$(B)"}]
    env.append({"name": "D", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}})
    container = {"envFrom": [{"configMapRef": {"name": "config"}}], "env": env}
    found = environment(container, POD, Objects([service, config]))
    assert {name: found.get(name) for name in "ABCD"} == {"A": "1", "B": "3", "C": "13", "D": None}
    assert found["EMBEDSERVE_PORT"] == "tcp://10.96.0.10:80"
    closed = {**POD, "spec": {"enableServiceLinks": False}}
    assert "EMBEDSERVE_PORT" not in environment(container, closed, Objects([service, config]))


def test_an_environment_from_what_is_missing() -> None:
    container = {"env": [{"name": "D", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]}
    with pytest.raises(NotConfigured, match='secret "none" not found'):
        environment(container, POD, Objects([]))


def test_answers_count_when_enough_came_in_a_row() -> None:
    tally = Tally({"failureThreshold": 3, "successThreshold": 2}, verdict=True)
    answers = [False, False, True, False, False, False, True, True, False]
    counted = [tally.add(well) for well in answers]
    assert counted == [False, False, False, False, False, True, False, True, False]
    assert tally.verdict


def test_starts_are_put_off_as_the_kubelet_does() -> None:
    assert list(itertools.islice(backoff(), 9)) == [0, 0, 10, 20, 40, 80, 160, 300, 300]


def test_percentages_of_pods() -> None:
    assert [share("25%", n, math.ceil) for n in (1, 4, 5)] == [1, 1, 2]
    assert [share("25%", n, math.floor) for n in (1, 4, 5)] == [0, 1, 1]
    assert share(3, 10, math.ceil) == 3
