"""The egresses to Binance: chooses one for each call by weight and bans, sends, learns.

The rules are `core/egress/governor.py`; here they meet real connections and real answers.
`EgressPool` owns one `RestClient` for each egress and market, and the `Governor`; every REST
call of the gateway, its own ones too, leaves through `send`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from resender import __version__
from resender.aio import Backoff, Clock, Tasks
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import BY_MARKET, Market
from resender.core.egress.governor import CLIENT, PROBE, Governor
from resender.core.egress.spec import EgressSpec, Pins
from resender.core.egress.state import Egress, Grant, Limits
from resender.core.weights.rules import Charge
from resender.core.weights.table import POOL_OF, charge
from resender.errors import (
    AnswerError,
    EgressExhausted,
    RouteError,
    UpstreamLost,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from resender.upstream.connector import EgressUnusable, Timeouts
from resender.upstream.egresses import make_rest_client
from resender.upstream.rest import RestClient, RestResponse, readable
from resender.upstream.tls import make_context

logger = logging.getLogger("resender.egress")

_USED, _DATE, _RETRY_AFTER, _OURS, _CACHED = 1, 2, 3, 4, 5
_NOTED = {
    b"x-mbx-used-weight-1m": _USED,
    b"x-sapi-used-ip-weight-1m": _USED,
    b"x-sapi-used-uid-weight-1m": _USED,
    b"date": _DATE,
    b"retry-after": _RETRY_AFTER,
    b"x-resender-error": _OURS,
    b"x-resender-cache": _CACHED,
}
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})")
_TOO_MANY_ORDERS = re.compile(rb'"code"\s*:\s*-1015\b')
# Source: rest-api.md of 2026-07-21: bans last from 2 minutes to 3 days.
_BAN_S = 120.0
_MAX_PAUSE_S = 4 * 86_400.0
# An egress that lost a call is tried with pings, after growing pauses.
_PING_FIRST_S = 0.3
_PING_MAX_S = 30.0


@lru_cache(maxsize=2048)
def _kind(name: bytes) -> int:
    """Tell what a header is for us, 0 for nothing: the few names there are come with every answer."""
    return _NOTED.get(name.lower(), 0)


@dataclass(frozen=True, slots=True)
class EgressOptions:
    """What the settings say about weight.

    Shape: `limits`, `order_reserve`, `client_share`, `own_share` as in `Governor`.
    """

    limits: Limits
    pins: Pins
    order_reserve: float = 0.1
    client_share: float = 1.0
    own_share: float = 0.5


@dataclass(slots=True)
class Call:
    """One call on its way to Binance.

    Shape: `target` ASCII, path and query; `key` is the API key it carries, "" if it is signed
        without one, None if it is neither; `client` the client's address, "" for own reads.
    """

    market: Market
    method: str
    target: str
    headers: Pairs
    body: bytes = b""
    key: str | None = None
    client: str = ""
    priority: int = CLIENT
    # Another node has sent it here: it goes to Binance from here or not at all.
    is_hop: bool = False
    _cost: Charge | None = None

    @property
    def cost(self) -> Charge:
        """What it costs, looked up once."""
        if self._cost is None:
            path, _, query = self.target.partition("?")
            self._cost = charge(self.market, self.method, path, query, bool(self.body), self.body)
        return self._cost


class EgressPool:
    """All egresses, with one pooled session for each of them and upstream."""

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        upstreams: Mapping[Market, str],
        timeouts: Timeouts,
        options: EgressOptions,
        *,
        clock: Clock,
        keepalive_s: float,
        dns_cache_s: float,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        context = ssl_context or make_context()
        self._clock = clock
        # Told of a pool that was closed, and of a market that has told its used weight for the first time.
        self.on_closed: Callable[[], None] = lambda: None
        self.on_metered: Callable[[Market], None] = lambda market: None
        # Told the API key that Binance has refused, and the egress.
        self.on_key_refused: Callable[[str, str], None] = lambda key, egress: None
        # Asked where a call has found no room: addresses that several nodes share may be granted more.
        self.on_no_room: Callable[[Market, Charge, str | None], Awaitable[bool]] | None = None
        # Told of an own read that has found none: it is tried again later.
        self.on_wish: Callable[[Market, Charge], None] = lambda market, charge: None
        self._metered: set[Market] = set()
        # What an answer out of memory tells as used now: of each pool whose weight an answer has told.
        self.used_weight: dict[str, str] = {}
        self._tasks = Tasks()
        # In the order of the settings.
        self.upstreams = tuple(upstreams)
        self.markets = frozenset(upstreams)
        self.governor = Governor(
            specs,
            ExchangeClock.guess(clock.now_ms(), clock.mono()),
            limits=options.limits,
            pins=options.pins,
            order_reserve=options.order_reserve,
            client_share=options.client_share,
            own_share=options.own_share,
        )
        self.clients: dict[tuple[str, Market], RestClient] = {
            (spec.name, market): make_rest_client(
                spec,
                market,
                url,
                timeouts,
                keepalive_s=keepalive_s,
                dns_cache_s=dns_cache_s,
                ssl_context=context,
            )
            for spec in specs
            for market, url in upstreams.items()
            if spec.serves(market)
        }

    async def start(self) -> None:
        for client in self.clients.values():
            await client.start()

    async def stop(self) -> None:
        await self._tasks.cancel()
        for client in self.clients.values():
            await client.stop()

    def admit(self, call: Call, excluding: Sequence[Egress] = ()) -> Grant:
        """Choose an egress for a call and reserve its weight there.

        Raises: RouteError if the market is switched off; EgressExhausted if it may not leave now.
        """
        if call.market not in self.markets:
            raise RouteError(f"The market {call.market} is switched off in the settings of this gateway.")
        try:
            return self.governor.admit(
                call.market,
                call.cost,
                self._clock.mono(),
                key=call.key,
                client=call.client,
                priority=call.priority,
                excluding=excluding,
            )
        except EgressExhausted as error:
            error.is_own = call.priority > CLIENT
            raise

    async def _admit(self, call: Call, tried: Sequence[Egress]) -> Grant:
        """Admit a call, see `admit`; where nodes share an address, the others' weight is asked for first."""
        try:
            return self.admit(call, tried)
        except EgressExhausted:
            if self.on_no_room is None or not await self.on_no_room(call.market, call.cost, call.key):
                raise
            return self.admit(call, tried)

    async def send(self, call: Call, grant: Grant | None = None) -> RestResponse:
        """Send a call to its market's host through one egress, see `RestClient.send`.

        Shape: `grant` is what `admit` gave for this call, if it was asked before; a pool that
            has been closed since is not sent into.
        A call that could not be sent at all is tried on another egress, if its API key allows one;
        whatever may have left is never sent again.
        Raises: RouteError if the market is switched off; EgressExhausted if it may not leave now.
        """
        market, governor = call.market, self.governor
        tried: list[Egress] = []
        if grant is not None and not governor.is_good(grant, self._clock.mono()):
            governor.give_back(grant)
            grant = None
        while True:
            if grant is None:
                grant = await self._admit(call, tried)
            try:
                return await self._send_through(grant, call)
            except UpstreamUnreachable as error:
                tried.append(grant.egress)
                if not governor.may_move(market, call.key, tried):
                    raise
                governor.moved += 1
                logger.warning(
                    "%s through %s: %s Another egress is tried.", market, grant.egress.name, error.msg
                )
                grant = None

    async def _send_through(self, grant: Grant, call: Call) -> RestResponse:
        """Send a call through the egress it was granted and learn from what comes of it.

        Raises: AnswerError if nothing does.
        """
        governor = self.governor
        client = self.clients[grant.egress.name, call.market]
        try:
            response = await client.send(call.method, call.target, call.headers, call.body)
        except UpstreamUnreachable as error:
            is_whole = isinstance(error, EgressUnusable) and error.is_certain
            governor.unreachable(grant, self._clock.mono(), is_whole=is_whole)
            raise
        except (UpstreamLost, UpstreamTimeout):
            if governor.lost(grant, self._clock.mono()):
                name = f"egress-ping:{grant.egress.name}:{call.market}"
                if name not in self._tasks.names():
                    self._tasks.spawn(self._ping(grant.egress, call.market), name=name)
            raise
        except BaseException:
            governor.unanswered(grant, self._clock.mono())
            raise
        try:
            await self._note(grant, call, response)
        except BaseException:
            response.close()
            raise
        return response

    async def _ping(self, egress: Egress, market: Market) -> None:
        """Try an egress that lost a call, until it answers; no client's call is risked for that."""
        governor = self.governor
        pauses = Backoff(_PING_FIRST_S, _PING_MAX_S)
        headers = [("User-Agent", f"binance-resender/{__version__}"), ("Accept-Encoding", "identity")]
        call = Call(market, "GET", BY_MARKET[market].ping_path, headers, priority=PROBE)
        others = [other for other in governor.egresses_of(market) if other is not egress]
        while True:
            await asyncio.sleep(pauses.next_s())
            if market not in egress.suspect:
                return
            try:
                grant = governor.admit(
                    market, call.cost, self._clock.mono(), priority=PROBE, excluding=others
                )
                response = await self._send_through(grant, call)
            except EgressExhausted:  # closed or full for now
                continue
            except AnswerError:
                governor.died(egress, market)
                continue
            try:
                while await response.next_chunk():
                    pass
            except AnswerError:
                pass
            finally:
                response.close()

    async def _note(self, grant: Grant, call: Call, response: RestResponse) -> None:
        """Learn from the head of an answer; of a refusal from its first bytes too."""
        governor = self.governor
        mono = self._clock.mono()
        status = response.status
        reported_weight: int | None = None
        retry_after = date = b""
        is_ours = is_kept = False
        for name, value in response.headers:
            kind = _kind(name)
            if not kind:
                continue
            if kind == _USED:
                if value.isdigit() and len(value) < 10:
                    reported_weight = int(value)
            elif kind == _DATE:
                date = value
            elif kind == _RETRY_AFTER:
                retry_after = value
            elif kind == _OURS:
                is_ours = True
            else:
                is_kept = value in (b"hit", b"shared")
        if is_kept:  # out of another gateway's memory: used by nobody now
            reported_weight = None
        # What another gateway answers by itself has its own date, or an old one.
        if date and not is_ours and not is_kept and governor.clock.wants_date(mono):
            self._read_date(date, grant.sent_mono, mono)
        governor.answered(grant, status, reported_weight, mono)
        response.egress = grant.egress.name
        if reported_weight is not None:
            pool = POOL_OF[call.market]
            # Of what `sapi` counts no answer out of memory tells, and with several egresses the
            # next call takes the one with most weight left.
            self.used_weight[pool] = str(governor.used(call.market, pool, mono))
            if call.market not in self._metered:
                self._metered.add(call.market)
                self.on_metered(call.market)
        if status == 429 and is_ours:
            governor.fill(grant, mono)  # another gateway has no weight left for such a call
        elif status in (418, 429):
            await self._close(grant, call, response, retry_after)
        elif status == 401 and call.key and not is_ours and b"-2015" in readable(await response.peek()):
            self.on_key_refused(call.key, grant.egress.name)
        elif status == 403 and is_ours and grant.egress.spec.kind == "resender":
            grant.egress.problems[call.market] = "not_whitelisted"

    def _read_date(self, value: bytes, sent_mono: float, mono: float) -> None:
        try:
            date_ms = int(parsedate_to_datetime(value.decode("latin-1")).timestamp() * 1000)
        except (ValueError, TypeError, OverflowError):
            return
        self.governor.clock.observe_date(date_ms, sent_mono, mono)

    async def _close(self, grant: Grant, call: Call, response: RestResponse, retry_after: bytes) -> None:
        """A 429 or 418 came: close what it speaks of, for as long as it says."""
        governor, status = self.governor, response.status
        mono = self._clock.mono()
        is_told = retry_after.isdigit() and len(retry_after) < 10
        pause_s = min(_MAX_PAUSE_S, float(retry_after)) if is_told else 0.0
        # Closed before anything is awaited: other calls must not slip in meanwhile.
        is_order_limit = status == 429 and grant.charge.is_order
        undo: Callable[[], object] = bool
        if not is_order_limit:
            undo = governor.close(grant, status, pause_s or self._default_pause_s(grant, status), mono)
        text = b""
        if is_order_limit or not pause_s:
            text = readable(await response.peek())
        found = _BANNED_UNTIL.search(text)
        if found is not None and not pause_s:
            pause_s = (int(found.group(1)) - governor.clock.low_ms(mono)) / 1000
            undo()  # what was guessed may be longer than what is so
        pause_s = min(_MAX_PAUSE_S, pause_s if pause_s > 0 else self._default_pause_s(grant, status))
        if is_order_limit and _TOO_MANY_ORDERS.search(text):
            governor.pause_orders(call.key or "", grant.charge.pool, mono + pause_s)
        else:
            governor.close(grant, status, pause_s, mono)
        logger.warning(
            "%s answers %d through %s: nothing is sent there to %s for %d s",
            call.market, status, grant.egress.name, grant.charge.pool, int(pause_s),
        )  # fmt: skip
        self.on_closed()

    def _default_pause_s(self, grant: Grant, status: int) -> float:
        if status == 418:
            return _BAN_S
        # To the end of the window, of the later one if two are possible.
        clock, mono = self.governor.clock, self._clock.mono()
        window_ms = grant.reservation.budget.window_ms
        end_ms = (clock.high_ms(mono) // window_ms + 1) * window_ms
        return max(1.0, (end_ms - clock.low_ms(mono)) / 1000)


__all__ = ["Call", "EgressExhausted", "EgressOptions", "EgressPool"]
