"""The accounts that are watched: list, add, remove, link keys, and what is known of one, live.

Rows are the store's, states `resender.account`'s. Secrets come in here and go out nowhere. No state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from resender.account import KeyRefused, WatchedAccount, check_key
from resender.api_keys import Signer, Verifier, digest_of, hint_of
from resender.assembly import ACCOUNT_STATES_KEY
from resender.core.account.dialects import OPEN, Row
from resender.core.account.spec import MODES, AccountMarket, Mode
from resender.core.account.states import told_states
from resender.errors import Conflict, RouteError
from resender.secret_box import SecretError
from resender.store import AccountRow, DuplicateAccount, DuplicateKey, Repository, UnknownAccount
from resender.web.admin.fields import Field, wrong
from resender.web.admin.long_answers import EventHandler, LiveHandler

_LOOK_S = 0.25
# A stream of an account says something so often, in looks, and everything again so often.
_LEAST_EVERY = 8
_WHOLE_EVERY = 240
# More orders that have changed at once are told as everything.
_MAX_CHANGED = 300
_KEY = Field(str, default=None, nullable=True, longest=256)
_PEM = Field(str, default=None, nullable=True, longest=10_000)
_ACCOUNT = {
    "name": Field(str, longest=64),
    "market": Field(str, choices=tuple(each.value for each in AccountMarket)),
    "mode": Field(str, choices=tuple(each.value for each in Mode)),
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

    def audit_in(self, repository: Repository, action: str, row: AccountRow, hint: str = "") -> None:
        told = {"id": row.id, "name": row.name, "market": row.market, "mode": row.mode}
        if hint:
            told["key"] = f"...{hint}"
        before, after = (told, None) if action in ("remove", "unlink") else (None, told)
        repository.audit_add(self.login.actor, self.ip, f"account.{action}", row.name, before, after)

    def shown(self, row: AccountRow, elsewhere: Mapping[int, dict[str, Any]] | None = None) -> dict[str, Any]:
        """Return an account as lists show it. Shape: `elsewhere` is what other nodes have told, by its number."""
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
        }
        if account is not None:
            return item | _state(account)
        told = (elsewhere or {}).get(row.id)
        if told is None:
            return item | _NOT_HERE
        return item | _NOT_HERE | {
            "state": told["state"], "why": told.get("why") or "", "since": told.get("since_ms"),
            "open_orders": told.get("orders") or 0,
        }  # fmt: skip

    async def row(self, account_id: str) -> AccountRow:
        row = await self.services.store.run(Repository.account_get, int(account_id))
        if row is None:
            raise _gone(account_id)
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
        if body["public_key"]:
            raise wrong("key", "Whose public key is it? Give the API key too.", reason="missing")
        return None


#: An account that is set up, but not watched by this process (yet).
_NOT_HERE: dict[str, Any] = {
    "state": "waiting", "why": "not watched here", "since": None, "open_orders": 0, "hits": 0, "misses": {},
    "differences": 0, "events": 0, "unknown_events": {},
}  # fmt: skip


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
        told: dict[int, dict[str, Any]] = {}
        if self.services.cluster is not None:
            text = await self.services.store.run(lambda repository: repository.state_get(ACCOUNT_STATES_KEY))
            told = told_states(text, self.services.clock.now_ms())
        self.send({"items": [self.shown(row, told) for row in rows], "seen": self.seen()})

    async def post(self) -> None:
        body = self.read_json(_ACCOUNT)
        if Mode(body["mode"]) not in MODES[AccountMarket(body["market"])]:
            raise wrong("mode", f"{body['market']} cannot be watched so.", reason="mode_of_market")
        key = self.read_key(body)
        _check_public_key(body["public_key"])
        plain: str | None = None
        if body["mode"] == "secret":
            for name in ("key", "secret"):
                if not (body[name] or "").strip():
                    raise wrong(name, "A key of its own needs key and secret.", reason="secret_missing")
            plain = await self._checked(body["key"].strip(), body["secret"].strip())
        row = await self._add(body, key, plain)
        self.send(self.shown(row), 201)

    async def _checked(self, key: str, secret: str) -> str:
        """Return what is to be sealed, if Binance says that the key may only read."""
        services = self.services
        try:
            signer = Signer.parse(secret)
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
            told = {"field": "name", "reason": "account_exists", "id": error.row.id}
            raise Conflict(str(error), told) from None
        except DuplicateKey as error:
            raise _taken(error) from None
        except SecretError as error:
            raise wrong("secret", str(error), reason="no_box", words=str(error)) from None
        except ValueError as error:
            raise wrong("name", str(error), reason="bad_name") from None


def _taken(error: DuplicateKey) -> Conflict:
    told = {"field": "key", "reason": "key_taken", "id": error.row.id, "name": error.row.name}
    return Conflict(str(error), told)


def _gone(account_id: str) -> RouteError:
    return RouteError(f"There is no account {account_id[:20]}.", {"reason": "account_gone"})


class AccountHandler(_AccountBase):
    """`GET` and `DELETE /admin/api/accounts/<id>`."""

    async def get(self, account_id: str) -> None:
        row = await self.row(account_id)
        account = self.services.accounts.find(row.id)
        self.send(self.shown(row) | (whole(account) if account is not None else _NOTHING))

    async def delete(self, account_id: str) -> None:
        row = await self.row(account_id)

        def work(repository: Repository) -> bool:
            is_gone = repository.account_remove(row.id)
            if is_gone:
                self.audit_in(repository, "remove", row)
            return is_gone

        if not await self.services.store.account_change(work):
            raise _gone(account_id)
        # What was sealed is to be in no file any more, SQLite's log included.
        await self.services.store.run(Repository.empty_wal)
        self.send({})


_NOTHING: dict[str, Any] = {
    "orders": [], "ended": [], "balances": [], "positions": [], "last_differences": [],
}  # fmt: skip


def whole(account: WatchedAccount) -> dict[str, Any]:
    """Return everything that is known of an account."""
    return {
        **_state(account),
        "orders": [_order(row) for row in account.open_orders()],
        "ended": [_order(row) for row in account.ended_orders()[:_ENDED_SHOWN]],
        "balances": account.balances(),
        "positions": account.positions(),
        "last_differences": _differences(account),
    }


def _order(row: Row) -> Row:
    # Order numbers have up to 19 digits, of which a browser keeps 16: they are sent as texts.
    return {
        name: str(value) if type(value) is int and name.endswith("Id") else value
        for name, value in row.items()
    }


def _differences(account: WatchedAccount) -> list[dict[str, Any]]:
    return [{"time": at, "what": what} for at, what in reversed(account.differences)]


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
            raise _taken(error) from None
        except UnknownAccount:
            raise _gone(account_id) from None
        self.send(self.shown(await self.row(account_id)), 201)


class AccountKeyHandler(_AccountBase):
    """`DELETE /admin/api/accounts/<id>/keys/<digest>`."""

    async def delete(self, account_id: str, digest: str) -> None:
        row = await self.row(account_id)
        key = next((each for each in row.keys if each.digest == digest), None)
        if key is not None and key.source == "own":
            msg = "The account is read with this key: remove the account instead."
            raise Conflict(msg, {"reason": "own_key"})

        def work(repository: Repository) -> bool:
            is_gone = repository.account_unlink(row.id, digest)
            if is_gone and key is not None:
                self.audit_in(repository, "unlink", row, key.hint)
            return is_gone

        if key is None or not await self.services.store.account_change(work):
            raise RouteError("The account has no such key.", {"reason": "key_gone"})
        self.send(self.shown(await self.row(account_id)))


class _Changes:
    """What an account has told its listeners since it was asked last; everything, if that is shorter."""

    def __init__(self, account: WatchedAccount) -> None:
        self._account = account
        self._orders: dict[tuple[str, str, Any], Row] = {}
        self._money: dict[str, Any] = {}
        self._is_whole = True
        self._is_new = False
        self._differences = 0

    def hear(self, message: dict[str, Any]) -> None:
        """Take one message; it runs while the account applies an event and has to be short."""
        self._is_new = True
        kind = message["e"]
        if kind == "order":
            row = message["order"]
            key = (message["kind"], str(row.get("symbol")), row.get("orderId", row.get("algoId")))
            self._orders[key] = row
        elif kind == "balances":
            self._money = {name: message[name] for name in ("balances", "positions")}
        elif kind == "snapshot":
            self._is_whole = True
        if len(self._orders) > _MAX_CHANGED:
            self._is_whole = True
        if self._is_whole:
            self._orders.clear()

    def everything(self) -> None:
        self._is_whole = True

    def take(self, *, least: bool) -> tuple[str, bytes] | None:
        """Return the next event; None if there is nothing to tell and nothing has to be told."""
        if not (self._is_whole or self._is_new or least):
            return None
        if self._is_whole:
            found = "account", orjson.dumps(whole(self._account))
        else:
            orders = [
                {**_order(row), "kind": kind, "open": row.get("status", row.get("algoStatus")) in OPEN}
                for (kind, _, _), row in self._orders.items()
            ]
            told = {**_state(self._account), "orders": orders, **self._money}
            if self._account.difference_count != self._differences:
                told["last_differences"] = _differences(self._account)
            found = "change", orjson.dumps(told)
        self._differences = self._account.difference_count
        self._orders, self._money, self._is_whole, self._is_new = {}, {}, False, False
        return found


class AccountEventsHandler(_AccountBase, EventHandler):
    """`GET /admin/api/accounts/<id>/events`: an account as it changes: all of it first, then what is new."""

    async def get(self, account_id: str) -> None:
        row = await self.row(account_id)
        account = self.services.accounts.find(row.id)
        if account is None:
            raise _gone(account_id)
        changes = _Changes(account)
        account.listeners.add(changes.hear)
        try:
            with self.live.stream():
                if not await self.begin():
                    return
                turn = spoken = 0
                while True:
                    if turn % _WHOLE_EVERY == 0:
                        changes.everything()
                    event = changes.take(least=turn - spoken >= _LEAST_EVERY)
                    if event is not None:
                        spoken = turn
                        if not await self.event(*event):
                            return
                    if self.services.accounts.find(row.id) is not account:
                        await self.end("dropped")
                        return
                    if not await self.goes_on(_LOOK_S):
                        return
                    turn += 1
        finally:
            account.listeners.discard(changes.hear)
