"""The audit of the admin pages: who logged in and who changed what, newest first.

What is worth an entry is decided by whoever writes it; nothing secret belongs in one. The oldest
entries go when there are too many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resender.store.rows import AuditRow
from resender.store.tables import Tables, is_id, storable

AUDIT_MAX = 100_000
PAGE_MAX = 1000
# MySQL's TEXT takes 65,535 bytes.
_VALUES_MAX = 10_000
_TEXT_MAX = {"actor": 64, "ip": 64, "action": 64, "subject": 255}


class AuditTable(Tables):
    """Part of `Repository`."""

    def audit_add(
        self,
        actor: str,
        ip: str,
        action: str,
        subject: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> AuditRow:
        """Write an entry.

        Shape: long texts are cut; values too large to keep are replaced by their beginning, as
            `{"truncated": "..."}`.
        """
        model = self.models.audit
        values: dict[str, Any] = {
            "time_ms": self._now_ms(),
            "actor": self._cut("actor", actor),
            "ip": self._cut("ip", ip),
            "action": self._cut("action", action),
            "subject": self._cut("subject", subject),
            "before": self._values(before),
            "after": self._values(after),
        }
        with self.transaction():
            new_id = int(model.insert(**values).execute())
            # Numbers only grow, so this is one look at the start of the table.
            model.delete().where(model.id <= new_id - AUDIT_MAX).execute()
        return AuditRow(id=new_id, **values)

    def audit_list(
        self,
        *,
        before_id: int | None = None,
        limit: int = 100,
        actor: str | None = None,
        action: str | None = None,
    ) -> list[AuditRow]:
        """Read one page, newest first; `before_id` is the id of the last row of the page before."""
        model = self.models.audit
        query = model.select()
        if before_id is not None:
            if not is_id(before_id):
                return []
            query = query.where(model.id < before_id)
        if actor is not None:
            query = query.where(model.actor == storable(self.database, actor))
        if action is not None:
            query = query.where(model.action == storable(self.database, action))
        query = query.order_by(model.id.desc()).limit(max(1, min(limit, PAGE_MAX)))
        return [AuditRow(*row) for row in query.tuples()]

    def audit_has_login(self, username: str, ip: str) -> bool:
        """Tell whether somebody has logged in from this address before, as far as the audit goes back."""
        model = self.models.audit
        mine = (model.action == "login") & (model.actor == self._cut("actor", username))
        return bool(model.select().where(mine & (model.ip == self._cut("ip", ip))).exists())

    def _cut(self, name: str, value: str) -> str:
        return storable(self.database, str(value)[: _TEXT_MAX[name]])

    def _values(self, values: Mapping[str, Any] | None) -> str | None:
        if values is None:
            return None
        text = json.dumps(dict(values), ensure_ascii=False, default=str, separators=(",", ":"))
        if len(text) > _VALUES_MAX:
            text = json.dumps({"truncated": text[:_VALUES_MAX]}, ensure_ascii=False)
        return storable(self.database, text)
