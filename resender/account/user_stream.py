"""Keeps one account's user data stream open: listenKeys, subscriptions, renewal before the end.

It opens, proves alive, keeps alive and opens anew; what the events mean is `watched.py`'s. A listenKey is never
ended here: Binance gives the same one to every program of the account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson

from resender.account.key_check import KeyRefused, KeyTooStrong, check_key
from resender.account.ports import AccountOptions, Connection, Door, Opener, Signs
from resender.account.user_answers import Broken, Refused, parsed, plain, read
from resender.aio import Backoff, Clock, Tasks, end_tasks, within
from resender.core.account.spec import AccountMarket, Mode
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import WS_API_PATHS, Market
from resender.core.binance.stream_urls import user_target
from resender.errors import AnswerError

logger = logging.getLogger("resender.account")

_KEEP_EVERY_S, _KEEP_JITTER_S = 1800.0, 300.0
_KEEP_RETRY_S = 60.0
# Binance ends connections and tokens after 24 hours. Source: web-socket-streams.md, web-socket-api.md.
_ROTATE_S, _ROTATE_RETRY_S = 23 * 3600.0, 600.0
_OVERLAP_S = 2.0
_MAX_HELD = 20_000
_ANSWER_S = 10.0
_REFUSED_S = 300.0
# What is not heard from for so long answers nothing, even before it is given up.
FRESH_S = 3.0
_LISTEN_KEY_PATHS = {
    AccountMarket.UM: "/fapi/v1/listenKey",
    AccountMarket.CM: "/dapi/v1/listenKey",
    AccountMarket.PM: "/papi/v1/listenKey",
}
NEEDS_KEY, NEEDS_SUBSCRIPTION = "waiting for its key", "subscription needed"


class Owner(Protocol):
    """The account whose stream it is."""

    @property
    def label(self) -> str: ...

    @property
    def market(self) -> AccountMarket: ...

    @property
    def mode(self) -> Mode: ...

    @property
    def api_key(self) -> str | None: ...

    @property
    def signer(self) -> Signs | None: ...

    def opening(self) -> None: ...

    def opened(self) -> None: ...

    def heard(self) -> None: ...

    def closed(self, why: str) -> None: ...

    def message(self, event: dict[str, Any]) -> None: ...


@dataclass(eq=False, slots=True)
class _Line:
    connection: Connection
    desk: Any = None
    listen_key: str = ""
    pump: asyncio.Task[str] | None = None
    is_alive: bool = False
    heard_mono: float = 0.0
    # What it tells while the connection before it is still the one that counts.
    held: list[dict[str, Any]] = field(default_factory=list)


def fresh_s(options: AccountOptions) -> float:
    """Return for how long after its last sign of life a stream proves anything. Units: seconds."""
    return min(FRESH_S, options.silence_s)


class UserStream:
    """One account's stream."""

    def __init__(
        self,
        owner: Owner,
        options: AccountOptions,
        *,
        door: Door,
        opener: Opener,
        clock: Clock,
        exchange_clock: ExchangeClock,
        tasks: Tasks,
    ) -> None:
        self._owner = owner
        self._options = options
        self._door = door
        self._opener = opener
        self._clock = clock
        self._exchange_clock = exchange_clock
        self._tasks = tasks
        # What a client signed for one opening: parameters of a subscription.
        self._signed: dict[str, Any] | None = None
        self._wake = asyncio.Event()
        self._renew = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._line: _Line | None = None
        self._number = 0
        self._answered: asyncio.Future[None] | None = None

    def start(self) -> None:
        self._task = self._tasks.spawn(self._run(), name=f"account-stream:{self._owner.label}")

    async def stop(self) -> None:
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None

    def wake(self) -> None:
        """The key has come: open now."""
        self._wake.set()

    def restart(self) -> None:
        """The stream is not to be trusted: open another, this one ends."""
        if self._line is not None and self._line.pump is not None:
            self._line.pump.cancel()

    async def subscribe(self, params: dict[str, Any]) -> str | None:
        """Open with what a client signed; return in words why Binance does not take it, None if it does."""
        if self._answered is not None:
            return "another subscription of this account is under way"
        self._answered = asyncio.get_running_loop().create_future()
        self._signed = params
        self._renew.set()
        self._wake.set()
        try:
            await within(self._answered, 2 * _ANSWER_S)
        except asyncio.TimeoutError:
            return "no answer in time"
        except (Refused, AnswerError, Broken) as error:
            return str(error)
        finally:
            self._answered = None
            self._signed = None
        return None

    # --- life ------------------------------------------------------------------------------

    def _lack(self) -> str | None:
        if self._owner.mode is Mode.SIGNED:
            return None if self._signed is not None else NEEDS_SUBSCRIPTION
        return None if self._owner.api_key is not None else NEEDS_KEY

    async def _run(self) -> None:
        backoff = Backoff(cap_s=60.0)
        while True:
            lack = self._lack()
            if lack is not None:
                self._owner.closed(lack)
                self._wake.clear()
                if self._lack() is not None:
                    await self._wake.wait()
                continue
            pause_s = 0.0
            try:
                self._owner.opening()
                line = await self._open()
            except Refused as error:
                why, pause_s = str(error), _REFUSED_S
            except (AnswerError, Broken) as error:
                why, pause_s = str(error) or "no connection", backoff.next_s()
            else:
                backoff.reset()
                why = await self._live(line)
            self._owner.closed(plain(why))
            logger.warning("account %s: user data ended: %s", self._owner.label, why)
            if self._owner.mode is Mode.SIGNED:
                continue  # its client is told to sign again, whatever went wrong
            if pause_s:
                self._wake.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await within(self._wake.wait(), pause_s)
            else:
                await asyncio.sleep(backoff.next_s())

    async def _live(self, line: _Line) -> str:
        """Keep the stream going, with new connections before old ones end; return why it is over."""
        self._line = line
        keeper = self._tasks.spawn(self._keep_key(), name=f"account-key:{self._owner.label}")
        rotate = self._clock.mono() + _ROTATE_S
        if self._signed is None:
            self._renew.clear()
        try:
            while True:
                renewed = self._tasks.spawn(self._renew.wait(), name=f"account-renew:{self._owner.label}")
                assert self._line.pump is not None
                left_s = max(0.0, rotate - self._clock.mono())
                await asyncio.wait(
                    {self._line.pump, renewed}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                renewed.cancel()
                self._renew.clear()
                if self._line.pump.done():
                    return self._line.pump.result() if not self._line.pump.cancelled() else "given up"
                if self._lack() is not None:
                    rotate = self._clock.mono() + _ROTATE_RETRY_S  # nobody has signed another one
                    continue
                rotate = self._clock.mono() + (_ROTATE_S if await self._change() else _ROTATE_RETRY_S)
        finally:
            keeper.cancel()
            await self._end(self._line)
            self._line = None

    async def _change(self) -> bool:
        """Go over to a new connection while the old one still runs; what both tell is known twice.

        What the new one tells waits until the old one has told all: a faster one would tell it out of turn.
        If the old one did not last until the new one was there, something may have been missed in between.
        """
        old = self._line
        assert old is not None
        assert old.pump is not None
        lost = partial(self._lose, old)
        old.pump.add_done_callback(lost)
        try:
            line = await self._open()
            begun = self._clock.mono()
            await asyncio.wait({old.pump}, timeout=_OVERLAP_S)
        except (AnswerError, Broken, Refused) as error:
            logger.warning("account %s: no second connection: %s", self._owner.label, error)
            return False
        finally:
            old.pump.remove_done_callback(lost)
        self._line = line
        # A sign that came at once may have been on its way since before the new one was there.
        if old.pump.done() or old.heard_mono < begun + _OVERLAP_S / 2:
            self._owner.closed("a gap between two connections")
            self._owner.opened()
        held, line.held = line.held, []
        for event in held:
            self._owner.message(event)
        await self._end(old)
        return True

    def _lose(self, line: _Line, _: asyncio.Task[str]) -> None:
        if line is self._line:
            self._owner.closed("upstream lost")

    async def _end(self, line: _Line) -> None:
        if line.pump is not None:
            line.pump.cancel()
            await asyncio.gather(line.pump, return_exceptions=True)
        if line.desk is not None:
            line.desk.end()
        await line.connection.close()

    # --- opening ---------------------------------------------------------------------------

    async def _open(self) -> _Line:
        """Open a connection and prove it alive. Raises: Refused, AnswerError, Broken."""
        try:
            line = await self._open_line()
            try:
                await self._prove(line)
            except BaseException:
                await self._end(line)
                raise
        except (Refused, AnswerError, Broken) as error:
            if self._answered is not None and not self._answered.done():
                self._answered.set_exception(error)
            self._signed = None
            raise
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        self._signed = None
        return line

    async def _open_line(self) -> _Line:
        owner = self._owner
        key = owner.api_key or ""
        if owner.mode is Mode.SECRET:
            await self._check_key(key)
        if owner.market in _LISTEN_KEY_PATHS:
            return await self._open_by_listen_key(owner.market, key)
        connection = await self._opener.open(
            "ws_api_spot", WS_API_PATHS[Market.SPOT], Market.SPOT, api_key=key or None, purpose="account"
        )
        line = _Line(connection, self._opener.desk(Market.SPOT, connection.egress, ""))
        try:
            await self._subscribe(line)
        except BaseException:
            await self._end(line)
            raise
        return line

    async def _check_key(self, key: str) -> None:
        """See that a key of the gateway's own may still only read. Raises: Refused."""
        signer = self._owner.signer
        if signer is None:
            return
        try:
            await check_key(self._door, key, signer, self._exchange_clock.now_ms(self._clock.mono()))
        except KeyTooStrong as error:
            raise Refused(str(error)) from None
        except KeyRefused as error:  # it was good when it was added
            logger.warning("account %s: %s", self._owner.label, error)

    async def _open_by_listen_key(self, market: AccountMarket, key: str) -> _Line:
        fetched, egress = await self._door.call_with_key(
            market.host, "POST", _LISTEN_KEY_PATHS[market], key, is_urgent=True
        )
        listen_key = read(fetched).get("listenKey")
        if not isinstance(listen_key, str) or not listen_key:
            raise Broken("Binance gave no listenKey")
        self._opener.note_listen_key(listen_key, egress)
        host, where = ("stream_cm", Market.CM) if market is AccountMarket.CM else ("stream_um", Market.UM)
        target = f"/pm/ws/{listen_key}" if market is AccountMarket.PM else user_target(where, listen_key)
        connection = await self._opener.open(
            host, target, where, api_key=key, listen_key=listen_key, purpose="account"
        )
        return _Line(connection, listen_key=listen_key)

    async def _subscribe(self, line: _Line) -> None:
        method, params = await self._subscription()
        self._number += 1
        name = f"resender-{self._number}"
        request = {"id": name, "method": method, "params": params}
        refusal = line.desk.admit(request)
        if refusal is not None and await line.desk.has_more_room(request):
            refusal = line.desk.admit(request)
        if refusal is not None:
            raise Broken("no weight for the subscription now")
        if not await line.connection.send(orjson.dumps(request).decode()):
            raise Broken("the connection ended before the subscription")
        end = self._clock.mono() + _ANSWER_S
        while (left_s := end - self._clock.mono()) > 0:
            try:
                message = await within(line.connection.receive(), left_s)
            except asyncio.TimeoutError:
                break
            if message is None:
                raise Broken("the connection ended before the subscription was answered")
            if isinstance(message, bytes):
                continue
            line.desk.note(message)
            answer = parsed(message)
            if answer.get("id") != name:
                self._hear(line, answer)
                continue
            if answer.get("status") != 200:
                error = answer.get("error")
                text = error.get("msg") if isinstance(error, dict) else None
                raise Refused(f"Binance refused the subscription: {str(text)[:200]}")
            return
        raise Broken("the subscription was not answered in time")

    async def _subscription(self) -> tuple[str, dict[str, Any]]:
        owner = self._owner
        if self._signed is not None:
            token = "listenToken" in self._signed
            return f"userDataStream.subscribe.{'listenToken' if token else 'signature'}", dict(self._signed)
        key, signer = owner.api_key, owner.signer
        if key is None or signer is None:
            raise Refused(NEEDS_SUBSCRIPTION)
        if owner.market is AccountMarket.MARGIN:
            fetched, _ = await self._door.call_with_key(
                Market.SPOT, "POST", "/sapi/v1/userListenToken", key, is_urgent=True
            )
            return "userDataStream.subscribe.listenToken", {"listenToken": read(fetched).get("token")}
        stamp = self._exchange_clock.now_ms(self._clock.mono())
        params: dict[str, Any] = {"apiKey": key, "recvWindow": 10000, "timestamp": stamp}
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["signature"] = signer.sign(payload.encode())
        return "userDataStream.subscribe.signature", params

    async def _prove(self, line: _Line) -> None:
        """Have the connection show a sign of life; from then on nothing is missed."""
        first = asyncio.Event()

        def sign() -> None:
            line.heard_mono = self._clock.mono()
            if not line.is_alive:
                line.is_alive = True
                first.set()
            if line is self._line:
                self._owner.heard()

        silence_s = self._options.silence_s
        line.connection.watch(fresh_s(self._options) / 3, silence_s, sign)
        line.pump = self._tasks.spawn(self._pump(line, first), name=f"account-pump:{self._owner.label}")
        await line.connection.ping()
        with contextlib.suppress(asyncio.TimeoutError):
            await within(first.wait(), silence_s)
        if not line.is_alive or line.pump.done():
            raise Broken("the connection gives no sign of life")
        if self._line is None:
            self._owner.opened()

    # --- what comes ------------------------------------------------------------------------

    async def _pump(self, line: _Line, first: asyncio.Event) -> str:
        try:
            while (message := await line.connection.receive()) is not None:
                if isinstance(message, bytes):
                    continue
                if line.desk is not None:
                    line.desk.note(message)
                why = self._hear(line, parsed(message))
                if why is not None:
                    return why
            return "upstream lost"
        finally:
            first.set()

    def _hear(self, line: _Line, message: dict[str, Any]) -> str | None:
        """Take one message; return why the stream is over with it."""
        event = message.get("event", message)
        if not isinstance(event, dict) or "e" not in event:
            return None
        kind = event["e"]
        if kind in ("listenKeyExpired", "eventStreamTerminated"):
            told = event.get("listenKey")
            if line.listen_key and told and told != line.listen_key:
                return None  # of a key that was replaced
            return "listenKey expired" if kind == "listenKeyExpired" else "subscription ended by Binance"
        if kind == "serverShutdown":
            self._renew.set()
            return None
        if self._line is None or line is self._line:
            self._owner.message(event)
        elif len(line.held) < _MAX_HELD:
            line.held.append(event)
        else:
            return "more events than are held between two connections"
        return None

    async def _keep_key(self) -> None:
        """Keep the listenKey alive; a dead one is replaced, with the stream."""
        owner = self._owner
        path = _LISTEN_KEY_PATHS.get(owner.market)
        pause_s = _KEEP_EVERY_S
        while path is not None:
            await asyncio.sleep(pause_s - random.random() * min(_KEEP_JITTER_S, pause_s / 2))
            key = owner.api_key
            if key is None:
                continue
            try:
                fetched, _ = await self._door.call_with_key(owner.market.host, "PUT", path, key)
                read(fetched)
                pause_s = _KEEP_EVERY_S
            except Refused:
                self.restart()
                return
            except (AnswerError, Broken) as error:
                pause_s = _KEEP_RETRY_S
                logger.warning("account %s: listenKey not prolonged: %s", owner.label, error)
