"""One order as far as it is known: the last row REST gave for it, and what events have said since.

Pure. `Held` makes the row REST would give now, or says that it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from resender.core.account.dialects import (
    AMENDED,
    EXACT,
    OPEN,
    BadEvent,
    Dialect,
    Key,
    OrderEvent,
    Row,
    Stage,
    moment_ms,
    number,
    pair_of,
    rank,
    whole,
)
from resender.core.account.lore import Lore, plain

_MAX_SIGNS = 64
_MAX_FILLS = 1000
_MAX_STATES = 20
_PREVENTED = "preventedQuantity"
# What two states of one moment differ in.
_TELLING = ("origQty", "price", "stopPrice", _PREVENTED, "clientOrderId", "isWorking")
State = tuple[object, ...]


def key_of_row(dialect: Dialect, row: Row) -> Key:
    """Return the key of a row.

    Raises: BadEvent.
    """
    symbol = row.get("symbol")
    if not isinstance(symbol, str) or not symbol:
        raise BadEvent("a row without a symbol")
    return symbol, whole(row.get(dialect.id_name))


def stage_of_row(dialect: Dialect, row: Row) -> Stage:
    """Return how far an order has come by a row.

    Raises: BadEvent.
    """
    row_ms = moment_ms(row.get("updateTime"))
    return row_ms, number(row.get("executedQty")), rank(str(row.get(dialect.status)))


@dataclass(slots=True, eq=False)
class Held:
    """An order.

    Shape: `rest` is the last row REST gave, on `rest_path`, and `event` what came after it; at least one of them
        is there. `born_ms` is known if its first event was seen; `fills` are (filled altogether, by this one, its
        quote) of each fill seen.
    Units: `time_ms` epoch milliseconds, of the matching engine.
    """

    dialect: Dialect
    key: Key
    rest: Row | None = None
    rest_path: str = ""
    event: OrderEvent | None = None
    time_ms: int = 0
    born_ms: int | None = None
    # Something may have been missed of it since it was placed, or since a row that was not of before the stream.
    has_gap: bool = True
    # In which unbroken run of the stream the last event came.
    run: int = -1
    # When the row that was asked for last was asked for.
    asked_ms: int = 0
    # When that event was, known before or not.
    told_ms: int = 0
    fills: list[tuple[Decimal, Decimal, Decimal]] = field(default_factory=list)
    signs: list[tuple[object, ...]] = field(default_factory=list)
    # What it was within one moment, with as much filled: rows of that moment may be of before the last of it.
    moment: tuple[int, Decimal] = (0, Decimal(0))
    states: list[State] = field(default_factory=list)
    # How much of it was prevented, as it was told last; None if nobody told since the last gap.
    prevented: object = None
    # Fields only some orders have that events have told since the row; what ends is not said to have ended.
    optional: set[str] = field(default_factory=set)
    working_time: object = None
    # Whether it was on the book by the last event while it was open; None if none told it since the last gap.
    was_working: object = None
    _rows: dict[tuple[str, int], bytes | None] = field(default_factory=dict)

    # --- what is known ---------------------------------------------------------------------

    @property
    def status(self) -> str:
        if self.event is not None:
            return self.event.status
        assert self.rest is not None
        return str(self.rest.get(self.dialect.status))

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def executed(self) -> Decimal:
        if self.event is not None:
            return self.event.executed
        assert self.rest is not None
        return number(self.rest.get("executedQty"))

    @property
    def quantity(self) -> Decimal:
        return number(self.value("origQty" if "origQty" in self.dialect.direct else "quantity"))

    @property
    def stage(self) -> Stage:
        return self.time_ms, self.executed, rank(self.status)

    def value(self, name: str) -> Any:
        """Return a field as it was told last, in whatever digits; None if it is not known."""
        if self.event is not None and name in self.event.values:
            return self.event.values[name]
        return None if self.rest is None else self.rest.get(name)

    def known(self) -> Row:
        """Return it for people: each field as it was told last."""
        row = dict(self.rest or {})
        if self.event is not None:
            row.update(self.event.values)
        if self.created_ms:
            row.setdefault(self.dialect.created, self.created_ms)
        return row

    @property
    def created_ms(self) -> int:
        """When it was placed, 0 if that is not known."""
        told = self.value(self.dialect.created)
        if told is None:
            told = self.born_ms
        return told if isinstance(told, int) else 0

    # --- what is told ----------------------------------------------------------------------

    def is_double(self, event: OrderEvent) -> bool:
        """Tell whether this event is known already, by itself or out of a row that is as new."""
        if event.sign in self.signs:
            return True
        if self.rest is None or self.event is not None or not event.is_open:
            return False
        return event.stage < self.stage or (
            event.stage == self.stage and _agrees(_told_state(event.values, None), self.rest)
        )

    def misfit(self, event: OrderEvent, *, is_whole: bool) -> str | None:
        """Return why an event cannot be the next one; None if it can.

        Shape: `is_whole` tells that nothing has been missed of the order up to now.
        """
        if event.time_ms < self.time_ms:
            return "time goes backwards"
        if not self.is_open:
            # One that was triggered is finished later, when the order it became has ended.
            if self.status == "TRIGGERED" and not event.is_open:
                return None
            return "an event of an order that has ended"
        total = number(event.values.get("origQty"))
        if "origQty" in self.dialect.direct and event.executed > total > 0:
            return "filled beyond its quantity"
        if event.executed < self.executed:
            return "filled less than before"
        is_known = self.event is None and event.stage == self.stage
        if is_whole and not is_known and "executedQty" in self.dialect.direct:
            expected = self.executed + (event.last if event.is_fill else 0)
            if event.executed != expected:
                return "a fill is missing"
        return None

    def note_double(self, event: OrderEvent) -> None:
        """Keep what a known event tells beyond the row."""
        if event.stage == self.stage and event.sign not in self.signs:
            self._note_work(event)
            self._note_state(event.stage, self._state_by(event), event.values)
        self._remember(event)

    def _remember(self, event: OrderEvent) -> None:
        self.told_ms = max(self.told_ms, event.time_ms)
        if event.is_first and self.born_ms is None:
            self.born_ms = event.time_ms
            self.prevented = self.prevented or "0"
            self.has_gap = self.has_gap and (self.event is not None or self.rest is not None)
        if event.sign not in self.signs:
            self.signs.append(event.sign)
            del self.signs[:-_MAX_SIGNS]

    def apply(self, event: OrderEvent) -> None:
        """Take an event."""
        self._remember(event)
        if event.is_fill and event.last:
            self.fills.append((event.executed, event.last, event.last_quote))
            del self.fills[:-_MAX_FILLS]
        self._note_state(event.stage, self._state_by(event), event.values)
        self.optional.update(name for name in self.dialect.optional if name in event.values)
        self._note_work(event)
        self.event, self.time_ms = event, event.time_ms
        self._rows.clear()

    def _note_state(self, stage: Stage, now: State, told: Row) -> None:
        if self.moment != stage[:2]:
            self.moment = stage[:2]
            self.states.clear()
        # What it is told to be now it was last, even if a row has shown it before.
        self.states = [state for state in self.states if not _agrees(state, told)][-_MAX_STATES:]
        self.states.append(now)

    def _state_by(self, event: OrderEvent) -> State:
        """Return the state an event tells: not each need repeat what was prevented before."""
        if _PREVENTED in event.values:
            self.prevented = event.values[_PREVENTED]
        return _told_state(event.values, self.prevented)

    def _note_work(self, event: OrderEvent) -> None:
        if event.is_open:
            self.was_working = event.values.get("isWorking")
            if self.was_working is False and event.time_ms == self.time_ms:
                self.working_time = None  # a row of this millisecond was ahead
        self.working_time = event.values.get("workingTime", self.working_time)

    def take_row(self, path: str, row: Row, lore: Lore, *, is_final: bool) -> list[str]:
        """Take a row of REST that is not older than what is known; return the fields events tell wrongly.

        Shape: `is_final` tells that no event of that time can be under way.
        Raises: BadEvent.
        """
        stage = stage_of_row(self.dialect, row)
        wrong: list[str] = []
        if self.event is not None and stage == self.stage:
            said = self._said(is_compared=True)
            wrong = lore.compare(said, row, is_final=is_final and not self.has_gap)
            if not self.is_open and "isWorking" in row:
                lore.compare_working(self._working(), row["isWorking"])
        self.prevented = row.get(_PREVENTED, "0")
        self._note_state(stage, _row_state(row), row)
        if (self.event is not None or self.rest is not None) and stage > self.stage:
            self.was_working = None
        self._take_rest(path, row)
        self.time_ms, self.event = stage[0], None
        self.optional.clear()
        return wrong

    def is_behind(self, row: Row) -> bool:
        """Tell whether a row is older than what is known, if only by less than a millisecond."""
        stage = stage_of_row(self.dialect, row)
        if stage != self.stage:
            return stage < self.stage
        if self.moment != stage[:2] or not self.states:
            return False
        prevented = number(row.get(_PREVENTED))
        if self.prevented is not None and prevented != number(self.prevented):
            return prevented < number(self.prevented)  # it only grows
        if _agrees(self.states[-1], row):
            return False
        is_amended = self.event is not None and self.event.execution in AMENDED
        return (self.has_gap and is_amended) or any(_agrees(state, row) for state in self.states)

    def is_ahead(self, row: Row) -> bool:
        """Tell whether a row is newer than what is known, if only by less than a millisecond."""
        stage = stage_of_row(self.dialect, row)
        if stage != self.stage or self.moment != stage[:2] or not self.states:
            return stage > self.stage
        return not _agrees(self.states[-1], row) and not self.is_behind(row)

    def note_gap(self) -> None:
        """Something may have been missed."""
        self.has_gap, self.was_working, self.prevented = True, None, None
        self.states.clear()

    def take_older_row(self, path: str, row: Row) -> None:
        """Take what cannot change from a row that is older than the last event."""
        if self.event is None:
            return
        stage = stage_of_row(self.dialect, row)
        if stage == self.stage and not any(_agrees(state, row) for state in self.states):
            self.states.insert(0, _row_state(row))
        if self.rest is None or stage > stage_of_row(self.dialect, self.rest):
            self._take_rest(path, row)

    def _take_rest(self, path: str, row: Row) -> None:
        filled = number(row.get("executedQty"))
        self.rest, self.rest_path = row, path
        self.fills = [fill for fill in self.fills if fill[0] > filled]
        if isinstance(row.get("workingTime"), int) and row["workingTime"] > 0:
            self.working_time = row["workingTime"]
        self._rows.clear()

    # --- the row ---------------------------------------------------------------------------

    def _working(self) -> Row:
        """Return the readings of `isWorking` of an ended order."""
        last = None if self.event is None else self.event.values.get("isWorking")
        return {"last": last, "open": self.was_working, "true": True}

    def _said(self, *, is_compared: bool = False) -> Row:
        """Return what events tell, by name; fields that no event told are missing."""
        event = self.event
        assert event is not None
        said = dict(event.values)
        if self.dialect.documented:
            time = said.get("workingTime", self.working_time)
            if (said.get("isWorking") if self.is_open else self.was_working) is False:
                # It is not on the book, and never was; where it was once, nobody knows what REST shows.
                time = -1 if time is None else None
            if time is not None:
                said["workingTime"] = time
            if not self.is_open:
                said.pop("isWorking", None)
        elif self.born_ms is not None and (self.rest is None or is_compared):
            said.setdefault(self.dialect.created, self.born_ms)
        if self.dialect.has_pair:
            said["pair"] = pair_of(self.key[0])
        quote = self._quote()
        if quote is not None:
            said[self.dialect.quote] = quote
        return said

    def _quote(self) -> str | None:
        """Return what all fills were worth, if every one was seen."""
        dialect, event = self.dialect, self.event
        if not dialect.quote or dialect.quote in dialect.direct or event is None:
            return None
        if not event.executed:
            return "0"
        if not dialect.sums_quote:
            return None
        filled = value = Decimal(0)
        if self.rest is not None:
            if dialect.quote not in self.rest:
                return None
            filled, value = number(self.rest.get("executedQty")), number(self.rest[dialect.quote])
        elif self.born_ms is None:
            return None
        for total, last, quote in self.fills:
            if total > filled:
                if total - last != filled:
                    return None  # one in between was missed
                filled, value = total, EXACT.add(value, quote)
        return plain(value) if filled == event.executed else None

    @property
    def is_moving(self) -> bool:
        """Whether something of it changes without an event."""
        moving = self.dialect.moving
        return bool(moving & self.optional) or any(_is_set(self.value(name)) for name in moving)

    def row(self, path: str, lore: Lore) -> bytes | None:
        """Return the row REST would give on a path now; None if that is not certain."""
        place = (path, lore.version)
        if place not in self._rows:
            self._rows.clear()
            made = self._make(path, lore)
            self._rows[place] = None if made is None else orjson.dumps(made)
        return self._rows[place]

    def _make(self, path: str, lore: Lore) -> Row | None:
        dialect, rest = self.dialect, self.rest
        if self.event is not None and self.has_gap and (self.rest is None or not self.is_open):
            return None  # it was seen in part only
        if self.status == "TRIGGERING" or (self.status == "REJECTED" and self.event is not None):
            return None  # nobody knows how REST shows it
        said = self._said() if self.event is not None else {}
        known: Row = {**(rest or {}), **said}
        if self.is_moving:
            return None
        if rest is not None and self.rest_path == path and lore.variant(rest) == lore.variant(known):
            template: tuple[str, ...] | None = tuple(rest)
        else:
            template = lore.template(path, known)
        if template is None:
            return None
        if dialect.documented and any(name in said and name not in template for name in dialect.optional):
            return None
        if self.event is not None and any(name not in said for name in self.optional):
            return None
        row: Row = {}
        for name in template:
            if self.event is None:
                if name not in known:
                    return None
                row[name] = known[name]
            elif not self._put(row, name, said, lore):
                return None
        return row

    def _put(self, row: Row, name: str, said: Row, lore: Lore) -> bool:
        """Put one field of an order that events have changed since; False if it is not certain."""
        dialect, rest = self.dialect, self.rest
        is_kept = rest is not None and name in rest
        if name == "isWorking" and not self.is_open:
            told = {by_rule for rule, by_rule in self._working().items() if rule in lore.working}
            if len(told) != 1 or None in told:
                return False
            row[name] = told.pop()
            return True
        fixed = name in dialect.constant or name == dialect.created
        if is_kept and fixed:
            assert rest is not None
            row[name] = rest[name]
            return True
        if name not in said or said[name] is None:
            return False
        value = said[name]
        if name != dialect.status and not lore.is_trusted(name, value):
            return False
        if name in dialect.numbers:
            if is_kept and rest is not None and _is_same(rest[name], value):
                value = rest[name]  # it has not changed: nor has its text
            else:
                value = lore.text(self.key[0], name, value)
        if value is None:
            return False
        row[name] = value
        return True


def _is_set(value: object) -> bool:
    return value not in (None, "", "0", 0) and not (isinstance(value, str) and value.strip("0.") == "")


def _is_same(rest: object, told: object) -> bool:
    return isinstance(rest, str) and number(rest) == number(told)


def _told_state(told: Row, prevented: object) -> State:
    """Return the state an event tells. Shape: `prevented` counts where it does not say; None fits anything."""
    return tuple(told.get(name, prevented if name == _PREVENTED else None) for name in _TELLING)


def _row_state(row: Row) -> State:
    return tuple(row.get(name, "0" if name == _PREVENTED else None) for name in _TELLING)


def tells_row(event: OrderEvent, row: Row) -> bool:
    """Tell whether what a row shows of its moment is what an event tells, for certain."""
    return _agrees(_told_state(event.values, "0"), row)


def _agrees(state: State, row: Row) -> bool:
    """Tell whether a row, or what an event told by its names, is of a state."""
    for name, told in zip(_TELLING, state, strict=True):
        real = row.get(name)
        if name == _PREVENTED and told is None:
            continue
        is_number = name not in ("clientOrderId", "isWorking")
        if (number(told) != number(real)) if is_number else (None not in (told, real) and told != real):
            return False
    return True
