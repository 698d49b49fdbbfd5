"""What rows from REST teach of how a market writes them: order of fields, digits, fields events tell wrongly.

Where no source settles whether REST writes a number as the event did, padded with zeros or without any, all these
readings stand until a row tells; meanwhile only values that they write alike are told. One `Lore` belongs to a
market and serves all its accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from resender.core.account.dialects import Dialect, Row, number

_MAX_DIGITS = 20
_MAX_SYMBOLS = 5000
# So many rows alike, after others of the same kind: Binance writes them so from now on.
_STEADY = 20
WORKING_RULES = ("last", "open", "true")


def digits(text: object) -> int:
    """Return how many digits stand behind the point."""
    return len(str(text).partition(".")[2])


def plain(value: Decimal) -> str:
    """Write a number without needless digits."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


class Lore:
    """The knowledge of one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        # Raised with everything learned: what was made of less is made again.
        self.version = 0
        # Fields whose event said something else than REST.
        self.refuted: set[str] = set()
        self._templates: dict[tuple[str, object], tuple[str, ...]] = {}
        # Rows of one kind whose fields have varied: how many were alike since.
        self._varied: dict[tuple[str, object], int] = {}
        self._digits: dict[tuple[str, str], int] = {}
        # Numbers of which one reading is ruled out: as the event writes it; with fixed digits; without zeros.
        self._not_told: set[str] = set()
        self._not_fixed: set[str] = set()
        self._not_plain: set[str] = set()
        # Fields that REST gave as an event had told them, once at least; numbers apart by whether they are 0.
        self._agreed: set[tuple[str, bool]] = set()
        # Whether openOrders shows orders that wait for another one (PENDING_NEW); None until that was seen.
        self.lists_pending: bool | None = None
        # Which readings of `isWorking` of an ended order are left.
        self.working: set[str] = set(WORKING_RULES)

    # --- order of fields -------------------------------------------------------------------

    def variant(self, row: Mapping[str, object]) -> object:
        """Tell which rows have the same fields."""
        dialect = self.dialect
        if dialect.documented:
            return frozenset(name for name in dialect.optional if name in row)
        return str(row.get("origType", row.get("orderType")))

    def template(self, path: str, row: Mapping[str, object]) -> tuple[str, ...] | None:
        """Return the fields of such a row on a path, in order; None if nobody has seen one."""
        place = (path, self.variant(row))
        if place in self._varied:
            return None
        if not place[1] and self.dialect.documented:
            return self._templates.get(place, self.dialect.documented)
        return self._templates.get(place)

    def see(self, path: str, row: Row) -> None:
        """Learn from a row of REST; raises what `number` does."""
        for name in self.dialect.numbers:
            number(row.get(name))
        place = (path, self.variant(row))
        names = tuple(row)
        before = self._templates.get(place)
        if before != names:
            self._templates[place] = names
            if before is not None:
                self._varied[place] = 0
            self.version += 1
        elif place in self._varied:
            self._varied[place] += 1
            if self._varied[place] >= _STEADY:
                del self._varied[place]
                self.version += 1
        symbol = str(row.get("symbol"))
        for name in self.dialect.numbers:
            if name in row and isinstance(row[name], str):
                self._see_digits(symbol, name, row[name])

    def _see_digits(self, symbol: str, name: str, text: str) -> None:
        found = digits(text)
        if name not in self._not_plain and text != plain(number(text)):
            self._not_plain.add(name)
            self.version += 1
        before = self._digits.get((symbol, name))
        if before is None:
            if found <= _MAX_DIGITS and len(self._digits) < _MAX_SYMBOLS * len(self.dialect.numbers):
                self._digits[symbol, name] = found
                self.version += 1
        elif before != found and name not in self._not_fixed:
            self._not_fixed.add(name)
            self.version += 1

    # --- comparing -------------------------------------------------------------------------

    def compare(self, said: Mapping[str, object], row: Row, *, is_final: bool = True) -> list[str]:
        """Compare what an event said with the row REST gives for the same moment; return what differs.

        Shape: `said` by the names of rows; fields the row does not have are not compared. Without `is_final`
            another event of that moment may be under way: what differs tells nothing then.
        """
        wrong = []
        for name, value in said.items():
            if name not in row or value is None or name in self.dialect.moving:
                continue
            real = row[name]
            if name in self.dialect.numbers:
                if number(value) != number(real):
                    wrong.append(name)
                    continue
                self._agree(name, bool(number(value)))
                if str(value) != str(real) and name not in self._not_told:
                    self._not_told.add(name)
                    self.version += 1
                elif (
                    str(value) == str(real)
                    and name not in self._not_told
                    and self._fixed(str(row.get("symbol")), name, str(value)) not in (None, str(real))
                ):
                    self._not_fixed.add(name)
                    self.version += 1
            elif value != real:
                wrong.append(name)
            else:
                self._agree(name, False)
        if not is_final:
            return []
        new = set(wrong) - self.refuted
        if new:
            self.refuted |= new
            self.version += 1
        return wrong

    def _agree(self, name: str, is_more: bool) -> None:
        if (name, is_more) not in self._agreed:
            self._agreed.add((name, is_more))
            self.version += 1

    def is_trusted(self, name: str, value: object) -> bool:
        """Tell whether a field may be told as an event told it."""
        if name in self.refuted:
            return False
        if self.dialect.documented:
            return True
        is_more = name in self.dialect.numbers and bool(number(value))
        return (name, is_more) in self._agreed

    def compare_working(self, by_rule: Mapping[str, object], real: object) -> None:
        """Learn how REST writes `isWorking` of an ended order; what a rule says may not be known."""
        left = {rule for rule in self.working if by_rule.get(rule) in (None, real)}
        if left != self.working:
            self.working = left
            self.version += 1

    def learn_pending(self, is_listed: bool) -> None:
        """Learn whether openOrders shows waiting orders; that it did is stronger than that it did not."""
        if self.lists_pending is not True and self.lists_pending is not is_listed:
            self.lists_pending = is_listed
            self.version += 1

    # --- writing ---------------------------------------------------------------------------

    def _fixed(self, symbol: str, name: str, text: str) -> str | None:
        count = self._digits.get((symbol, name))
        if count is None or digits(plain(number(text))) > count:
            return None
        return f"{number(text):.{count}f}"

    def text(self, symbol: str, name: str, text: object) -> str | None:
        """Return how REST writes a number an event told; None if that is not certain."""
        if not isinstance(text, str):
            return None
        as_told = text if name not in self._not_told else None
        if self.dialect.documented and as_told is not None:
            return as_told
        fixed = self._fixed(symbol, name, text) if name not in self._not_fixed else as_told
        if as_told is None:
            return fixed
        as_plain = plain(number(text)) if name not in self._not_plain else as_told
        return as_told if fixed == as_plain == as_told else None
