"""The order book of one symbol as a function of its update id, whole or as a difference.

Pure apart from the update ids it is given (`update_ids.py`): the book at an id is always the
same, so REST, both kinds of depth streams and bookTicker are views of one book, and a test can
ask for the book that belongs to any answer.

Levels stand on a grid of prices around the best bid and ask, which follow the symbol's price.
What stands at a price is a hash of the price and of how often it has changed; near the best
prices levels change every few updates, elsewhere each at its turn, so that one update touches
a bounded number of them however deep the book is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd
from typing import NamedTuple

from .prices import STEP_MS, PricePath, mix
from .symbols import SymbolSpec
from .update_ids import UpdateIds

Level = tuple[int, int]
_MASK = (1 << 64) - 1
_NEAR = 12  # levels next to the best price that change all the time
_NEAR_EVERY = 4  # updates
_TURNS = 12  # deep levels that change in one update, about
_BID, _ASK = 0x5851F42D4C957F2D, 0x14057B7EF767814F
_KEPT_TOPS = 512
_MOST_STEPS = 256  # updates of one event that are told one by one


class Top(NamedTuple):
    """Best bid and ask of one update, in ticks and lot steps."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int
    at_ms: int


class Book:
    """All levels of one symbol.

    Units: prices in ticks, quantities in lot steps; `levels` is how many a side are promised,
        `stride` the distance of the grid in ticks, 0 lets the symbol's liveliness decide.
    """

    def __init__(
        self, seed: int, spec: SymbolSpec, path: PricePath, ids: UpdateIds, levels: int, stride: int
    ) -> None:
        self.spec = spec
        self.ids = ids
        self._path = path
        self._key = mix(seed, spec.price_ticks, *spec.symbol.encode())
        # Some three levels in five are taken.
        self._slots = levels * 7 // 4 + 4 * _NEAR
        self.stride = stride or max(1, path.step // 4)
        self._turn = max(64, 2 * self._slots // _TURNS)
        factor = self._turn * 5 // 8 | 1
        while gcd(factor, self._turn) != 1:
            factor += 2
        self._factor = factor
        self._inverse: int = pow(factor, -1, self._turn)
        self._unit: int = 10 ** max(0, spec.qty_decimals - 1)
        self._tops: dict[int, Top] = {}

    def top(self, update_id: int) -> Top:
        """Return the best bid and ask of an update."""
        found = self._tops.get(update_id)
        if found is None:
            if len(self._tops) >= _KEPT_TOPS:
                self._tops.clear()
            found = self._tops[update_id] = self._make_top(update_id)
        return found

    def _make_top(self, update_id: int) -> Top:
        at_ms = max(self.ids.time_of(update_id), self.spec.listed_ms)
        price = self._path.price_at(at_ms // STEP_MS * STEP_MS)
        noise, unit = mix(update_id), self._unit
        bid = price - noise % 3
        ask = bid + 1 + (noise >> 8) % 2
        return Top(
            bid, unit + (noise >> 16) % (50 * unit), ask, unit + (noise >> 32) % (50 * unit), at_ms
        )  # fmt: skip

    def forget(self) -> None:
        """Drop what is remembered of updates whose time has changed."""
        self._tops.clear()

    def bids(self, update_id: int) -> Iterator[Level]:
        """Yield the bids of an update, the best first."""
        side = _Side(self, update_id, is_bid=True)
        yield side.best, side.best_qty
        for slot in range(side.first, side.last - 1, -1):
            qty = side.at_slot(slot)
            if qty:
                yield slot * self.stride, qty

    def asks(self, update_id: int) -> Iterator[Level]:
        """Yield the asks of an update, the best first."""
        side = _Side(self, update_id, is_bid=False)
        yield side.best, side.best_qty
        for slot in range(side.first, side.last + 1):
            qty = side.at_slot(slot)
            if qty:
                yield slot * self.stride, qty

    def changes(self, before: int, newest: int) -> tuple[list[Level], list[Level]]:
        """Return what differs between two updates, bids and asks, the best first.

        Shape: the new quantity of a price, 0 for a level that is gone.
        """
        found = []
        for is_bid in (True, False):
            old, new = _Side(self, before, is_bid), _Side(self, newest, is_bid)
            changed = []
            for price in self._touched(old, new, before, newest):
                qty = new.at_price(price)
                if qty != old.at_price(price):
                    changed.append((price, qty))
            changed.sort(reverse=is_bid)
            found.append(changed)
        return found[0], found[1]

    def told(self, before: int, newest: int) -> tuple[list[Level], list[Level]]:
        """Return what an event tells of the updates after `before`, bids and asks, the best first.

        Shape: each level that one of them changed as it stands at `newest`, also if it is again what it was:
            who has read the book in between needs it. Of very many updates only what differs.
        """
        if newest - before == 1 or newest - before > _MOST_STEPS:
            return self.changes(before, newest)
        prices: tuple[set[int], set[int]] = set(), set()
        for update_id in range(before + 1, newest + 1):
            for side, changed in zip(prices, self.changes(update_id - 1, update_id), strict=True):
                side.update(price for price, _ in changed)
        bids, asks = (_Side(self, newest, is_bid) for is_bid in (True, False))
        return (
            [(price, bids.at_price(price)) for price in sorted(prices[0], reverse=True)],
            [(price, asks.at_price(price)) for price in sorted(prices[1])],
        )

    def _touched(self, old: _Side, new: _Side, before: int, newest: int) -> set[int]:
        low, high = min(old.low, new.low), max(old.high, new.high)
        stride, turn = self.stride, self._turn
        slots: set[int] = set()
        if newest - before >= turn or old.high < new.low or new.high < old.low:
            slots.update(range(low, high + 1))
        else:
            # Where one of the two books ends, and where it begins.
            slots.update(range(low, max(old.low, new.low)), range(min(old.high, new.high) + 1, high + 1))
            slots.update(old.near(), new.near())
            for update_id in range(before + 1, newest + 1):
                turned = update_id * self._factor % turn
                slots.update(range(low + (turned - low) % turn, high + 1, turn))
        prices = {slot * stride for slot in slots}
        prices.update((old.best, new.best))
        return prices


class _Side:
    """One side of a book at one update."""

    __slots__ = (
        "_book", "_mark", "_near_mark", "_update_id", "best", "best_qty", "first", "high", "is_bid", "last",
        "low", "near_high", "near_low",
    )  # fmt: skip

    def __init__(self, book: Book, update_id: int, is_bid: bool) -> None:
        top = book.top(update_id)
        self._book = book
        self._update_id = update_id
        self.is_bid = is_bid
        if is_bid:
            self.best, self.best_qty = top.bid, top.bid_qty
            self.first = (self.best - 1) // book.stride
            self.last = max(1, self.first - book._slots)
            self.low, self.high = self.last, self.first
            self.near_low, self.near_high = max(self.low, self.first - _NEAR), self.first
        else:
            self.best, self.best_qty = top.ask, top.ask_qty
            self.first = self.best // book.stride + 1
            self.last = self.first + book._slots
            self.low, self.high = self.first, self.last
            self.near_low, self.near_high = self.first, self.first + _NEAR
        self._mark = (_BID if is_bid else _ASK) ^ book._key
        self._near_mark = self._mark ^ 0x2545F4914F6CDD1D

    def near(self) -> Iterable[int]:
        return range(self.near_low, self.near_high + 1)

    def at_slot(self, slot: int) -> int:
        """Return what stands at a price of the grid that is worse than the best."""
        book, mark = self._book, self._mark
        if self.near_low <= slot <= self.near_high:
            mark, taken = self._near_mark, 6
            version = (self._update_id + slot * 7) // _NEAR_EVERY
        else:
            taken = 5
            version = (self._update_id - slot * book._inverse % book._turn) // book._turn
        noise = (slot * 0x9E3779B97F4A7C15 ^ version * 0xBF58476D1CE4E5B9 ^ mark) & _MASK
        noise = (noise ^ noise >> 31) * 0x94D049BB133111EB & _MASK
        noise ^= noise >> 29
        if noise & 7 >= taken:
            return 0
        return book._unit + (noise >> 8) % (60 * book._unit)

    def at_price(self, price: int) -> int:
        """Return what stands at any price, 0 for nothing."""
        if price == self.best:
            return self.best_qty
        slot, rest = divmod(price, self._book.stride)
        if rest or not self.low <= slot <= self.high:
            return 0
        return self.at_slot(slot)
