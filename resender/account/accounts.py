"""All accounts that are watched: which call belongs to which, who is believed, what passes through.

An account is set up by the owner. Here the key comes in (of a call that passes, or unsealed), streams are
opened, own reads made, calls answered. `Accounts` owns a `WatchedAccount` and a `UserStream` for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import orjson

from resender.account.own_reads import OwnReads
from resender.account.passing import Passing
from resender.account.ports import AccountOptions, Door, Opener
from resender.account.user_answers import NO_LISTEN_KEY
from resender.account.user_stream import NEEDS_SUBSCRIPTION, UserStream
from resender.account.verifiers import own_verifier, verifiers_of
from resender.account.watched import Answer, Lacking, WatchedAccount
from resender.aio import Clock, Tasks
from resender.api_keys import Signer, Verifier, digest_of, hint_of
from resender.core.account.callers import REFUSED_CODES, Callers
from resender.core.account.calls import (
    ANSWERED,
    READS,
    Change,
    SignedRead,
    change_of,
    read_params,
    read_signed,
)
from resender.core.account.dialects import Dialect
from resender.core.account.lore import Lore
from resender.core.account.signed_paths import is_signed_path
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market

logger = logging.getLogger("resender.account")

_TICK_S = 0.25
# Where no account is watched.
_IDLE_TICK_S = 1.0
_SAVE_EVERY_S = 2.0
_MAX_SEEN = 200
_MARGIN_PATHS = "/sapi/v1/margin/"
_digest = lru_cache(maxsize=1024)(digest_of)


@dataclass(slots=True)
class SeenKey:
    """A key that whitelisted clients use, as the owner gets to see it. Units: epoch milliseconds."""

    market: Market
    digest: str
    hint: str
    address: str
    last_ms: int
    calls: int = 0


@dataclass(eq=False, slots=True)
class _Kept:
    account: WatchedAccount
    stream: UserStream
    reads: OwnReads
    verifiers: dict[str, Verifier]
    # What checks signatures of the key of its own.
    own: dict[str, Verifier]
    # The key whose subscription is under way or taken, until the account is known by it.
    claim: str = ""


class Accounts:
    """The service.

    Shape: `unseal(sealed, context)` returns the JSON of key and secret, or raises ValueError; `bind(id, digest,
        hint)` keeps a key's digest for an account that had none and tells whether it did; `save` keeps the
        states for the command line.
    """

    def __init__(
        self,
        options: AccountOptions,
        *,
        door: Door,
        opener: Opener,
        clock: Clock,
        exchange_clock: ExchangeClock,
        tasks: Tasks,
        unseal: Callable[[str, str], str],
        bind: Callable[[int, str, str], Awaitable[bool]],
        save: Callable[[str], Awaitable[None]],
    ) -> None:
        self.options = options
        self.callers = Callers(options.proof_s)
        # Keys on signed calls that belong to no account, the newest last.
        self.seen: OrderedDict[tuple[Market, str], SeenKey] = OrderedDict()
        self._door = door
        self._opener = opener
        self._clock = clock
        self._exchange_clock = exchange_clock
        self._tasks = tasks
        self._unseal = unseal
        self._bind = bind
        self._save = save
        self._kept: dict[int, _Kept] = {}
        # Accounts by REST host and digest of a key; a key may have a spot and a margin account.
        self._by_key: dict[tuple[Market, str], list[_Kept]] = {}
        self._known: set[str] = set()
        self._lores: dict[tuple[AccountMarket, Dialect], Lore] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._saved = ""
        self._saved_mono = 0.0
        self.is_started = False

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        self.is_started = True
        for kept in self._kept.values():
            kept.stream.start()
        self._tasks.spawn(self._tick(), name="accounts-tick")

    async def stop(self) -> None:
        self.is_started = False
        for kept in self._kept.values():
            await kept.stream.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def set_accounts(self, specs: Iterable[AccountSpec]) -> None:
        """Take the accounts as they are set up now; what has not changed goes on."""
        wanted = {spec.id: spec for spec in list(specs)[: self.options.max_accounts]}
        for number, kept in list(self._kept.items()):
            spec = wanted.get(number)
            old = kept.account.spec
            if spec is not None and _is_same(old, spec):
                kept.account.spec = spec
                kept.verifiers = verifiers_of(spec, kept.own)
                continue
            del self._kept[number]
            self._end(kept)
        for number, spec in wanted.items():
            if number not in self._kept:
                self._kept[number] = self._begin(spec)
        self._index()

    def _index(self) -> None:
        self._by_key.clear()
        for kept in self._kept.values():
            spec = kept.account.spec
            for digest in spec.keys:
                self._by_key.setdefault((spec.market.host, digest), []).append(kept)
        self._known = {digest for _, digest in self._by_key}
        for place in [place for place in self.seen if place in self._by_key]:
            del self.seen[place]

    def _begin(self, spec: AccountSpec) -> _Kept:
        account = WatchedAccount(
            spec,
            self.options,
            partial(self._lore, spec.market),
            clock=self._clock,
            exchange_clock=self._exchange_clock,
        )
        if spec.mode is Mode.SECRET:
            try:
                told = orjson.loads(self._unseal(spec.sealed or "", str(spec.id)))
                account.signer = Signer.parse(told["secret"])
                account.api_key = str(told["key"])
            except (ValueError, KeyError, TypeError) as error:
                logger.error("account %s: its key cannot be read: %s", account.label, error)
        stream = UserStream(
            account,
            self.options,
            door=self._door,
            opener=self._opener,
            clock=self._clock,
            exchange_clock=self._exchange_clock,
            tasks=self._tasks,
        )
        account.on_restart = stream.restart
        reads = OwnReads(account, self.options, self._door, self._clock, self._exchange_clock)
        own = own_verifier(account)
        kept = _Kept(account, stream, reads, verifiers_of(spec, own), own)
        if self.is_started:
            stream.start()
        return kept

    def _end(self, kept: _Kept) -> None:
        kept.account.api_key = kept.account.signer = None
        kept.account.closed("removed")
        task = self._tasks.spawn(kept.stream.stop(), name=f"account-end:{kept.account.label}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _lore(self, market: AccountMarket, dialect: Dialect) -> Lore:
        return self._lores.setdefault((market, dialect), Lore(dialect))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S if self._kept else _IDLE_TICK_S)
            for kept in list(self._kept.values()):
                kept.account.tick()
                if kept.reads.is_due() and not kept.reads.is_running:
                    self._tasks.spawn(kept.reads.run(), name=f"account-reads:{kept.account.label}")
            await self._save_states()

    async def _save_states(self) -> None:
        mono = self._clock.mono()
        if mono < self._saved_mono + _SAVE_EVERY_S or not (self._kept or self._saved):
            return
        self._saved_mono = mono
        states = {}
        for number, kept in self._kept.items():
            told = kept.account.state()
            states[str(number)] = {
                "state": told["state"], "why": told["why"], "orders": told["openOrders"], "since_ms": told["since"],
            }  # fmt: skip
        text = orjson.dumps(states).decode()
        # The time is refreshed now and then, so that a server that is gone can be told.
        if text == self._saved and int(mono) % 30 > _SAVE_EVERY_S:
            return
        self._saved = text
        with contextlib.suppress(Exception):
            await self._save(orjson.dumps({"at_ms": self._clock.now_ms(), "accounts": states}).decode())

    # --- who -------------------------------------------------------------------------------

    @property
    def all(self) -> list[WatchedAccount]:
        """The accounts, in the order they were made."""
        return [self._kept[number].account for number in sorted(self._kept)]

    def find(self, number: int) -> WatchedAccount | None:
        kept = self._kept.get(number)
        return None if kept is None else kept.account

    def of_key(self, market: AccountMarket, api_key: str, address: str) -> WatchedAccount | None:
        """Return the account of a key that is shown by an address Binance has taken it from."""
        digest = _digest(api_key)
        if not self.callers.is_believed(address, digest, self._clock.mono()):
            return None
        for kept in self._by_key.get((market.host, digest), ()):
            if kept.account.market is market:
                return kept.account
        return None

    # --- answering -------------------------------------------------------------------------

    def ask(
        self, market: Market, path: str, query: str, api_key: str | None, address: str
    ) -> Answer | Lacking | Awaitable[Answer | Lacking] | None:
        """Answer a GET out of memory; None if it is no business of any account.

        Shape: `query` as it was sent. An awaitable takes `ACCOUNT_WAIT_MS` at most.
        """
        if not api_key or not self._kept or READS.get((market, path)) not in ANSWERED:
            return None
        digest = _digest(api_key)
        kept = next(
            (
                each
                for each in self._by_key.get((market, digest), ())
                if each.account.market is not AccountMarket.MARGIN
            ),
            None,
        )
        if kept is None:
            return None
        account = kept.account
        found = self._ask(kept, market, path, query, digest, address)
        if isinstance(found, (Answer, Lacking)):
            self._count(account, found)
            return found
        return self._counted(account, found)

    def _ask(
        self, kept: _Kept, market: Market, path: str, query: str, digest: str, address: str
    ) -> Answer | Lacking | Awaitable[Answer | Lacking]:
        mono = self._clock.mono()
        read = read_signed(market, path, query)
        if isinstance(read, str):
            return Lacking(read)
        if market is not Market.SPOT and not _is_in_ms(read, query):
            return Lacking("timestamp")  # only spot is known to take microseconds
        verifier = kept.verifiers.get(digest)
        if verifier is not None:
            if not verifier.verify(read.payload, read.signature):
                return Lacking("signature")
        elif not self.callers.is_believed(address, digest, mono):
            return Lacking("caller not proven")
        clock = self._exchange_clock
        if not read.is_in_window(clock.low_ms(mono), clock.high_ms(mono)):
            return Lacking("timestamp")
        found = kept.account.answer(read)
        if isinstance(found, Lacking) and found.may_come:
            return kept.account.wait_for(read)
        return found

    def _count(self, account: WatchedAccount, found: Answer | Lacking) -> None:
        if isinstance(found, Answer):
            account.hits += 1
        else:
            account.misses[found.reason] += 1

    async def _counted(
        self, account: WatchedAccount, waiting: Awaitable[Answer | Lacking]
    ) -> Answer | Lacking:
        found = await waiting
        self._count(account, found)
        return found

    # --- what passes through ---------------------------------------------------------------

    def watch(
        self,
        market: Market,
        method: str,
        path: str,
        query: str,
        body: bytes,
        api_key: str | None,
        address: str,
        *,
        is_proof: bool = True,
    ) -> Passing | None:
        """Look after a client's call that is being sent on; None if there is nothing to learn from it.

        Shape: with `is_proof` a good answer shows whose key it is, where Binance checks the signature.
        """
        if not api_key:
            return None
        digest = _digest(api_key)
        if method == "DELETE" and path.endswith("/listenKey"):
            return self._watch_end(market, digest)
        change = change_of(market, method, path)
        is_proof = is_proof and is_signed_path(market, method, path)
        # What changes portfolio margin is not known by its paths: nothing is answered of it there.
        if not is_proof and (change is Change.NOTHING or market is Market.PM):
            return None
        mono = self._clock.mono()
        is_margin = path.startswith(_MARGIN_PATHS)
        # Money goes from one to the other.
        is_both = is_margin and change is Change.BALANCES and path.endswith("/transfer")
        accounts = [
            kept.account
            for kept in self._by_key.get((market, digest), ())
            if is_both or (kept.account.market is AccountMarket.MARGIN) is is_margin
        ]
        return Passing(
            accounts,
            market=market,
            method=method,
            path=path,
            query=query,
            body=body,
            asked_mono=mono,
            asked_ms=self._exchange_clock.now_ms(mono),
            on_accepted=lambda: self._accepted(market, api_key, digest, address) if is_proof else None,
            on_refused=lambda code: self._refused(digest, code),
        )

    def _watch_end(self, market: Market, digest: str) -> Passing | None:
        """A client ends the listenKey that the account's stream shares with it: nothing is certain from now on."""
        why = "a client ended the listenKey"
        kept = self._by_key.get((market, digest))
        if not kept:
            return None
        for each in kept:
            each.account.unsure(why)

        def ended() -> None:
            for each in kept:
                each.account.suspect(why)

        def refused(code: int) -> None:
            if code == NO_LISTEN_KEY:
                ended()

        return Passing((), on_accepted=ended, on_refused=refused, on_unknown=ended)

    def _accepted(self, market: Market, api_key: str, digest: str, address: str) -> None:
        """Binance took a signed call."""
        self.callers.accepted(address, digest, self._clock.mono())
        found = self._by_key.get((market, digest), ())
        for kept in found:
            if kept.account.mode is Mode.KEY and kept.account.api_key is None:
                kept.account.api_key = api_key
                kept.stream.wake()
        if found:
            return
        waiting = [
            kept.account
            for kept in self._kept.values()
            if not kept.account.spec.keys
            and kept.account.mode is Mode.KEY
            and kept.account.market.host is market
        ]
        if waiting:
            self._tasks.spawn(self._bind_key(waiting[0], api_key, digest), name="account-bind")
            return
        seen = self.seen.setdefault(
            (market, digest), SeenKey(market, digest, hint_of(api_key), address, self._clock.now_ms())
        )
        seen.address, seen.last_ms, seen.calls = address, self._clock.now_ms(), seen.calls + 1
        self.seen.move_to_end((market, digest))
        while len(self.seen) > _MAX_SEEN:
            self.seen.popitem(last=False)

    async def _bind_key(self, account: WatchedAccount, api_key: str, digest: str) -> None:
        if await self._bind(account.spec.id, digest, hint_of(api_key)):
            kept = self._kept.get(account.spec.id)
            if kept is not None and kept.account.api_key is None:
                kept.account.api_key = api_key
                kept.stream.wake()
            logger.info("account %s: the key ...%s is watched", account.label, hint_of(api_key))

    def _refused(self, digest: str, code: int) -> None:
        if code in REFUSED_CODES:
            self.callers.refused(digest)

    # --- subscriptions clients sign --------------------------------------------------------

    async def subscribe(
        self, market: AccountMarket, params: dict[str, Any], api_key: str, address: str
    ) -> str | None:
        """Open an account's stream with what its client signed; return in words why not, None if it is open.

        Shape: `params` those of `userDataStream.subscribe.signature`, or `listenToken` alone.
        """
        digest = _digest(api_key)
        kept = next(
            (
                each
                for each in self._kept.values()
                if each.account.market is market
                and each.account.mode is Mode.SIGNED
                and digest in each.account.spec.keys
            ),
            None,
        )
        is_new = kept is None
        if kept is None:
            kept = next(
                (
                    each
                    for each in self._kept.values()
                    if each.account.market is market
                    and each.account.mode is Mode.SIGNED
                    and not each.account.spec.keys
                    and each.claim in ("", digest)
                ),
                None,
            )
        if kept is None:
            return "the owner of this gateway has no such account: python run.py account add"
        if "listenToken" in params and not self.callers.is_believed(address, digest, self._clock.mono()):
            return "a token does not show whose key it is: make one signed call through the gateway first"
        claims = is_new and not kept.claim
        if claims:
            kept.claim = digest
        # To its end even if the client goes away: half of it would leave another key's events here.
        work = self._take_signed(kept, params, api_key, address, is_new=is_new, claims=claims)
        return await asyncio.shield(self._tasks.spawn(work, name=f"account-signed:{kept.account.label}"))

    async def _take_signed(
        self, kept: _Kept, params: dict[str, Any], api_key: str, address: str, *, is_new: bool, claims: bool
    ) -> str | None:
        digest, account = _digest(api_key), kept.account
        account.api_key = api_key
        problem = await kept.stream.subscribe(params)
        if problem is None and is_new and not await self._bind(account.spec.id, digest, hint_of(api_key)):
            account.suspect(NEEDS_SUBSCRIPTION)  # it is of the other key
            problem = "the account got another key in the meantime"
        if problem is not None:
            if claims:
                kept.claim = ""
            return problem
        if "listenToken" not in params:
            # Binance has taken the signature.
            self.callers.accepted(address, digest, self._clock.mono())
        return None


def _is_in_ms(read: SignedRead, query: str) -> bool:
    return int((read_params(query) or {}).get("timestamp", "0")) == read.timestamp_ms


def _is_same(old: AccountSpec, new: AccountSpec) -> bool:
    """Tell whether an account goes on as it is: keys may be added."""
    is_kept = (old.market, old.mode, old.sealed) == (new.market, new.mode, new.sealed)
    return is_kept and set(old.keys) <= set(new.keys)
