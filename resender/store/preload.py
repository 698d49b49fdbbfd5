"""The table of preload rules.

It stores and lists rules; what they mean is `resender.core.market.preload`. Every change raises
`preload_revision` in the same transaction, which is how other processes notice.
"""

from __future__ import annotations

from typing import Any

from resender.core.market.preload import PreloadRule, parse_rule
from resender.store.rows import DuplicateRule, PreloadRow, UnknownRule
from resender.store.tables import Tables

_REVISION = "preload_revision"
_ID_MAX = 2**31 - 1


class PreloadTable(Tables):
    """Part of `Repository`."""

    def preload_list(self) -> list[PreloadRow]:
        """List all rules, oldest first."""
        model = self.models.preload
        return [PreloadRow(*row) for row in model.select().order_by(model.id).tuples()]

    def preload_get(self, rule_id: int) -> PreloadRow | None:
        """Find a rule by its id."""
        # Where ids are 32 bits wide, larger numbers would be an error instead of no row.
        if not 0 < rule_id <= _ID_MAX:
            return None
        model = self.models.preload
        row = model.select().where(model.id == rule_id).tuples().first()
        return None if row is None else PreloadRow(*row)

    def preload_snapshot(self) -> tuple[int, tuple[PreloadRow, ...]]:
        """Read the revision and the rules that belong to it, as `whitelist_snapshot`."""
        revision = self.preload_revision()
        return revision, tuple(self.preload_list())

    def preload_revision(self) -> int:
        """Read the number that changes with every change of the rules."""
        return int(self.state_get(_REVISION) or 0)

    def preload_add(self, rule: PreloadRule) -> PreloadRow:
        """Add a rule.

        Raises: ValueError if it is not one that `parse_rule` would make; DuplicateRule, carrying
            the existing row, if there is one that says the same.
        """
        values = _values(rule)
        with self.transaction():
            self._next_preload_revision()
            self._refuse_duplicate_rule(values)
            values["created_ms"] = self._now_ms()
            return PreloadRow(id=int(self.models.preload.insert(values).execute()), **values)

    def preload_update(self, rule_id: int, rule: PreloadRule) -> PreloadRow:
        """Put another rule in the place of one and return the row as it is now.

        Raises: ValueError, DuplicateRule as `preload_add`; UnknownRule if there is no such id.
        """
        values = _values(rule)
        model = self.models.preload
        with self.transaction():
            self._next_preload_revision()
            if self.preload_get(rule_id) is None:
                raise UnknownRule(rule_id)
            self._refuse_duplicate_rule(values, excluding=rule_id)
            model.update(**values).where(model.id == rule_id).execute()
            row = self.preload_get(rule_id)
        assert row is not None
        return row

    def preload_remove(self, rule_id: int) -> bool:
        """Remove a rule; tell whether there was one."""
        model = self.models.preload
        with self.transaction():
            if self.preload_get(rule_id) is None:
                return False
            self._next_preload_revision()
            return bool(model.delete().where(model.id == rule_id).execute())

    def _next_preload_revision(self) -> None:
        # First in the transaction, for the reason given at `WhitelistTable._next_revision`.
        revision = int(self.state_get(_REVISION, lock=True) or 0)
        self.state_set(_REVISION, str(revision + 1))

    def _refuse_duplicate_rule(self, values: dict[str, Any], excluding: int | None = None) -> None:
        meaning = _meaning(values["market"], values["symbols"], values["what"])
        for row in self.preload_list():
            if row.id != excluding and _meaning(row.market, row.symbols, row.what) == meaning:
                raise DuplicateRule(row)


def _values(rule: PreloadRule) -> dict[str, Any]:
    # Read again, so that nothing gets in that could not be read back.
    checked = parse_rule(str(rule.market), rule.symbols_text, rule.what)
    return {"market": checked.market.value, "symbols": checked.symbols_text, "what": checked.what}


def _meaning(market: str, symbols: str, what: str) -> tuple[str, frozenset[str], str]:
    # The order of the symbols says nothing.
    return market, frozenset(symbols.split(",")), what
