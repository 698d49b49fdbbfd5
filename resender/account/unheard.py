"""Order calls that Binance accepted and no event has told of yet: a stream that says nothing of one leaves things out.

A snapshot may show what such a call has done and answers go on; the stream is not to be trusted all the same.
One `Unheard` belongs to one account. Units: monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from resender.core.account.calls import Change
from resender.core.account.writes import SUSPECT_S

_MAX_CALLS = 2000
_MAX_HEARD = 5000


@dataclass(frozen=True, slots=True)
class _Call:
    numbers: frozenset[int]
    is_algo: bool
    until_mono: float


class Unheard:
    """The calls of one account. Of several orders that one call names, an event of one is enough."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        # When orders were last told of, the newest last.
        self._heard: OrderedDict[tuple[bool, int], float] = OrderedDict()

    def clear(self) -> None:
        """Another stream begins."""
        self._calls.clear()

    def accepted(self, change: Change, body: bytes, sent_mono: float, mono: float) -> None:
        """Take Binance's good answer to a call."""
        if change not in (Change.ORDERS, Change.ALGO) or len(self._calls) >= _MAX_CALLS:
            return
        is_algo = change is Change.ALGO
        numbers = frozenset(_numbers(orjson.loads(body), "algoId" if is_algo else "orderId"))
        if numbers and not any(self._heard.get((is_algo, each), -1.0) >= sent_mono for each in numbers):
            self._calls.append(_Call(numbers, is_algo, mono + SUSPECT_S))

    def heard(self, number: int, mono: float, *, is_algo: bool) -> None:
        """An event told of an order."""
        self._heard[is_algo, number] = mono
        self._heard.move_to_end((is_algo, number))
        if len(self._heard) > _MAX_HEARD:
            self._heard.popitem(last=False)
        if self._calls:
            self._calls = [
                each for each in self._calls if each.is_algo is not is_algo or number not in each.numbers
            ]

    def is_overdue(self, mono: float) -> bool:
        return any(mono > each.until_mono for each in self._calls)


def _numbers(told: object, name: str) -> Iterator[int]:
    """Yield the numbers of all orders an answer names, however deep."""
    if isinstance(told, list):
        for each in told:
            yield from _numbers(each, name)
    elif isinstance(told, dict):
        number = told.get(name)
        if type(number) is int:
            yield number
        for each in told.values():
            if isinstance(each, (list, dict)):
                yield from _numbers(each, name)
