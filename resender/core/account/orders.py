"""All orders of one kind of one account: open ones, ended ones, and what REST says of them in between.

Events are taken one by one, snapshots are merged by the time of each row, since REST lags behind the stream:
an order that an event has ended stays ended, whatever a late row says. What does not fit is told, and then
nothing here counts until the next snapshots. Pure: it is told the time.
Source: research.md B6.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from resender.core.account.dialects import (
    OPEN,
    BadEvent,
    Dialect,
    Key,
    OrderEvent,
    Row,
    Stage,
    moment_ms,
    number,
)
from resender.core.account.lore import Lore
from resender.core.account.order import Held, key_of_row, stage_of_row, tells_row

# How far REST may be behind the stream. Source: research.md B2 (30 to 40 s were seen), B6.
REST_LAG_MS = 60_000
# What REST shows later than this after its time, no event is under way of any more.
_EVENT_LATE_MS = 5000
# By how much two readings of the exchange's clock may differ.
_CLOCK_ERROR_MS = 100
_MAX_ENDED = 5000
PENDING = "PENDING_NEW"
_MAX_SYMBOLS = 5000

# By what rows may be sorted; what comes after is a guess of no weight, which no row rules out.
_ORDERINGS: dict[str, tuple[Callable[[Held], Any], Callable[[Held], Any]]] = {
    "time": (lambda held: held.created_ms, lambda held: held.key[1]),
    "number": (lambda held: held.key[1], lambda held: held.key[0]),
    "symbol": (lambda held: (held.key[0], held.created_ms), lambda held: held.key[1]),
}


class Applied(enum.Enum):
    """What became of an event."""

    CHANGED = "changed"
    DOUBLE = "double"
    MISFIT = "misfit"


@dataclass(slots=True)
class Merged:
    """What a snapshot told.

    Shape: `differences` are words about what no event explains, `wrong` fields that events tell otherwise.
    """

    differences: list[str] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)


class Orders:
    """Open and ended orders by symbol and number: a number alone is not unique on spot.

    Units: `keep_ms` milliseconds for which ended orders can be asked for.
    """

    def __init__(self, dialect: Dialect, lore: Lore, *, keep_ms: int) -> None:
        self.dialect = dialect
        self.lore = lore
        self.open: dict[Key, Held] = {}
        # In the order they ended in, also those of whom late rows may still speak.
        self.ended: OrderedDict[Key, Held] = OrderedDict()
        # Raised with each change.
        self.version = 0
        # A snapshot has been taken, of all or of these symbols: orders nobody told of are misfits from then on.
        self.is_settled = False
        self._settled: set[str] = set()
        # Symbols that are known to be some: of others REST answers an error.
        self._symbols: set[str] = set()
        self.why = ""
        # Orders REST does not show, since when, and whether an event must have told of their end: one may be
        # under way, or REST lags.
        self._doubted: dict[Key, tuple[int, bool]] = {}
        # What REST has shown that no event has told yet: with what the others were before it never was so.
        self._ahead: dict[Key, tuple[Stage, Row]] = {}
        # When the last snapshot of all was asked for: an end before then is no news.
        self._asked_ms = 0
        # When the first snapshot of this run was asked for: later ones are not of before the run.
        self._since_ms: int | None = None
        # Counts the unbroken runs of the stream.
        self._run = 0
        self._keep_ms = keep_ms
        self._orderings = dict(_ORDERINGS)
        self._bodies: dict[tuple[str, str | None], tuple[tuple[int, int], bytes | None]] = {}

    # --- events ----------------------------------------------------------------------------

    def apply(self, event: OrderEvent) -> Applied:
        """Take an event; with a misfit `why` says what did not fit."""
        if self._ahead:
            self._catch_up(event)
        held = self.open.get(event.key) or self.ended.get(event.key)
        if held is not None and held.is_double(event):
            held.note_double(event)
            held.run = self._run
            return Applied.DOUBLE
        result = Applied.CHANGED
        if held is None:
            is_news = event.is_open or event.time_ms > self._asked_ms
            if self._is_settled(event.key[0]) and not event.is_first and is_news:
                self.why = f"an order nobody told of: {event.execution}"
                result = Applied.MISFIT
            held = Held(self.dialect, event.key)
        else:
            is_whole = held.rest is not None or held.born_ms is not None
            why = held.misfit(event, is_whole=is_whole)
            if why is not None:
                self.why = why
                result = Applied.MISFIT
                if not held.is_open:
                    held.note_gap()  # nothing else would bring it into doubt
                if event.stage <= held.stage or not held.is_open:
                    return result  # what is known is newer
        held.apply(event)
        held.run = self._run
        self._place(held, event.key)
        if event.key in self._doubted and event.time_ms > self._doubted[event.key][0]:
            del self._doubted[event.key]  # it lived on after REST had left it out
        return result

    def _catch_up(self, event: OrderEvent) -> None:
        """Events are told in their order: with a later one, or the one itself, that much has been told."""
        self._ahead = {
            key: (stage, row)
            for key, (stage, row) in self._ahead.items()
            if event.time_ms <= stage[0]
            and (
                key != event.key
                or event.stage < stage
                or (event.stage == stage and not tells_row(event, row))
            )
        }

    def _place(self, held: Held, key: Key) -> None:
        self.version += 1
        self._know(key[0])
        if held.is_open:
            self.open[key] = held
            self.ended.pop(key, None)
        else:
            self.open.pop(key, None)
            self._doubted.pop(key, None)
            self.ended[key] = held
            self.ended.move_to_end(key)
            while len(self.ended) > _MAX_ENDED:
                self.ended.popitem(last=False)

    def _know(self, symbol: str) -> None:
        if len(self._symbols) < _MAX_SYMBOLS:
            self._symbols.add(symbol)

    def unsettle(self) -> None:
        """Something was missed: what is known stays, nothing of it counts until snapshots have been merged."""
        self.is_settled = False
        self._settled.clear()
        self._doubted.clear()
        self._ahead.clear()
        self._run += 1
        for held in self.open.values():
            held.note_gap()
        self._since_ms = None
        if not self._orderings:
            self._orderings = dict(_ORDERINGS)

    def is_doubted(self, symbol: str | None) -> bool:
        """Tell whether REST and events differ: an order of a symbol, or any, is not shown of whose end none told."""
        return any(symbol is None or key[0] == symbol for key in (*self._doubted, *self._ahead))

    def has_old_doubt(self, now_ms: int) -> bool:
        """Tell whether such an event is overdue: the next snapshot settles it."""
        since = [*(at for at, _ in self._doubted.values()), *(stage[0] for stage, _ in self._ahead.values())]
        return any(at + _EVENT_LATE_MS <= now_ms for at in since)

    def _is_settled(self, symbol: str) -> bool:
        return self.is_settled or symbol in self._settled

    def forget(self, now_ms: int) -> None:
        """Drop ended orders that are too old; those of whom a late row may speak stay."""
        keep_ms = max(self._keep_ms, 2 * REST_LAG_MS)
        while self.ended:
            key, held = next(iter(self.ended.items()))
            if held.time_ms >= now_ms - keep_ms:
                break
            del self.ended[key]

    # --- snapshots -------------------------------------------------------------------------

    def merge(self, path: str, rows: Iterable[Row], symbol: str | None, now_ms: int) -> Merged:
        """Take a snapshot: all open orders, or those of one symbol, as REST gave them.

        Units: `now_ms` the exchange's time when it was asked for.
        Raises: BadEvent if a row cannot be read; nothing has been taken then.
        """
        listed = {}
        for row in rows:
            key = self._check(row)
            if row.get(self.dialect.status) not in OPEN or key in listed:
                raise BadEvent("an open order that is none, or is there twice")
            listed[key] = row
        merged = Merged()
        is_clearing = bool(self._doubted)
        if self._since_ms is None:
            self._since_ms = now_ms
        late_ms = now_ms - _EVENT_LATE_MS
        self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead[0][0] > late_ms}
        for key, row in listed.items():
            self.lore.see(path, row)
            if row.get(self.dialect.status) == PENDING:
                self.lore.learn_pending(True)
            if row["updateTime"] >= late_ms:
                self._look_ahead(key, row)
            self._merge_row(path, key, row, merged, now_ms)
            held = self.open.get(key)
            if held is not None and held.rest is row and late_ms >= self._since_ms:
                held.has_gap = False
        lists = {row.get("orderListId") for row in listed.values()}
        young = []
        count = len(self.open)
        for key, held in list(self.open.items()):
            if (
                key in listed
                or (symbol is not None and key[0] != symbol)
                or self._is_hidden(held, lists, now_ms)
            ):
                continue
            if is_clearing and held.run == self._run and key not in self._doubted and held.told_ms >= late_ms:
                # This snapshot is for others: if each began new doubts a busy account would stay in doubt.
                young.append(key)
            else:
                self._miss_row(key, held, merged, now_ms)
        if len(self.open) < count:  # they may have ended with those that are gone now
            self._doubted.update(dict.fromkeys(young, (now_ms, True)))
        if symbol is None:
            self.is_settled, self._asked_ms = True, max(self._asked_ms, now_ms)
        elif len(self._settled) < _MAX_SYMBOLS:
            self._settled.add(symbol)
        if symbol is not None:
            self._know(symbol)
        self._learn_ordering(list(listed))
        self.version += 1
        return merged

    def _look_ahead(self, key: Key, row: Row) -> None:
        """Note what an event that is under way will tell, if it has not told it."""
        held = self.open.get(key)
        if key not in self.ended and (held is None or held.is_ahead(row)):
            self._ahead[key] = (stage_of_row(self.dialect, row), row)

    def _check(self, row: Row) -> Key:
        """See that a row can be taken, and return its key. Raises: BadEvent."""
        key = key_of_row(self.dialect, row)
        for name in ("updateTime", self.dialect.created):
            told = row.get(name, 0 if name == self.dialect.created else None)
            if type(told) is not int or moment_ms(told) != told:
                raise BadEvent("a row whose times are not in milliseconds")
        for name in self.dialect.numbers:
            number(row.get(name))
        return key

    def _merge_row(self, path: str, key: Key, row: Row, merged: Merged, now_ms: int) -> None:
        row_ms = moment_ms(row.get("updateTime"))
        is_late = row_ms < now_ms - _EVENT_LATE_MS
        ended = self.ended.get(key)
        if ended is not None:
            if row_ms > ended.time_ms:
                merged.differences.append("an order that had ended is open")
                ended.take_row(path, row, self.lore, is_final=is_late)
                self._place(ended, key)
            return
        held = self.open.get(key)
        if key in self._doubted:
            # REST is not of one mind: what it shows again at once may be a moment of before.
            since, _ = self._doubted[key]
            if row_ms >= since or now_ms >= since + _EVENT_LATE_MS:
                del self._doubted[key]
        if held is None:
            if self._is_settled(key[0]) and is_late:
                merged.differences.append("an open order of which no event told")
            held = Held(self.dialect, key)
            held.take_row(path, row, self.lore, is_final=is_late)
            held.asked_ms = now_ms
            self._place(held, key)
            return
        if held.is_behind(row) and not self._is_last_word(held, row, now_ms):
            held.take_older_row(path, row)
            return
        if stage_of_row(self.dialect, row) > held.stage and is_late and self._is_settled(key[0]):
            merged.differences.append("a change of which no event told")
        merged.wrong.update(held.take_row(path, row, self.lore, is_final=is_late))
        held.asked_ms = max(held.asked_ms, now_ms)
        self._place(held, key)

    def _is_last_word(self, held: Held, row: Row, now_ms: int) -> bool:
        """Tell whether of two rows of one moment, in an order no event has told, this one is the newer.

        It is where all that was before the stream has to show by now, by the one that was asked for last.
        """
        return (
            held.run != self._run
            and stage_of_row(self.dialect, row) == held.stage
            and self._since_ms is not None
            and now_ms >= self._since_ms + _EVENT_LATE_MS - _CLOCK_ERROR_MS
            and now_ms >= held.asked_ms - _CLOCK_ERROR_MS
        )

    def _is_hidden(self, held: Held, lists: set[object], now_ms: int) -> bool:
        """Tell whether an order waits for another one and REST shows no such orders.

        That is learned from a list of which REST shows another order, when it can be behind no more.
        """
        if held.status != PENDING or held.run != self._run or self.lore.lists_pending is True:
            return False
        number = held.value("orderListId")
        if held.told_ms < now_ms - REST_LAG_MS and number not in (None, -1) and number in lists:
            self.lore.learn_pending(False)
        if self.lore.lists_pending is None:
            return False
        self._doubted.pop(held.key, None)
        return True

    def _miss_row(self, key: Key, held: Held, merged: Merged, now_ms: int) -> None:
        """REST does not show an order that is open as far as is known."""
        is_of_now = held.run == self._run
        is_new = held.told_ms >= now_ms - REST_LAG_MS
        # Where it was not settled yet the end came before this run of the stream, or REST lagged then.
        is_missed = self._is_settled(key[0]) or is_of_now
        if is_new or is_missed:
            since, is_missed = self._doubted.setdefault(key, (now_ms, is_missed))
            # The event of its end is under way, or REST lags behind the one of its beginning.
            if now_ms < since + _EVENT_LATE_MS or (is_new and is_of_now):
                return
            if is_missed:
                merged.differences.append("the end of an order of which no event told")
        self._doubted.pop(key, None)
        del self.open[key]

    def see(self, path: str, row: Row, now_ms: int) -> None:
        """Learn from the row of one order that REST gave a client; raises BadEvent."""
        key = self._check(row)
        self.lore.see(path, row)
        held = self.open.get(key) or self.ended.get(key)
        if held is None or row.get(self.dialect.status) != held.status:
            return
        if held.is_open and held.is_ahead(row):
            return  # alone: the others are not known as of then
        if stage_of_row(self.dialect, row) == held.stage and not held.is_behind(row):
            is_final = not held.is_open or held.time_ms < now_ms - _EVENT_LATE_MS
            held.take_row(path, row, self.lore, is_final=is_final)
            held.has_gap = False
            self.version += 1

    def _learn_ordering(self, keys: list[Key]) -> None:
        """Leave out by what the rows are not sorted; orders that are alike in it may stand in any order."""
        shown = [self.open[key] for key in keys if key in self.open]
        for name, (by, _) in list(self._orderings.items()):
            values = [by(held) for held in shown]
            if values != sorted(values):
                del self._orderings[name]

    # --- answers ---------------------------------------------------------------------------

    def _sorted(self, symbol: str | None) -> list[Held]:
        wanted = [held for key, held in self.open.items() if symbol is None or key[0] == symbol]
        for by, guess in list(self._orderings.values())[:1]:
            wanted.sort(key=lambda held: (by(held), guess(held)))
        return wanted

    def listed(self, path: str, symbol: str | None = None) -> bytes | None:
        """Return what REST would answer: all open orders or those of a symbol; None if that is not certain."""
        place = (path, symbol)
        stamp = (self.version, self.lore.version)
        kept = self._bodies.get(place)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        rows: list[bytes] = []
        is_known = symbol is None or symbol in self._symbols
        body: bytes | None = b"" if is_known else None
        for held in self._sorted(symbol):
            if held.status == PENDING and self.lore.lists_pending is False:
                continue
            if held.status == PENDING and self.lore.lists_pending is None:
                body = None
                break
            row = held.row(path, self.lore)
            if row is None:
                body = None
                break
            rows.append(row)
        if len(rows) > 1 and not self._orderings:
            body = None  # by nothing of what is known here
        if body is not None:
            body = b"[" + b",".join(rows) + b"]"
        if len(self._bodies) > 256:
            self._bodies.clear()
        self._bodies[place] = (stamp, body)
        return body

    def unwhole(self, path: str) -> str | None:
        """Return a symbol of which an open order lacks something that one more row of REST would tell."""
        for key, held in self.open.items():
            if held.row(path, self.lore) is None and not held.is_moving and held.status != "TRIGGERING":
                return key[0]
        return None

    def find(self, symbol: str | None, number: int | None, client_id: str | None) -> Held | None:
        """Find an order by its number, or by the id its client gave it; conditional ones without a symbol too."""
        if number is not None and symbol is not None:
            key = (symbol, number)
            return self.open.get(key) or self.ended.get(key)
        name = "clientAlgoId" if self.dialect.id_name == "algoId" else "clientOrderId"
        found = [
            held
            for kept in (self.open, self.ended)
            for key, held in kept.items()
            if symbol in (None, key[0])
            and (held.value(name) == client_id if number is None else key[1] == number)
        ]
        # Of several with one name nobody says which one REST finds.
        return found[0] if len(found) == 1 else None

    def known(self, symbol: str | None = None, *, is_ended: bool = False) -> list[Row]:
        """Return what is known of orders for people: each field as it was told last."""
        kept = self.ended if is_ended else self.open
        rows = [held.known() for key, held in kept.items() if symbol is None or key[0] == symbol]
        rows.sort(key=lambda row: int(row.get("updateTime", 0)), reverse=is_ended)
        return rows


def read_rows(body: bytes) -> list[Row]:
    """Read the rows of an answer: one or several.

    Raises: BadEvent.
    """
    try:
        found = orjson.loads(body)
    except ValueError:
        raise BadEvent("the answer is no JSON") from None
    rows = found if isinstance(found, list) else [found]
    if not all(isinstance(row, dict) for row in rows):
        raise BadEvent("the answer holds no rows")
    return rows
