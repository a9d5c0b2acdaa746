"""Who has to make room for whom."""

from __future__ import annotations

import asyncio

import pytest

from service.bodies import Arrival, Bodies
from service.errors import Overloaded


def test_a_client_is_waited_for_as_long_as_it_keeps_up() -> None:
    arrival = Arrival(100.0, 10.0, lambda: None)
    assert arrival.due == 110
    arrival.came(20_000, 101.0)  # twice as fast as it must be: nothing is saved up
    assert arrival.due == 111
    arrival.came(5_000, 102.0)
    assert arrival.due == 111.5
    arrival.came(1, 111.4)
    assert arrival.due == pytest.approx(111.5, abs=0.001)


def test_who_is_furthest_behind_goes_first_and_who_keeps_up_stays() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time()
        bodies, cut = Bodies(100), []

        def arrival(name: str, begun: float) -> Arrival:
            def let_go() -> None:
                cut.append(name)
                bodies.give_back(40)

            bodies.take(40)
            return Arrival(now - begun, 10.0, let_go)

        with bodies.expecting(arrival("slow", 5)), bodies.expecting(arrival("slower", 8)):
            bodies.check(20)
            assert cut == []
            bodies.check(30)
            assert cut == ["slower"]
            bodies.take(30)
            bodies.check(60)
            assert cut == ["slower", "slow"]
            with bodies.expecting(arrival("good", 0.5)), pytest.raises(Overloaded):
                bodies.check(60)
        assert cut == ["slower", "slow"]

    asyncio.run(main())


def test_what_is_its_own_is_in_nobodys_way() -> None:
    bodies = Bodies(100)
    bodies.take(90)
    bodies.check(1_000, own=90)
    with pytest.raises(Overloaded):
        bodies.check(1_000, own=89)
