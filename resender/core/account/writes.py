"""Read your own writes: what the events must have told before an answer out of memory is newer than a write.

A client that has Binance's answer to an order never gets an older list of orders. Each accepted write leaves
expectations; until the events have come answers about what it touched are not proven. Pure.
Units: monotonic seconds; `_ms` epoch milliseconds of the exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from resender.core.account.calls import Change
from resender.core.account.dialects import OPEN, BadEvent, Key, moment_ms, number
from resender.core.account.orders import Orders

# An accepted order whose event has not come by then: the stream is not to be trusted.
SUSPECT_S = 2.0
# Binance may or may not have done it. Source: errors.md of 2026-07-21.
UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007, -1008, -1016, -5028})
# Parts of it may have been done.
_PARTIAL_CODES = frozenset({-2021, -2022})
# HTTP's word for -1007.
_REQUEST_TIMEOUT = 408
_MAX_EXPECTED = 2000


@dataclass(slots=True)
class Expected:
    """One thing an event has to tell.

    Shape: an order of this key; all that were open, if `key` is None. `is_algo` tells of which kind.
    """

    symbol: str | None
    key: Key | None
    is_algo: bool
    until_mono: float
    executed: Decimal = Decimal(0)
    has_ended: bool = False
    # Of an amended order: what it has to be now, unless it has been changed again after `time_ms`.
    values: dict[str, Any] = field(default_factory=dict)
    time_ms: int = 0
    before_ms: int = 0
    # Of a cancellation of all: not over before then, orders on their way could still show up.
    from_mono: float = 0.0

    def is_told(self, orders: Orders, mono: float) -> bool:
        """Tell whether the events have told it."""
        if self.key is None:
            if mono < self.from_mono:
                return False
            return not any(
                (self.symbol is None or key[0] == self.symbol) and held.created_ms <= self.before_ms
                for key, held in orders.open.items()
            )
        held = orders.open.get(self.key) or orders.ended.get(self.key)
        if held is None or (held.event is None and not held.signs and held.rest is None):
            return False
        if not held.is_open:
            return True
        if self.has_ended or held.executed < self.executed:
            return False
        if held.time_ms > self.time_ms > 0:
            return True
        return all(_is_equal(held.value(name), value) for name, value in self.values.items())


def _is_equal(known: object, told: object) -> bool:
    try:
        return known == told or number(known) == number(told)
    except BadEvent:
        return False


class Writes:
    """The expectations of one account.

    Shape: `wait_s` is how long answers about a cancellation of all are held back at least.
    """

    def __init__(self, orders: Orders, algo: Orders | None, wait_s: float) -> None:
        self._orders = orders
        self._algo = algo
        self._wait_s = wait_s
        self._expected: list[Expected] = []
        # Orders of a symbol that are to be cancelled then, unless it is put off again.
        self._countdowns: dict[str, float] = {}

    def clear(self) -> None:
        """All is to be read anew anyway."""
        self._expected.clear()

    # --- what was done ---------------------------------------------------------------------

    def answered(
        self, change: Change, params: Mapping[str, str], status: int, body: bytes, *,
        sent_mono: float, mono: float, now_ms: int,
    ) -> bool:  # fmt: skip
        """Take Binance's answer to a write; return False if nobody knows what it has done.

        Units: `sent_mono` when it was sent, `now_ms` the exchange's time, at the latest.
        """
        try:
            told = orjson.loads(body) if body else None
        except ValueError:
            told = None
            if status == 200:
                return False
        code = _code_of(told)
        if status >= 500 or status == _REQUEST_TIMEOUT or (status != 200 and code in UNKNOWN_CODES):
            return False
        if status != 200 and status < 400:
            return False
        if status != 200 and code not in _PARTIAL_CODES:
            return True
        symbol = params.get("symbol", "").upper() or None
        if change is Change.UNKNOWN:
            return False
        if change is Change.COUNTDOWN:
            return self._count_down(symbol, params, sent_mono)
        until = mono + SUSPECT_S
        # Orders that are placed while it is on its way, and after it, are none of those it has cancelled.
        sent_ms = now_ms - round((mono - sent_mono) * 1000)
        if change in (Change.ALL, Change.ALL_ALGO):
            self._add(
                Expected(
                    symbol, None, change is Change.ALL_ALGO, until + self._wait_s,
                    before_ms=sent_ms, from_mono=mono + self._wait_s,
                )
            )  # fmt: skip
            return True
        if change not in (Change.ORDERS, Change.ALGO):
            return True
        found = 0
        time_ms = _time_of(told)
        amended = _amended_pair(told)
        for row in _rows(told):
            if _code_of(row) in UNKNOWN_CODES:
                return False
            expected = self._of_row(row, symbol, change is Change.ALGO, until)
            if expected is not None:
                found += 1
                expected.time_ms = expected.time_ms or time_ms
                expected.values = expected.values or amended
                self._add(expected)
        return bool(found) or _is_refusal(told)

    def _count_down(self, symbol: str | None, params: Mapping[str, str], sent_mono: float) -> bool:
        text = params.get("countdownTime", "")
        if symbol is None or not (text.isascii() and text.isdigit()) or len(text) > 12:
            return False
        if int(text) == 0:
            self._countdowns.pop(symbol, None)
        else:
            self._countdowns[symbol] = sent_mono + int(text) / 1000
        return True

    def _of_row(
        self, row: Mapping[str, Any], symbol: str | None, is_algo: bool, until: float
    ) -> Expected | None:
        name = row.get("symbol", symbol)
        order_id = row.get("algoId" if is_algo else "orderId")
        if name is None and is_algo and type(order_id) is int and self._algo is not None:
            # Conditional orders are cancelled by their number alone, and the answer names no symbol.
            held = self._algo.find(None, order_id, None)
            name = None if held is None else held.key[0]
        if not isinstance(name, str) or type(order_id) is not int:
            return None
        status = row.get("algoStatus" if is_algo else "status")
        try:
            executed = number(row.get("executedQty"))
        except BadEvent:
            executed = Decimal(0)
        values = {}
        is_open = not isinstance(status, str) or status in OPEN
        if is_open and status is not None and not is_algo:
            for told, known in (("price", "price"), ("origQty", "origQty"), ("qty", "origQty")):
                if told in row and _is_number(row[told]) and number(row[told]):
                    values[known] = row[told]
        # An algo order's answer to a cancellation names no state.
        has_ended = not is_open or (is_algo and status is None)
        return Expected(
            name, (name, order_id), is_algo, until, executed=executed, has_ended=has_ended, values=values,
            time_ms=_time_of(row),
        )  # fmt: skip

    def _add(self, expected: Expected) -> None:
        if len(self._expected) < _MAX_EXPECTED:
            self._expected.append(expected)
        else:
            # Which are left out is not known: only the next snapshots are.
            for is_algo in (False, True):
                self._expected[-1 - is_algo] = Expected(
                    None, None, is_algo, expected.until_mono, from_mono=float("inf")
                )

    # --- what was told ---------------------------------------------------------------------

    def settle(self, mono: float, now_ms: int) -> None:
        """Drop what the events have told by now; start what was to be cancelled at this time."""
        for symbol, at in list(self._countdowns.items()):
            if mono >= at:
                del self._countdowns[symbol]
                # Only if it has run out; nobody tells otherwise.
                self._add(
                    Expected(
                        symbol, None, False, mono + SUSPECT_S + self._wait_s,
                        before_ms=now_ms - round((mono - at) * 1000), from_mono=mono + self._wait_s,
                    )
                )  # fmt: skip
        if self._expected:
            self._expected = [each for each in self._expected if not self._is_told(each, mono)]

    def _is_told(self, expected: Expected, mono: float) -> bool:
        orders = self._algo if expected.is_algo else self._orders
        return orders is None or expected.is_told(orders, mono)

    def is_pending(self, symbol: str | None, *, is_algo: bool = False) -> bool:
        """Tell whether something about a symbol, or about any, is still to be told."""
        return any(
            each.is_algo is is_algo and (symbol is None or each.symbol in (None, symbol))
            for each in self._expected
        )

    def overdue(self, mono: float) -> bool:
        """Tell whether an event has not come that should have."""
        return any(mono > each.until_mono for each in self._expected)

    @property
    def count(self) -> int:
        return len(self._expected)


def _is_number(value: object) -> bool:
    try:
        number(value)
    except BadEvent:
        return False
    return True


def _code_of(told: object) -> int | None:
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, int) else None


def _time_of(row: object) -> int:
    """Return when an answer says that it was done, 0 if it does not."""
    if not isinstance(row, dict):
        return 0
    try:
        return moment_ms(row.get("updateTime", row.get("transactTime", 0)))
    except BadEvent:
        return 0


def _amended_pair(told: object) -> dict[str, Any]:
    """Return what each order of a pair has to be after one of them was amended: their quantity is the same."""
    if not isinstance(told, dict):
        return {}
    amended, listed = told.get("amendedOrder"), told.get("listStatus")
    if (
        not isinstance(amended, dict)
        or not isinstance(listed, dict)
        or listed.get("contingencyType") != "OCO"
    ):
        return {}
    return {"origQty": amended["qty"]} if "qty" in amended else {}


def _is_refusal(told: object) -> bool:
    """Tell whether an answer says by itself that no order was touched: errors in each of its parts."""
    if isinstance(told, list):
        return all((_code_of(each) or 0) < 0 for each in told)
    return (_code_of(told) or 0) < 0


def _rows(told: object) -> Iterator[Mapping[str, Any]]:
    """Yield every object of an answer, however deep: orders stand in lists, reports and replies of both parts."""
    if isinstance(told, list):
        for each in told:
            yield from _rows(each)
    elif isinstance(told, dict):
        yield told
        for each in told.values():
            if isinstance(each, (list, dict)):
                yield from _rows(each)
