"""The accounts that are watched: list, add, remove, link keys, and what is known of one, live.

Rows are the store's, states `resender.account`'s. Secrets come in here and go out nowhere. No state.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from resender.account import KeyRefused, WatchedAccount, check_key
from resender.api_keys import Signer, Verifier, digest_of, hint_of
from resender.errors import Conflict, RouteError
from resender.secret_box import SecretError
from resender.store import AccountRow, DuplicateAccount, DuplicateKey, Repository, UnknownAccount
from resender.web.admin.fields import Field, wrong
from resender.web.admin.long_answers import EventHandler, LiveHandler

_LOOK_S = 0.25
_LEAST_EVERY = 8
_MARKETS = ("spot", "margin", "um", "cm", "pm")
_MODES = ("key", "signed", "secret")
_MODES_OF = {
    "spot": ("signed", "secret"), "margin": ("signed", "secret"), "um": ("key", "secret"),
    "cm": ("key", "secret"), "pm": ("key", "secret"),
}  # fmt: skip
_KEY = Field(str, default=None, nullable=True, longest=256)
_PEM = Field(str, default=None, nullable=True, longest=10_000)
_ACCOUNT = {
    "name": Field(str, longest=64),
    "market": Field(str, choices=_MARKETS),
    "mode": Field(str, choices=_MODES),
    "key": _KEY,
    "secret": _PEM,
    "public_key": _PEM,
    "digest": Field(str, default=None, nullable=True, longest=64),
}
_LINK = {"key": _KEY, "digest": Field(str, default=None, nullable=True, longest=64), "public_key": _PEM}
_ENDED_SHOWN = 100


class _AccountBase(LiveHandler):
    # A token may look, but not hand over keys.
    login_only_writes = True

    def audit_in(self, repository: Repository, action: str, row: AccountRow, more: str = "") -> None:
        told = {"id": row.id, "name": row.name, "market": row.market, "mode": row.mode}
        if more:
            told["key"] = f"...{more}"
        before, after = (told, None) if action == "remove" else (None, told)
        repository.audit_add(self.login.actor, self.ip, f"account.{action}", row.name, before, after)

    def shown(self, row: AccountRow) -> dict[str, Any]:
        """Return an account as lists show it."""
        account = self.services.accounts.find(row.id)
        mono = self.services.clock.mono()
        callers = self.services.accounts.callers
        item: dict[str, Any] = {
            "id": row.id,
            "name": row.name,
            "market": row.market,
            "mode": row.mode,
            "created": row.created_ms,
            "keys": [
                {
                    "digest": key.digest,
                    "hint": key.hint,
                    "source": key.source,
                    "has_public_key": key.public_key is not None,
                    "addresses": callers.addresses(key.digest, mono),
                }
                for key in row.keys
            ],
            "state": "waiting",
            "why": "",
        }
        return item | (_state(account) if account is not None else {})

    async def row(self, account_id: str) -> AccountRow:
        row = await self.services.store.run(Repository.account_get, int(account_id))
        if row is None:
            raise RouteError(f"There is no account {account_id[:20]}.")
        return row

    def seen(self) -> list[dict[str, Any]]:
        """Return the keys on signed calls that belong to no account, the newest first."""
        return [
            {
                "market": seen.market.value, "digest": seen.digest, "hint": seen.hint,
                "address": seen.address, "last": seen.last_ms, "calls": seen.calls,
            }
            for seen in reversed(self.services.accounts.seen.values())
        ]  # fmt: skip

    def read_key(self, body: dict[str, Any]) -> tuple[str, str] | None:
        """Read which key is meant, by itself or by the digest of one that was seen; None if none is.

        Raises: BadRequest.
        """
        if body["key"]:
            key = body["key"].strip()
            if not 20 <= len(key) <= 256 or not key.isalnum() or not key.isascii():
                raise wrong("key", "An API key is 64 letters and digits.", reason="bad_key")
            return digest_of(key), hint_of(key)
        if body["digest"]:
            for seen in self.services.accounts.seen.values():
                if seen.digest == body["digest"]:
                    return seen.digest, seen.hint
            raise wrong("digest", "This key has not been seen lately.", reason="not_seen")
        return None


def _state(account: WatchedAccount) -> dict[str, Any]:
    told = account.state()
    return {
        "state": told["state"],
        "why": told["why"],
        "since": told["since"],
        "open_orders": told["openOrders"],
        "hits": account.hits,
        "misses": dict(account.misses),
        "differences": account.difference_count,
        "last_differences": [{"time": at, "what": what} for at, what in reversed(account.differences)],
        "events": account.events.total(),
        "unknown_events": dict(account.unknown_events),
    }


def _check_public_key(text: str | None) -> None:
    if text:
        try:
            Verifier.parse(text)
        except ValueError as error:
            raise wrong("public_key", str(error), reason="bad_public_key") from None


class AccountsHandler(_AccountBase):
    """`GET` and `POST /admin/api/accounts`."""

    async def get(self) -> None:
        rows = await self.services.store.run(Repository.account_list)
        self.send({"items": [self.shown(row) for row in rows], "seen": self.seen()})

    async def post(self) -> None:
        body = self.read_json(_ACCOUNT)
        if body["mode"] not in _MODES_OF[body["market"]]:
            raise wrong("mode", f"{body['market']} cannot be watched so.", reason="mode_of_market")
        key = self.read_key(body)
        _check_public_key(body["public_key"])
        sealed: str | None = None
        if body["mode"] == "secret":
            if not body["key"] or not body["secret"]:
                raise wrong("secret", "A key of its own needs key and secret.", reason="secret_missing")
            sealed = await self._seal(body["key"].strip(), body["secret"])
        row = await self._add(body, key, sealed)
        self.send(self.shown(row), 201)

    async def _seal(self, key: str, secret: str) -> str:
        services = self.services
        try:
            signer = Signer.parse(secret.strip() if "-----" not in secret else secret)
        except ValueError as error:
            raise wrong("secret", str(error), reason="bad_secret") from None
        now_ms = services.dispatch.egress.governor.clock.now_ms(services.clock.mono())
        try:
            await check_key(services.dispatch, key, signer, now_ms)
        except KeyRefused as error:
            raise wrong("key", str(error), reason="key_refused", words=str(error)) from None
        return orjson.dumps({"key": key, "secret": secret}).decode()

    async def _add(self, body: dict[str, Any], key: tuple[str, str] | None, plain: str | None) -> AccountRow:
        box = self.services.secret_box
        digest, hint = key if key is not None else (None, "")

        def work(repository: Repository) -> AccountRow:
            row = repository.account_add(
                body["name"],
                body["market"],
                body["mode"],
                digest=digest,
                hint=hint,
                public_key=body["public_key"] or None,
                source="own" if plain is not None else "linked",
            )
            if plain is not None:
                # The row's number is bound in: nothing sealed can be moved to another account.
                row = repository.account_seal(row.id, box.seal(plain, str(row.id)))
            self.audit_in(repository, "add", row, hint)
            return row

        try:
            return await self.services.store.account_change(work)
        except DuplicateAccount as error:
            raise Conflict(str(error), {"reason": "account_exists"}) from None
        except DuplicateKey as error:
            raise Conflict(str(error), {"reason": "key_taken"}) from None
        except SecretError as error:
            raise wrong("secret", str(error), reason="no_box", words=str(error)) from None
        except ValueError as error:
            raise wrong("name", str(error), reason="bad_name") from None


class AccountHandler(_AccountBase):
    """`GET` and `DELETE /admin/api/accounts/<id>`."""

    async def get(self, account_id: str) -> None:
        row = await self.row(account_id)
        account = self.services.accounts.find(row.id)
        self.send(self.shown(row) | (whole(account) if account is not None else {}))

    async def delete(self, account_id: str) -> None:
        row = await self.row(account_id)

        def work(repository: Repository) -> None:
            self.audit_in(repository, "remove", row)
            repository.account_remove(row.id)

        await self.services.store.account_change(work)
        self.send({})


def whole(account: WatchedAccount) -> dict[str, Any]:
    """Return everything that is known of an account."""
    return {
        **_state(account),
        "orders": account.open_orders(),
        "ended": account.ended_orders()[:_ENDED_SHOWN],
        "balances": account.balances(),
        "positions": account.positions(),
    }


class AccountKeysHandler(_AccountBase):
    """`POST /admin/api/accounts/<id>/keys`: another key of the same account."""

    async def post(self, account_id: str) -> None:
        row = await self.row(account_id)
        body = self.read_json(_LINK)
        key = self.read_key(body)
        if key is None:
            raise wrong("key", "Which key?", reason="missing")
        _check_public_key(body["public_key"])

        def work(repository: Repository) -> None:
            repository.account_link(row.id, *key, public_key=body["public_key"] or None)
            self.audit_in(repository, "link", row, key[1])

        try:
            await self.services.store.account_change(work)
        except DuplicateKey as error:
            raise Conflict(str(error), {"reason": "key_taken"}) from None
        except UnknownAccount:
            raise RouteError(f"There is no account {account_id[:20]}.") from None
        self.send(self.shown(await self.row(account_id)), 201)


class AccountKeyHandler(_AccountBase):
    """`DELETE /admin/api/accounts/<id>/keys/<digest>`."""

    async def delete(self, account_id: str, digest: str) -> None:
        row = await self.row(account_id)

        def work(repository: Repository) -> None:
            repository.account_unlink(row.id, digest)
            self.audit_in(repository, "unlink", row)

        await self.services.store.account_change(work)
        self.send(self.shown(await self.row(account_id)))


class AccountEventsHandler(_AccountBase, EventHandler):
    """`GET /admin/api/accounts/<id>/events`: an account as it changes."""

    async def get(self, account_id: str) -> None:
        row = await self.row(account_id)
        account = self.services.accounts.find(row.id)
        if account is None:
            raise RouteError(f"There is no account {account_id[:20]}.")
        changed = asyncio.Event()
        listener = lambda message: changed.set()  # noqa: E731
        account.listeners.add(listener)
        try:
            with self.live.stream():
                if not await self.begin():
                    return
                turn = 0
                while True:
                    if changed.is_set() or turn % _LEAST_EVERY == 0:
                        changed.clear()
                        turn = 0
                        if not await self.event("account", orjson.dumps(whole(account))):
                            return
                    if self.services.accounts.find(row.id) is not account:
                        await self.end("dropped")
                        return
                    if not await self.goes_on(_LOOK_S):
                        return
                    turn += 1
        finally:
            account.listeners.discard(listener)
