"""The newest trades of one symbol, aggregated or single: rows as REST writes them, ids without a hole.

Pure. Events and REST rows meet where they overlap; a row that both show has to be the same text. Reads and
streams are the cache's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

import orjson

from resender.core.market.kept_json import kept_json

MAX_ROWS = 1000
# Two sockets that overlap repeat events in turn; so many in a row mean that ids started over.
_MAX_OLDER = 1000
# Answers of so many lengths are kept written down until the next trade.
_MAX_BODIES = 8

Row = tuple[int, bytes]


class FormDiffers(ValueError):
    """REST writes what no event brings, or writes it differently."""


class TradeForm:
    """How REST writes a trade of a stream, learned from its rows and shared by a market.

    Shape: `id_of` is the name of the id in events, `rest_id` in rows. Source: spot rest-api.md and
        web-socket-streams.md of 2026-07-21; binance-connector-python (um, cm) of 2026-08-21.
    """

    id_of: str
    rest_id: str

    def __init__(self) -> None:
        self.is_learned = False

    def learn(self, row: dict[str, Any]) -> None:
        """Take a REST row.

        Raises: FormDiffers if it is written another way than those before, TypeError or ValueError if it is
            no trade.
        """
        raise NotImplementedError

    def encode(self, event: dict[str, Any]) -> bytes | None:
        """Return an event as REST writes it, None if one of its texts is not known for certain.

        Raises: KeyError, TypeError or ValueError if it is no trade.
        """
        raise NotImplementedError


class AggregateForm(TradeForm):
    """Aggregated trades: rows have the names of the stream, fewer of them."""

    id_of = rest_id = "a"
    # What is no trade without them; a broken answer must teach nothing.
    _NEEDED: ClassVar[dict[str, type]] = {
        "a": int,
        "p": str,
        "q": str,
        "f": int,
        "l": int,
        "T": int,
        "m": bool,
    }

    def __init__(self) -> None:
        super().__init__()
        # The keys in their order, with the type each value has.
        self._types: dict[str, type] = {}

    def learn(self, row: dict[str, Any]) -> None:
        types = {key: type(value) for key, value in row.items()}
        if self.is_learned and list(types.items()) == list(self._types.items()):
            return
        if any(types.get(key) is not wanted for key, wanted in self._NEEDED.items()):
            raise TypeError("an aggregate that lacks something")
        if self.is_learned:
            # What was written down before would not be what REST shows now, or the other way round.
            raise FormDiffers(f"trades with the keys {_few(self._types)}, and with {_few(types)}")
        self._types = types
        self.is_learned = True

    def encode(self, event: dict[str, Any]) -> bytes | None:
        row = {}
        for key, wanted in self._types.items():
            if key not in event:
                raise FormDiffers(f"REST has {key!r}, which the stream has not")
            row[key] = value = event[key]
            if type(value) is not wanted:
                raise TypeError(f"a trade whose {key} is no {wanted.__name__}")
        return kept_json(row)


def _few(keys: Iterable[str]) -> str:
    return ", ".join(keys)[:100]


# How a product may have been cut to the decimals it is shown with: from what is whole, the rest that is left
# over, and the unit of the rest.
_ROUNDINGS: dict[str, Callable[[int, int, int], int]] = {
    "down": lambda whole, left, unit: whole,
    "up": lambda whole, left, unit: whole + (left > 0),
    "half up": lambda whole, left, unit: whole + (2 * left >= unit),
    "half even": lambda whole, left, unit: whole + (2 * left > unit or (2 * left == unit and whole % 2 == 1)),
}


class SpotTradeForm(TradeForm):
    """Single trades of spot.

    Shape: {"id","price","qty","quoteQty","time","isBuyerMaker","isBestMatch"}; quoteQty is price times qty
        and in no event. How it is rounded is learned from rows: a text that is not certain is not told.
    """

    id_of, rest_id = "t", "id"
    _KEYS = ("id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch")

    def __init__(self) -> None:
        super().__init__()
        self.roundings = frozenset(_ROUNDINGS)
        self._decimals = 8

    def learn(self, row: dict[str, Any]) -> None:
        if tuple(row) != self._KEYS:
            raise FormDiffers(f"a trade with the keys {_few(row)}")
        price, quantity, shown = row["price"], row["qty"], row["quoteQty"]
        if not type(price) is type(quantity) is type(shown) is str:
            raise TypeError("a trade whose numbers are no texts")
        decimals = len(shown.partition(".")[2])
        if self.is_learned and decimals != self._decimals:
            raise FormDiffers(f"a quoteQty of {decimals} decimals, and of {self._decimals}")
        self._decimals = decimals
        texts = self._texts(price, quantity)
        self.roundings = frozenset(name for name in self.roundings if texts[name] == shown)
        if not self.roundings:
            raise FormDiffers("a quoteQty that is no product of its price and quantity")
        self.is_learned = True

    def encode(self, event: dict[str, Any]) -> bytes | None:
        price, quantity, time, maker, match = (event[key] for key in ("p", "q", "T", "m", "M"))
        if not (
            type(price) is type(quantity) is str and type(time) is int and type(maker) is type(match) is bool
        ):
            raise TypeError("a trade with values of other types")
        texts = self._texts(price, quantity)
        possible = {texts[name] for name in self.roundings}
        if len(possible) != 1:
            return None
        return kept_json(
            {
                "id": event["t"],
                "price": price,
                "qty": quantity,
                "quoteQty": possible.pop(),
                "time": time,
                "isBuyerMaker": maker,
                "isBestMatch": match,
            }
        )

    def _texts(self, price: str, quantity: str) -> dict[str, str]:
        """Return the product as each rounding writes it."""
        decimals = self._decimals
        (whole_p, _, part_p), (whole_q, _, part_q) = price.partition("."), quantity.partition(".")
        product = int(whole_p + part_p) * int(whole_q + part_q)
        excess = len(part_p) + len(part_q) - decimals
        if excess <= 0:
            product, unit = product * 10**-excess, 1
        else:
            unit = 10**excess
        whole, left = divmod(product, unit)
        if not left:
            return dict.fromkeys(_ROUNDINGS, _fixed(whole, decimals))
        return {name: _fixed(cut(whole, left, unit), decimals) for name, cut in _ROUNDINGS.items()}


def _fixed(number: int, decimals: int) -> str:
    text = str(number).rjust(decimals + 1, "0")
    return f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text


FORMS: dict[str, type[TradeForm]] = {"aggTrade": AggregateForm, "trade": SpotTradeForm}


class TradeTail:
    """The newest trades of one symbol.

    Shape: `is_synced` tells that nothing is missing between the first row and the last. Units: `read_ms`
        exchange milliseconds of the last read that agreed.
    """

    __slots__ = (
        "_bodies",
        "_certain",
        "_older",
        "_rows",
        "_told",
        "is_synced",
        "is_whole",
        "last_id",
        "price",
        "read_ms",
    )

    def __init__(self) -> None:
        self._rows: deque[tuple[int, bytes | None]] = deque(maxlen=MAX_ROWS)
        self._bodies: dict[int, bytes] = {}
        # How many of the newest rows have a text that is certain.
        self._certain = 0
        # The newest trade the stream itself has brought, and how many older ones it brought since.
        self._told = -1
        self._older = 0
        self.is_synced = False
        # Nothing exists before the first row.
        self.is_whole = False
        self.last_id = -1
        self.read_ms = 0
        # Of the newest trade, "" if there is none.
        self.price = ""

    @property
    def texts(self) -> list[bytes | None]:
        """The rows, oldest first; None where a text is not certain."""
        return [row for _, row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def lose(self) -> None:
        """The stream was lost: trades may have been missed."""
        self.restart()
        self._told = -1
        self._older = 0

    def restart(self) -> None:
        """Hold nothing any more. Up to where the stream came stays known: a read has to reach that far."""
        self._rows.clear()
        self._bodies.clear()
        self.is_synced = self.is_whole = False
        self.last_id = -1
        self.read_ms = self._certain = 0
        self.price = ""

    def apply(self, trade_id: int, row: bytes | None, price: str) -> bool:
        """Take an event; return whether the stream had not brought it yet. A hole begins the tail anew.

        Raises: ValueError if ids went back for good.
        """
        if trade_id <= self._told:
            self._older += 1
            if self._older >= _MAX_OLDER:
                raise ValueError("trade ids that went back")
            return False
        self._told = trade_id
        self._older = 0
        if trade_id <= self.last_id:
            return True  # a read was ahead of the stream
        if trade_id != self.last_id + 1:
            self.restart()
        self._append(trade_id, row)
        self.price = price
        return True

    def _append(self, trade_id: int, row: bytes | None) -> None:
        if len(self._rows) == MAX_ROWS:
            self.is_whole = False
        self._rows.append((trade_id, row))
        self._certain = 0 if row is None else min(MAX_ROWS, self._certain + 1)
        self.last_id = trade_id
        if self._bodies:
            self._bodies.clear()

    def news(self, rows: Sequence[Row]) -> bool:
        """Tell whether REST shows a trade the stream has not brought."""
        return bool(rows) and rows[-1][0] > self.last_id

    def read(self, rows: Sequence[Row], price: str, made_ms: int, *, is_whole: bool) -> bool:
        """Take REST's newest rows, oldest first; return whether they join what is held.

        Shape: `price` is that of the newest row, "" if there is none; `is_whole` tells that REST has no more.
        Raises: FormDiffers if a row is not what the stream made of it.
        """
        held, shown = list(self._rows), dict(rows)
        for trade_id, row in held:
            if row is not None and shown.get(trade_id, row) != row:
                raise FormDiffers(f"REST shows {shown[trade_id][:200]!r}, the stream {row[:200]!r}")
        oldest, newest = (rows[0][0], rows[-1][0]) if rows else (0, -1)
        if newest < (held[0][0] - 1 if held else self._told):
            return False  # REST is behind the first event: what lies between is not known
        if any(oldest <= trade_id <= newest and trade_id not in shown for trade_id, _ in held):
            return False  # nor what REST would show of what it lacks
        # Of what is held before, REST has to know how it goes on; what REST does not show any more is over.
        is_joined = not is_whole and (oldest == self.last_id + 1 or any(each[0] == oldest for each in held))
        before = [each for each in held if each[0] < oldest] if is_joined else []
        after = [each for each in held if each[0] > newest]
        was_whole = self.is_synced and self.is_whole
        self._rows = deque([*before, *rows, *after], maxlen=MAX_ROWS)
        is_same = bool(held) and bool(self._rows) and self._rows[0][0] == held[0][0]
        self.is_whole = (is_whole or (was_whole and is_same)) and len(self._rows) < MAX_ROWS
        if newest > self.last_id:
            self.last_id, self.price = newest, price
        self._certain = 0
        for _, text in reversed(self._rows):
            if text is None:
                break
            self._certain += 1
        self._bodies.clear()
        self.read_ms = max(self.read_ms, made_ms)
        self.is_synced = True
        return True

    def has(self, limit: int) -> bool:
        """Tell whether the newest so many rows are held, or all there are."""
        return len(self._rows) >= limit or self.is_whole

    def is_certain(self, limit: int) -> bool:
        """Tell whether the text of each of them is certain."""
        return self._certain >= min(limit, len(self._rows))

    def body(self, limit: int) -> bytes:
        """Return what REST answers for the newest so many trades, oldest first."""
        body = self._bodies.get(limit)
        if body is None:
            if len(self._bodies) >= _MAX_BODIES:
                self._bodies.clear()
            rows = islice(self._rows, max(0, len(self._rows) - limit), None)
            body = self._bodies[limit] = b"[%b]" % b",".join([row for _, row in rows if row is not None])
        return body


def read_rows(body: bytes, form: TradeForm) -> tuple[list[Row], str]:
    """Read a REST answer: its rows, oldest first, and the price of the newest.

    Raises: FormDiffers, ValueError, KeyError or TypeError.
    """
    read = orjson.loads(body)
    if type(read) is not list:
        raise TypeError("trades that are no list")
    rows: list[Row] = []
    price = ""
    last = -1
    for row in read:
        trade_id = row[form.rest_id]
        if type(trade_id) is not int or trade_id <= last:
            raise ValueError("trades out of order")
        form.learn(row)
        rows.append((trade_id, kept_json(row)))
        last = trade_id
        price = row["p"] if "p" in row else row["price"]
    return rows, price
