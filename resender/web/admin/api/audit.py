"""The audit: who changed what, newest first. It is written where changes are made."""

from __future__ import annotations

from typing import Any

import orjson

from resender.store import AuditRow
from resender.web.admin.base import AdminHandler


class AuditHandler(AdminHandler):
    """`GET /admin/api/audit`: newest first."""

    async def get(self) -> None:
        limit = self.query_int("limit", 100, 1, 1000) or 100
        rows = await self.services.store.audit_list(
            before_id=self.query_int("before", None, 0, 2**53),
            limit=limit,
            actor=self.query_text("actor") or None,
            action=self.query_text("action") or None,
        )
        # A full page may be the last one; the next is empty then.
        following = rows[-1].id if len(rows) == limit else None
        self.send({"items": [_shown_audit(row) for row in rows], "next": following})


def _shown_audit(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "time": row.time_ms,
        "actor": row.actor,
        "ip": row.ip,
        "action": row.action,
        "subject": row.subject,
        "before": _values(row.before),
        "after": _values(row.after),
    }


def _values(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # somebody's own row
        return {"text": text}
