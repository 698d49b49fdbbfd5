"""The whitelist as text: reading lists somebody pastes or uploads, and writing CSV.

It changes no whitelist: it turns text into wishes and tells what cannot be read, line by line.
It holds no state.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from resender.core.access.whitelist import normalise_entry

HEADER = ("address", "note", "enabled")
LINES_MAX = 5_000
_FLAGS = {"": None, "1": True, "true": True, "yes": True, "on": True}
_FLAGS |= {"0": False, "false": False, "no": False, "off": False}
# The sign for NUL, which neither every database nor every CSV reader takes.
_NUL = "\u2400"
# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Wish:
    """One line: an address in its one spelling; None where the line says nothing."""

    line: int
    text: str
    address: str
    note: str | None
    enabled: bool | None


@dataclass(frozen=True, slots=True)
class LineError:
    """One line that cannot be used, with a text for the user.

    Shape: `reason` is `address`, `columns`, `enabled`, `note_long`, `twice` or `lines`.
    """

    line: int
    text: str
    msg: str
    reason: str


class _Problem(ValueError):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def read_whitelist(text: str, *, note_max: int) -> tuple[list[Wish], list[LineError]]:
    """Read a list of addresses.

    Shape: CSV with a header of the columns address, note and enabled in any order; or without one
        a line per address: `203.0.113.5`, `203.0.113.5,note,true`, `203.0.113.5 note`. Empty lines
        and lines that begin with # are left out. An address that comes twice counts once.
    Units: lines count from 1.
    """
    wishes: dict[str, Wish] = {}
    errors: list[LineError] = []
    columns: tuple[str, ...] = HEADER
    is_first = True
    for number, line, cells in _rows(text.removeprefix("\ufeff").replace("\0", _NUL)):
        if number > LINES_MAX:
            errors.append(LineError(number, "", f"There are more than {LINES_MAX} lines.", "lines"))
            break
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        names = tuple(cell.strip().lower() for cell in cells)
        if is_first and "address" in names:
            columns = names
            is_first = False
            continue
        is_first = False
        try:
            wish = _read_line(number, line, cells, columns, note_max)
            present = wishes.get(wish.address)
            if present is not None and (present.note, present.enabled) != (wish.note, wish.enabled):
                raise _Problem(
                    "twice", f"{wish.address} is in line {present.line} already, and says otherwise."
                )
        except ValueError as error:
            reason = error.reason if isinstance(error, _Problem) else "address"
            errors.append(LineError(number, line.strip()[:200], str(error), reason))
            continue
        wishes.setdefault(wish.address, wish)
    return list(wishes.values()), errors


def write_whitelist(rows: Iterable[tuple[str, str, bool]]) -> str:
    """Write CSV that `read_whitelist` reads again; a spreadsheet finds no formula in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(HEADER)
    for address, note, enabled in rows:
        note = note.replace("\0", _NUL)
        writer.writerow((address, f"'{note}" if _is_formula(note) else note, "true" if enabled else "false"))
    return out.getvalue()


def _is_formula(note: str) -> bool:
    # A note that begins with the sign of a masked one is masked too, or it would lose it.
    return note.lstrip("'").startswith(_FORMULA)


def _rows(text: str) -> Iterable[tuple[int, str, list[str]]]:
    """Split into records with the number and the text of their first line."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines)
    while True:
        number = reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error:
            cells = [""]
        if cells is None:
            return
        yield number + 1, "".join(lines[number : reader.line_num]), cells


def _read_line(number: int, line: str, cells: list[str], columns: tuple[str, ...], note_max: int) -> Wish:
    first = cells[0].split(None, 1)
    if columns == HEADER and (len(cells) == 1 or len(first) == 2):
        # No address has a space in it, so this is no CSV, even with a comma in the note.
        words = line.split(None, 1)
        values = dict(zip(HEADER, (word.strip() for word in words), strict=False))
    else:
        values = dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns):
            raise _Problem("columns", 'There are too many columns. Put a note with a comma into "quotes".')
    flag = values.get("enabled", "").strip().lower()
    if flag not in _FLAGS:
        raise _Problem("enabled", f"{flag[:40]!r} in the column `enabled` is neither true nor false.")
    note_text = values.get("note")
    if note_text is not None:
        if note_text.startswith("'") and _is_formula(note_text):
            note_text = note_text[1:]
        if len(note_text) > note_max:
            text = f"The note has {len(note_text)} characters; at most {note_max} are kept."
            raise _Problem("note_long", text)
    return Wish(number, line, normalise_entry(values.get("address", "")), note_text, _FLAGS[flag])
