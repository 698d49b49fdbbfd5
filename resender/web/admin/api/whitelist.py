"""The whitelist's API: entries, several at once, text in and out, and who was refused.

Every change and its audit row are one transaction, in force for the very next request. The rules
of addresses are `resender.core.access.whitelist`, of lists `resender.core.access.whitelist_text`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from resender.core.access.whitelist import is_name
from resender.core.access.whitelist_text import Wish, read_whitelist, write_whitelist
from resender.errors import Conflict, RouteError
from resender.store import NOTE_MAX, BadNote, DuplicateEntry, Repository, UnknownEntry, WhitelistEntry
from resender.web.admin.base import AdminHandler
from resender.web.admin.fields import Field, wrong

T = TypeVar("T")
_TEXT_MAX = 2_000_000
_IDS_MAX = 10_000
# A row of the audit takes so many entries; larger changes get several rows.
_AUDITED_AT_ONCE = 50
_ERRORS_MAX = 200


def shown_entry(entry: WhitelistEntry) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    return {
        "id": entry.id,
        "address": entry.address,
        "note": entry.note,
        "enabled": entry.enabled,
        "created": entry.created_ms,
        "updated": entry.updated_ms,
        "last_seen": entry.last_seen_ms,
        "calls": entry.calls,
    }


def _audited(entry: WhitelistEntry) -> dict[str, Any]:
    return {"address": entry.address, "note": entry.note, "enabled": entry.enabled}


class _EntriesHandler(AdminHandler):
    def audit_in(
        self,
        repository: Repository,
        action: str,
        subject: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        repository.audit_add(self.login.actor, self.ip, f"whitelist.{action}", subject, before, after)

    async def change(self, work: Callable[[Repository], T]) -> T:
        """Change the whitelist.

        Raises: BadRequest for an address that cannot be used, Conflict for one that is there,
            RouteError for an entry that is gone.
        """
        try:
            return await self.services.store.whitelist_change(work)
        except DuplicateEntry as error:
            found = {"id": error.entry.id, "address": error.entry.address}
            raise Conflict(str(error), {"field": "address", "reason": "entry_exists", **found}) from None
        except UnknownEntry as error:
            raise RouteError(str(error)) from None
        except BadNote as error:
            raise wrong("note", str(error), reason=error.reason) from None
        except ValueError as error:
            raise wrong("address", str(error), reason="address") from None

    def audit_many(
        self,
        repository: Repository,
        action: str,
        before: Sequence[WhitelistEntry],
        after: Sequence[WhitelistEntry],
    ) -> None:
        """Write down a change of several entries, a row for every fifty."""
        for start in range(0, max(len(before), len(after)), _AUDITED_AT_ONCE):
            part = slice(start, start + _AUDITED_AT_ONCE)
            old, new = before[part], after[part]
            subject = ", ".join(entry.address for entry in (new or old))
            self.audit_in(
                repository,
                action,
                subject if len(subject) <= 200 else f"{subject[:200]}…",
                {"entries": [_audited(entry) for entry in old]} if old else None,
                {"entries": [_audited(entry) for entry in new]} if new else None,
            )


class WhitelistHandler(_EntriesHandler):
    """`GET` and `POST /admin/api/whitelist`."""

    async def get(self) -> None:
        entries = await self.services.store.whitelist_list()
        resolved = self.services.access.resolved
        items = [shown_entry(e) | ({"resolved": list(resolved.get(e.address, ()))} if is_name(e.address) else {})
                 for e in entries]  # fmt: skip
        self.send({"items": items, "your_address": self.ip})

    async def post(self) -> None:
        body = self.read_json(
            {
                "address": Field(str, longest=200),
                "note": Field(str, "", longest=10 * NOTE_MAX),
                "enabled": Field(bool, True),
            }
        )

        def work(repository: Repository) -> WhitelistEntry:
            entry = repository.whitelist_add(body["address"], body["note"], body["enabled"])
            self.audit_in(repository, "add", entry.address, None, _audited(entry))
            return entry

        self.send(shown_entry(await self.change(work)), 201)


class WhitelistEntryHandler(_EntriesHandler):
    """`PATCH` and `DELETE /admin/api/whitelist/<id>`."""

    async def patch(self, row_id: str) -> None:
        entry_id = int(row_id)
        body = self.read_json(
            {
                "address": Field(str, None, longest=200),
                "note": Field(str, None, longest=10 * NOTE_MAX),
                "enabled": Field(bool, None),
            }
        )

        def work(repository: Repository) -> WhitelistEntry:
            before = repository.whitelist_get(entry_id)
            if before is None:
                raise UnknownEntry(entry_id)
            entry = repository.whitelist_update(entry_id, **body)
            self.audit_in(repository, "change", entry.address, _audited(before), _audited(entry))
            return entry

        self.send(shown_entry(await self.change(work)))

    async def delete(self, row_id: str) -> None:
        entry_id = int(row_id)

        def work(repository: Repository) -> None:
            before = repository.whitelist_get(entry_id)
            if before is None or not repository.whitelist_remove(entry_id):
                raise UnknownEntry(entry_id)
            self.audit_in(repository, "remove", before.address, _audited(before), None)

        await self.change(work)
        self.send({})


class WhitelistBulkHandler(_EntriesHandler):
    """`POST /admin/api/whitelist/bulk`: several entries at once; those that are gone are left out."""

    async def post(self) -> None:
        body = self.read_json(
            {
                "action": Field(str, choices=("enable", "disable", "delete")),
                "ids": Field(list, longest=_IDS_MAX, items=int),
            }
        )
        action = body["action"]
        wanted = set(body["ids"])

        def work(repository: Repository) -> int:
            found = [entry for entry in repository.whitelist_list() if entry.id in wanted]
            if action == "delete":
                repository.whitelist_remove_many([entry.id for entry in found])
                self.audit_many(repository, "remove", found, [])
                return len(found)
            enabled = action == "enable"
            before = [entry for entry in found if entry.enabled != enabled]
            after = repository.whitelist_update_many([(entry.id, None, enabled) for entry in before])
            self.audit_many(repository, "change", before, after)
            return len(before)

        self.send({"changed": await self.change(work)})


class WhitelistImportHandler(_EntriesHandler):
    """`POST /admin/api/whitelist/import`: all lines or, when one cannot be read, none."""

    async def post(self) -> None:
        body = self.read_json({"text": Field(str, longest=_TEXT_MAX), "dry_run": Field(bool, False)})
        # Thousands of addresses take a tenth of a second.
        wishes, errors = await asyncio.to_thread(read_whitelist, body["text"], note_max=NOTE_MAX)
        is_dry = body["dry_run"] or bool(errors)

        def work(repository: Repository) -> dict[str, Any]:
            return self._apply(repository, wishes, is_dry=is_dry)

        counts = await (self.services.store.run(work) if is_dry else self.change(work))
        shown = [asdict(error) for error in errors[:_ERRORS_MAX]]
        self.send({**counts, "errors": shown, "errors_total": len(errors)})

    def _apply(self, repository: Repository, wishes: Sequence[Wish], *, is_dry: bool) -> dict[str, Any]:
        present = {entry.address: entry for entry in repository.whitelist_list()}
        to_add = [wish for wish in wishes if wish.address not in present]
        to_update = [
            (present[wish.address], wish)
            for wish in wishes
            if wish.address in present and _differs(present[wish.address], wish)
        ]
        if not is_dry:
            added = repository.whitelist_add_many(
                [(wish.address, wish.note or "", wish.enabled is not False) for wish in to_add]
            )
            updated = repository.whitelist_update_many(
                [(entry.id, wish.note, wish.enabled) for entry, wish in to_update]
            )
            self.audit_many(repository, "import", [], added)
            self.audit_many(repository, "import", [entry for entry, _ in to_update], updated)
        unchanged = len(wishes) - len(to_add) - len(to_update)
        return {"added": len(to_add), "updated": len(to_update), "unchanged": unchanged}


def _differs(entry: WhitelistEntry, wish: Wish) -> bool:
    return (wish.note is not None and wish.note != entry.note) or (
        wish.enabled is not None and wish.enabled != entry.enabled
    )


class WhitelistExportHandler(_EntriesHandler):
    """`GET /admin/api/whitelist/export`: CSV."""

    async def get(self) -> None:
        entries = await self.services.store.whitelist_list()
        text = write_whitelist((entry.address, entry.note, entry.enabled) for entry in entries)
        self.send_file("whitelist.csv", "text/csv; charset=utf-8")
        # With its mark a spreadsheet knows that it is UTF-8.
        self.finish("\ufeff" + text)


class RefusedHandler(AdminHandler):
    """`GET /admin/api/refused`: who was refused lately; `DELETE` empties the list."""

    def get(self) -> None:
        # Who has been allowed since is not waiting any more.
        rows = [
            row
            for row in self.services.access.refused.items()
            if self.services.access.whitelist.match(row.address) is None
        ]
        self.send(
            {
                "items": [
                    {
                        "address": row.address,
                        "count": row.count,
                        "first": row.first_ms,
                        "last": row.last_ms,
                        "path": row.path,
                    }
                    for row in rows
                ]
            }
        )

    async def delete(self) -> None:
        count = len(self.services.access.refused)
        await self.audit("refused.clear", "", {"addresses": count})
        self.services.access.refused.clear()
        self.send({"removed": count})
