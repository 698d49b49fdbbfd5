"""The one door out: every REST call leaves here, a client's or the gateway's own.

It decides which calls share an answer and remembers how each market answered last; which egress
takes a call and whether it may leave is `egress.py`'s. `Dispatch` owns nothing that has to be
started or stopped.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from resender.aio import Clock
from resender.core.binance.fetched import Fetched
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.egress.governor import CLIENT, OWN_CALM, OWN_URGENT
from resender.core.egress.state import Grant
from resender.core.reachability import UNREACHABLE, kind_of
from resender.core.sharing import Key, memory_s, share_key, worth_remembering
from resender.errors import AnswerError, EgressExhausted, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.log import Seldom
from resender.upstream.egress import Call, EgressPool
from resender.upstream.hops import Hops
from resender.upstream.rest import RestResponse, gunzip
from resender.upstream.shared_answers import SharedAnswer, SharedAnswers

logger = logging.getLogger("resender.gateway")

# exchangeInfo, the largest of our own reads, has several MB.
_OWN_READ_BYTES = 64 << 20
_FAILURE_LOG_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """How a market answered last.

    Shape: `kind` as in `resender.core.reachability`; `status` is None if there was no answer, `in_row` counts how
        often that was so since the last answer.
    Units: `at_ms` epoch milliseconds of the machine.
    """

    kind: str
    status: int | None
    at_ms: int
    in_row: int = 0


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission for one own read, with its weight reserved: it is fetched or given back."""

    call: Call
    grant: Grant


class Dispatch:
    """Sends calls, shares answers, makes own reads.

    Units: `get_memory_s` and `exchange_info_memory_s` seconds for which answers serve equal calls.
    """

    def __init__(
        self,
        egress: EgressPool,
        *,
        clock: Clock,
        user_agent: str,
        get_memory_s: float = 0.0,
        exchange_info_memory_s: float = 0.0,
    ) -> None:
        self.egress = egress
        self._clock = clock
        # Where there are other nodes: what sends calls through them.
        self.hops: Hops | None = None
        # Where the egress is another resender, its memory must not answer what is asked to compare with.
        self._own_headers: Pairs = [
            ("User-Agent", user_agent),
            ("Accept-Encoding", "gzip"),
            ("Cache-Control", "no-cache"),
        ]
        self._get_memory_s = get_memory_s
        self._exchange_info_memory_s = exchange_info_memory_s
        # The second part of a key is the call's target, see `share_key`.
        self.shared_answers = SharedAnswers(
            clock.mono,
            lambda key, headers, body: worth_remembering(str(key[1]).partition("?")[0], headers, body),
        )
        self.last_answers: dict[Market, LastAnswer] = {}
        # Calls that came to nothing: one line a minute and kind.
        self._failures = Seldom(logger, _FAILURE_LOG_EVERY_S)

    async def send(
        self, call: Call, key: Key | None, *, is_fresh: bool = False, max_age_s: float | None = None
    ) -> RestResponse | SharedAnswer:
        """Send a call through one egress, or share an answer to an equal one.

        Shape: `key` as `share_key` makes it; with `is_fresh` no remembered answer will do.
        Units: `max_age_s` seconds up to which a remembered one will; None for what the settings say.
        Raises: AnswerError.
        """
        if key is None:
            return await self._send(call, None)
        market = call.market
        # What another node remembers may be that old already: it is not remembered a second time.
        is_front = self.hops is not None and self.hops.homes.is_front
        memory_s = self._memory_s(call) if max_age_s is None else max_age_s
        try:
            response = await self.shared_answers.get(
                key,
                lambda: self._leave(call, None),
                memory_s=0.0 if is_front else memory_s,
                use_memory=not is_fresh,
            )
        except AnswerError as error:
            if isinstance(error, EgressExhausted) and error.is_own and call.priority <= CLIENT:
                # It had joined a read of the gateway's own, which may use less than it.
                return await self._send(call, None)
            self._note_failure(market, error)
            raise
        if response.kind != "shared":
            self._note_answer(market, response.status)
        return response

    async def _leave(self, call: Call, grant: Grant | None) -> RestResponse:
        """Send a call out of this node, or through the one whose egress its API key has."""
        if self.hops is not None and grant is None and call.priority == CLIENT:
            if call.is_hop:
                self.hops.homes.check(call.key)
            elif (response := await self.hops.send(call)) is not None:
                return response
        return await self.egress.send(call, grant)

    async def _send(self, call: Call, grant: Grant | None) -> RestResponse:
        try:
            response = await self._leave(call, grant)
        except AnswerError as error:
            self._note_failure(call.market, error)
            raise
        self._note_answer(call.market, response.status)
        return response

    def _note_answer(self, market: Market, status: int) -> None:
        self.last_answers[market] = LastAnswer(kind_of(status), status, self._clock.now_ms())

    def _note_failure(self, market: Market, error: AnswerError) -> None:
        if isinstance(error, (UpstreamUnreachable, UpstreamTimeout, UpstreamLost)):
            self._failures.say(logging.WARNING, f"{market} {error.name}", self._clock.mono(), error.msg)
        if isinstance(error, (UpstreamUnreachable, UpstreamTimeout)):
            kind = "timeout" if isinstance(error, UpstreamTimeout) else UNREACHABLE
            before = self.last_answers.get(market)
            in_row = 1 + (before.in_row if before is not None else 0)
            self.last_answers[market] = LastAnswer(kind, None, self._clock.now_ms(), in_row)

    def _memory_s(self, call: Call) -> float:
        path = call.target.partition("?")[0]
        if not self._get_memory_s and not path.endswith("/exchangeInfo"):
            return 0.0
        return memory_s(
            path,
            is_public=call.cost.is_public,
            get_memory_s=self._get_memory_s,
            exchange_info_memory_s=self._exchange_info_memory_s,
        )

    # --- own reads -------------------------------------------------------------------------

    def _own_call(self, market: Market, target: str, *, is_urgent: bool) -> Call:
        priority = OWN_URGENT if is_urgent else OWN_CALM
        return Call(market, "GET", target, self._own_headers, priority=priority)

    def admit(self, market: Market, target: str, *, is_urgent: bool) -> Permit:
        """Reserve the weight of an own read.

        Shape: an urgent read is one a client waits for.
        Raises: EgressExhausted, with the time after which there may be weight again; RouteError.
        """
        call = self._own_call(market, target, is_urgent=is_urgent)
        try:
            return Permit(call, self.egress.admit(call))
        except EgressExhausted:
            self.egress.on_wish(market, call.cost)
            raise

    def give_back(self, permit: Permit) -> None:
        """The read is not made after all."""
        self.egress.governor.give_back(permit.grant)

    async def fetch(self, market: Market, target: str, permit: Permit | None = None) -> Fetched:
        """Make one of the gateway's own reads; the answer is unpacked.

        Shape: `permit` is what `admit` gave for this target, if it was asked before. An
            exchangeInfo answer is shared with the clients that ask for the same.
        Raises: AnswerError if there is no complete answer, EgressExhausted among them if there is
            no weight for it now.
        """
        response: RestResponse | SharedAnswer
        if permit is not None:
            response = await self._send(permit.call, permit.grant)
        else:
            call = self._own_call(market, target, is_urgent=True)
            key = share_key(market, target, call.headers)[0] if "/exchangeInfo" in target else None
            response = await self.send(call, key, is_fresh=True)
        return await _read_whole(response)

    async def call_with_key(
        self, market: Market, method: str, target: str, api_key: str, *, is_urgent: bool = False
    ) -> tuple[Fetched, str]:
        """Make a call of the gateway's own for an account: once, through the egress of its API key.

        Shape: the answer and the name of the egress. Raises: as `fetch`.
        """
        headers = [*self._own_headers, ("X-MBX-APIKEY", api_key)]
        priority = OWN_URGENT if is_urgent else OWN_CALM
        call = Call(market, method, target, headers, key=api_key, priority=priority)
        response = await self._send(call, None)
        return await _read_whole(response), response.egress


async def _read_whole(response: RestResponse | SharedAnswer) -> Fetched:
    try:
        parts = []
        size = 0
        while chunk := await response.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > _OWN_READ_BYTES:
                raise UpstreamLost(f"An answer for the gateway itself has more than {size} bytes.")
    finally:
        response.close()
    down = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    body = b"".join(parts)
    if down.get("content-encoding", "").lower() == "gzip":
        body = await asyncio.to_thread(gunzip, body)
    return Fetched(response.status, down, body)
