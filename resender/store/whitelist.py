"""The whitelist table.

It stores and lists entries; whether an address matches is `resender.core.access.whitelist`. Every change
raises `whitelist_revision` in the same transaction, which is how other processes notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import peewee

from resender.core.access.whitelist import normalise_entry
from resender.store.rows import BadNote, DuplicateEntry, UnknownEntry, WhitelistEntry
from resender.store.tables import Tables, storable, valid_text

T = TypeVar("T")
NOTE_MAX = 1000
_REVISION = "whitelist_revision"
_SEEDED = "whitelist_seeded"
# Values of one statement; older SQLite takes 999 parameters, an entry has seven.
_AT_ONCE = 100


class WhitelistTable(Tables):
    """Part of `Repository`."""

    def whitelist_list(self) -> list[WhitelistEntry]:
        """List all entries, oldest first."""
        model = self.models.whitelist
        return [WhitelistEntry(*row) for row in model.select().order_by(model.id).tuples()]

    def whitelist_get(self, address_or_id: str | int) -> WhitelistEntry | None:
        """Find an entry by its id, or by its address in any spelling."""
        model = self.models.whitelist
        key = _key(address_or_id)
        found = (model.id == key) if isinstance(key, int) else (model.address == key)
        row = model.select().where(found).tuples().first()
        return None if row is None else WhitelistEntry(*row)

    def whitelist_snapshot(self) -> tuple[int, tuple[WhitelistEntry, ...]]:
        """Read the revision and the entries that belong to it.

        Shape: entries read after the revision are at least as new, so a reader that compares
            revisions can see a change twice but never miss one.
        """
        revision = self.whitelist_revision()
        return revision, tuple(self.whitelist_list())

    def whitelist_revision(self) -> int:
        """Read the number that changes with every change of the whitelist."""
        return int(self.state_get(_REVISION) or 0)

    def whitelist_add(self, address: str, note: str = "", enabled: bool = True) -> WhitelistEntry:
        """Add an address or network.

        Raises: ValueError if the address or the note cannot be used; DuplicateEntry, carrying the
            existing row, if the address is there already.
        """
        canonical = normalise_entry(address)
        note = self._note(note)
        with self.transaction():
            self._next_revision()
            self._refuse_duplicate(canonical)
            return self._insert(canonical, note, enabled)

    def whitelist_update(
        self,
        entry_id: int,
        *,
        address: str | None = None,
        note: str | None = None,
        enabled: bool | None = None,
    ) -> WhitelistEntry:
        """Change what is given of an entry and return the row as it is now.

        Raises: ValueError, DuplicateEntry as `whitelist_add`; UnknownEntry if there is no such id.
        """
        changes: dict[str, Any] = {}
        if address is not None:
            changes["address"] = normalise_entry(address)
        if note is not None:
            changes["note"] = self._note(note)
        if enabled is not None:
            changes["enabled"] = bool(enabled)
        model = self.models.whitelist
        with self.transaction():
            self._next_revision()
            if self.whitelist_get(entry_id) is None:
                raise UnknownEntry(entry_id)
            if "address" in changes:
                self._refuse_duplicate(changes["address"], excluding=entry_id)
            changes["updated_ms"] = self._now_ms()
            model.update(**changes).where(model.id == entry_id).execute()
            entry = self.whitelist_get(entry_id)
        assert entry is not None
        return entry

    def whitelist_remove(self, address_or_id: str | int) -> bool:
        """Remove an entry; tell whether there was one.

        Shape: a text of digits only is an id.
        Raises: ValueError if the text is neither an id nor an address.
        """
        model = self.models.whitelist
        with self.transaction():
            entry = self.whitelist_get(address_or_id)
            if entry is None:
                return False
            self._next_revision()
            return bool(model.delete().where(model.id == entry.id).execute())

    def whitelist_add_many(self, rows: Sequence[tuple[str, str, bool]]) -> list[WhitelistEntry]:
        """Add addresses with their notes and switches, thousands in a second.

        Raises: as `whitelist_add`; nothing is added then.
        """
        model, now_ms = self.models.whitelist, self._now_ms()
        canonical = [(normalise_entry(each), self._note(note), enabled) for each, note, enabled in rows]
        added: list[WhitelistEntry] = []
        with self.transaction():
            self._next_revision()
            for part in _parts(canonical):
                mine = model.address.in_([address for address, _, _ in part])
                present = model.select().where(mine).tuples().first()
                if present is not None:
                    raise DuplicateEntry(WhitelistEntry(*present))
                values = [self._new_entry(address, note, enabled, now_ms) for address, note, enabled in part]
                model.insert_many(values).execute()
                added += [
                    WhitelistEntry(*row) for row in model.select().where(mine).order_by(model.id).tuples()
                ]
        return added

    def whitelist_update_many(
        self, changes: Sequence[tuple[int, str | None, bool | None]]
    ) -> list[WhitelistEntry]:
        """Change the note or the switch of entries, where not None; return them as they are now.

        Shape: ids that are gone are left out.
        Raises: ValueError if a note cannot be used; nothing is changed then.
        """
        model, now_ms = self.models.whitelist, self._now_ms()
        changed: list[WhitelistEntry] = []
        with self.transaction():
            self._next_revision()
            for part in _parts(changes):
                for entry_id, note, enabled in part:
                    values: dict[str, Any] = {"updated_ms": now_ms}
                    if note is not None:
                        values["note"] = self._note(note)
                    if enabled is not None:
                        values["enabled"] = bool(enabled)
                    model.update(**values).where(model.id == entry_id).execute()
                mine = model.id.in_([entry_id for entry_id, _, _ in part])
                changed += [
                    WhitelistEntry(*row) for row in model.select().where(mine).order_by(model.id).tuples()
                ]
        return changed

    def whitelist_remove_many(self, ids: Sequence[int]) -> int:
        """Remove entries; return how many there were."""
        model = self.models.whitelist
        with self.transaction():
            self._next_revision()
            return sum(int(model.delete().where(model.id.in_(part)).execute()) for part in _parts(ids))

    def whitelist_seed(self, addresses: Iterable[str]) -> list[WhitelistEntry]:
        """Put the first entries into a new database, and return them.

        Shape: the first call on a database counts, even with nothing to add; every later one does
            nothing, also when the table has been emptied. Addresses already there are kept.
        Raises: ValueError if an address cannot be used; nothing is added then.
        """
        canonical = dict.fromkeys(normalise_entry(address) for address in addresses)
        added: list[WhitelistEntry] = []
        if self.state_get(_SEEDED) == "1":
            return added
        with self.transaction():
            if self.state_get(_SEEDED, lock=True) == "1":
                return added
            self.state_set(_SEEDED, "1")
            if canonical:
                self._next_revision()
            for address in canonical:
                if self.whitelist_get(address) is None:
                    added.append(self._insert(address, "", True))
        return added

    def whitelist_seen(self, seen: Mapping[int, tuple[int, int]]) -> None:
        """Add calls to entries: id -> (number of calls, time of the last one in ms).

        Shape: not a change of the whitelist, so the revision stays; unknown ids are ignored.
        """
        model = self.models.whitelist
        with self.transaction():
            for entry_id, (calls, last_ms) in sorted(seen.items()):
                later = model.last_seen_ms.is_null() | (model.last_seen_ms < last_ms)
                last_seen = peewee.Case(None, ((later, last_ms),), model.last_seen_ms)
                model.update(calls=model.calls + calls, last_seen_ms=last_seen).where(
                    model.id == entry_id
                ).execute()

    def _next_revision(self) -> None:
        # First in the transaction: where writers run side by side the lock on this row makes
        # them take turns, so that looking for a duplicate and inserting is one step.
        revision = int(self.state_get(_REVISION, lock=True) or 0)
        self.state_set(_REVISION, str(revision + 1))

    def _refuse_duplicate(self, canonical: str, excluding: int | None = None) -> None:
        present = self.whitelist_get(canonical)
        if present is not None and present.id != excluding:
            raise DuplicateEntry(present)

    def _insert(self, canonical: str, note: str, enabled: bool) -> WhitelistEntry:
        row = self._new_entry(canonical, note, enabled, self._now_ms())
        return WhitelistEntry(id=int(self.models.whitelist.insert(row).execute()), **row)

    def _new_entry(self, canonical: str, note: str, enabled: bool, now_ms: int) -> dict[str, Any]:
        return {
            "address": canonical,
            "note": note,
            "enabled": bool(enabled),
            "created_ms": now_ms,
            "updated_ms": now_ms,
            "last_seen_ms": None,
            "calls": 0,
        }

    def _note(self, note: str) -> str:
        if len(note) > NOTE_MAX:
            text = f"The note is too long: {len(note)} characters, at most {NOTE_MAX} are kept."
            raise BadNote("note_long", text)
        if not valid_text(note):
            raise BadNote("note", "The note holds characters that are not text (lone surrogates).")
        return storable(self.database, note)


def _parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _key(address_or_id: str | int) -> str | int:
    if isinstance(address_or_id, str):
        text = address_or_id.strip()
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        return normalise_entry(text)
    return address_or_id
