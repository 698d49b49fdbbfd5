"""A made-up order book that changes at random, and every state it has been in lately.

It knows nothing of the program: levels are two dictionaries, an update changes some of them, a socket cuts
what happened since it was asked last into an event, a read shows any state of the past. Numbers around the
levels are functions of the update id, so that a whole body can be compared byte by byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import orjson

from resender.core.binance.markets import Market

_KEPT = 4000


class ModelSocket:
    """One subscription: the update it has told of last."""

    def __init__(self, update_id: int) -> None:
        self.update_id = update_id


class ModelBook:
    """The book of one symbol.

    Shape: `depth` levels a side or so; `update_id` the newest update. Ids follow each other on spot; on
        futures some belong to other symbols.
    """

    def __init__(self, market: Market, random: Random, depth: int = 120) -> None:
        self.market = market
        self.symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
        self._random = random
        self._depth = depth
        self._middle = 1_000_000
        self.update_id = 5_000_000_000
        # Quantities by price, in ticks and lots: bids, asks.
        self._sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        # What it was before: the update and the quantities it replaced. The ids in order, oldest first.
        self._past: deque[tuple[int, list[tuple[int, int, int]]]] = deque(maxlen=_KEPT)
        self._ids: deque[int] = deque([self.update_id], maxlen=_KEPT)
        for is_ask in (0, 1):
            for offset in random.sample(range(1, depth * 2), depth):
                self._sides[is_ask][self._middle + (offset if is_ask else -offset)] = self._quantity()

    def _quantity(self) -> int:
        return self._random.randrange(1, 50_000)

    def update(self) -> None:
        """Change some levels; the price may move through others."""
        random = self._random
        step = 1 if self.market is Market.SPOT else random.randrange(1, 5)
        self._move(self.update_id + step)

    def restart(self, *, is_back: bool) -> None:
        """Let ids begin elsewhere."""
        jump = 100_000_000
        self._move(self.update_id + (-jump if is_back else jump))

    def _move(self, update_id: int) -> None:
        random = self._random
        wanted: list[tuple[int, int, int]] = []
        if random.random() < 0.3:
            self._middle += random.choice((-7, -2, -1, 1, 2, 7))
            for is_ask, side in enumerate(self._sides):
                gone = [p for p in side if (p <= self._middle if is_ask else p >= self._middle)]
                wanted += [(is_ask, price, 0) for price in gone]
        for _ in range(random.randrange(1, 12)):
            is_ask = random.randrange(2)
            offset = 1 + int(random.expovariate(1 / (self._depth / 2)))
            price = self._middle + (offset if is_ask else -offset)
            wanted.append((is_ask, price, 0 if random.random() < 0.25 else self._quantity()))
        for is_ask, side in enumerate(self._sides):
            if len(side) > self._depth * 2:
                worst = max(side) if is_ask else min(side)
                wanted.append((is_ask, worst, 0))
        undo = []
        for is_ask, price, quantity in wanted:
            side = self._sides[is_ask]
            undo.append((is_ask, price, side.get(price, 0)))
            if quantity:
                side[price] = quantity
            else:
                side.pop(price, None)
        self._past.append((update_id, undo))
        self._ids.append(update_id)
        self.update_id = update_id

    # -- the past ---------------------------------------------------------------------------

    def knows(self, update_id: int) -> bool:
        """Tell whether its state after an update can still be told."""
        return update_id in self._ids

    def recent(self, back: int) -> int:
        """Return the id of so many updates ago, or of the oldest it knows."""
        return self._ids[max(0, len(self._ids) - 1 - back)]

    def levels(self, update_id: int, limit: int) -> list[list[list[str]]]:
        """Return bids and asks after an update."""
        sides = list(self._sides)
        if update_id != self.update_id:
            sides = [dict(side) for side in sides]
            for newer, undo in reversed(self._past):
                if newer == update_id:
                    break
                for is_ask, price, quantity in reversed(undo):
                    if quantity:
                        sides[is_ask][price] = quantity
                    else:
                        sides[is_ask].pop(price, None)
        best = sorted(sides[0], reverse=True)[:limit], sorted(sides[1])[:limit]
        return [[[_price(p), _lots(side[p])] for p in b] for b, side in zip(best, sides, strict=True)]

    def rest(self, update_id: int, limit: int) -> dict[str, Any]:
        """Return what REST answers when its newest update is this one."""
        body: dict[str, Any] = {"lastUpdateId": update_id}
        if self.market is not Market.SPOT:
            body |= {"E": 7 * update_id, "T": 3 * update_id}
        if self.market is Market.CM:
            body |= {"symbol": self.symbol, "pair": "BTCUSD"}
        bids, asks = self.levels(update_id, limit)
        return body | {"bids": bids, "asks": asks}

    def body(self, update_id: int, limit: int) -> bytes:
        return orjson.dumps(self.rest(update_id, limit))

    # -- streams ----------------------------------------------------------------------------

    def cut(self, socket: ModelSocket) -> dict[str, Any] | None:
        """Return the changes since the last cut of a socket as one event, None if there are none.

        Shape: after ids began elsewhere it tells of what came since then only.
        """
        told, sets, first = socket.update_id, ({}, {}), 0
        for update_id, undo in self._since(told):
            first = first or update_id
            for is_ask, price, _ in undo:
                sets[is_ask][price] = 0
        if not first:
            return None
        socket.update_id = last = self.update_id
        levels = [
            [[_price(price), _lots(side.get(price, 0))] for price in changed]
            for changed, side in zip(sets, self._sides, strict=True)
        ]
        data = {"e": "depthUpdate", "E": 7 * last, "T": 3 * last, "s": self.symbol, "U": first, "u": last}
        if self.market is not Market.SPOT:
            data["pu"] = told if abs(first - told) < 50_000_000 else first - 1
        if self.market is Market.CM:
            data["ps"] = "BTCUSD"
        return data | {"b": levels[0], "a": levels[1]}

    def _since(self, told: int) -> list[tuple[int, list[tuple[int, int, int]]]]:
        found = []
        for each in reversed(self._past):
            if each[0] == told:
                break
            found.append(each)
        found.reverse()
        for number, (older, newer) in reversed(list(enumerate(pairwise(found)))):
            if abs(newer[0] - older[0]) > 50_000_000:
                return found[number + 1 :]
        return found

    def frame(self) -> dict[str, Any]:
        """Return the best levels as the partial stream does."""
        rest = self.rest(self.update_id, 20)
        if self.market is Market.SPOT:
            return rest
        data = {"e": "depthUpdate", "E": rest["E"], "T": rest["T"], "s": self.symbol, "ps": "BTCUSD",
                "U": self.update_id, "u": self.update_id, "pu": self.update_id - 1}  # fmt: skip
        return data | {"b": rest["bids"], "a": rest["asks"]}

    def sockets(self, count: int) -> Iterator[ModelSocket]:
        """Subscribe: each tells of what happens from now on."""
        for _ in range(count):
            yield ModelSocket(self.update_id)


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}"


def _lots(lots: int) -> str:
    return f"{lots // 1000}.{lots % 1000:03d}"
