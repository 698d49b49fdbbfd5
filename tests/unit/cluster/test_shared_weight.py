from __future__ import annotations

from typing import Any, cast

from resender.cluster.shared_weight import SharedWeight
from resender.core.binance.markets import Market
from resender.core.weights.rules import Charge

CHARGE = Charge(4, "spot")


class Part:
    """Leases or a link: notes what it is told."""

    def __init__(self, name: str, said: list[str], *, has_room: bool = False) -> None:
        self.name, self.said, self.has_room = name, said, has_room
        self.asked = 3

    def start(self) -> Any:
        self.said.append(f"start {self.name}")
        return self._done()

    def stop(self) -> Any:
        self.said.append(f"stop {self.name}")
        return self._done()

    async def _done(self) -> None: ...

    async def ask(self, *asked: object) -> bool:
        self.said.append(f"ask {self.name}")
        return self.has_room

    def wish(self, *wished: object) -> None:
        self.said.append(f"wish {self.name}")

    def closed(self) -> None:
        self.said.append(f"closed {self.name}")


class Link(Part):
    def start(self) -> Any:
        self.said.append(f"start {self.name}")


def made(**rooms: bool) -> tuple[SharedWeight, list[str]]:
    said: list[str] = []
    leases = [Part(name, said, has_room=has_room) for name, has_room in rooms.items()]
    return SharedWeight(cast(Any, leases), cast(Any, [Link("link", said)])), said


async def test_links_come_first_and_go_last() -> None:
    shared, said = made(own=False, common=False)
    await shared.start()
    await shared.stop()
    assert said == ["start link", "start own", "start common", "stop own", "stop common", "stop link"]


async def test_all_are_asked_until_one_has_room() -> None:
    shared, said = made(own=False, common=True, other=True)
    assert await shared.ask(Market.SPOT, CHARGE, None)
    assert said == ["ask own", "ask common"]
    shared, _ = made(own=False, common=False)
    assert not await shared.ask(Market.SPOT, CHARGE, None)


def test_all_are_told() -> None:
    shared, said = made(own=False, common=False)
    shared.wish(Market.SPOT, CHARGE)
    shared.closed()
    assert said == ["wish own", "wish common", "closed own", "closed common"]
    assert shared.asked == 6
