"""The books of one connection to the WebSocket API: each request's weight before it is sent, its answer after.

Of what is said only the beginning and the end of each answer are read. A desk lives as long as its connection.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.state import Egress, Grant
from resender.core.weights.rules import Charge
from resender.core.weights.ws_api import method_charge
from resender.errors import EgressExhausted

logger = logging.getLogger("resender.upstream")

_MAX_ID_CHARS = 128
_STATUS = re.compile(rb'"status":(\d{3})')
_ID = re.compile(rb'"id":("(?:[^"\\]|\\.){0,200}"|-?\d{1,20}|null)')
_USED = re.compile(rb'"rateLimitType":"REQUEST_WEIGHT"[^}]*?"count":(\d{1,9})')
_RETRY_AFTER = re.compile(rb'"retryAfter":(\d{13})')
_HEAD_BYTES, _TAIL_BYTES = 512, 2048
# Source: rest-api.md of 2026-07-21: bans last from 2 minutes to 3 days.
_BAN_S, _MAX_PAUSE_S = 120.0, 4 * 86_400.0


class Keeper(Protocol):
    """What opens the connections, and has the weight: `Relays`."""

    governor: Governor
    clock: Clock
    desks: set[ApiDesk]

    def admit(
        self, market: Market, charge: Charge, egress: Egress, client: str, key: str | None = None
    ) -> Grant: ...

    async def has_more_room(
        self, market: Market, charge: Charge, key: str | None, egress: Egress
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under way."""

    method: str
    # None where another node keeps the books.
    grant: Grant | None
    key: str | None
    is_order: bool
    sent_mono: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer of one request; `status` is that of the JSON."""

    method: str
    status: int
    duration_ms: float


class ApiDesk:
    """Charges each request of one WebSocket API connection before it is sent; without an `egress` another node does."""

    def __init__(self, relays: Keeper, market: Market, egress: Egress | None, client: str) -> None:
        self._relays = relays
        self._governor = relays.governor
        self._clock = relays.clock
        self._market = market
        self._egress = egress
        self._client = client
        # By the JSON text of the id, in the order they were sent.
        self._open: dict[bytes, list[_Asked]] = {}
        # Whose orders they are, if the requests do not say so themselves: of `session.logon`.
        self._session_key: str | None = None

    @property
    def unanswered(self) -> list[str]:
        """The methods of the requests under way."""
        return [asked.method for waiting in self._open.values() for asked in waiting]

    def admit(self, request: dict[str, Any]) -> bytes | None:
        """Reserve the weight of a request; return the error Binance would send if it does not fit.

        Shape: the request as parsed, with a `method` that is text.
        """
        method, params = request["method"], request.get("params")
        charge = method_charge(self._market, method, params if isinstance(params, dict) else {})
        message_id = orjson.dumps(request.get("id"))
        key = key_of(request) or self._session_key
        grant = None
        try:
            if self._egress is not None:
                grant = self._relays.admit(self._market, charge, self._egress, self._client, key)
        except EgressExhausted as error:
            return self._refusal(message_id, error)
        if method == "session.logon":
            self._session_key = key
        self._open.setdefault(message_id, []).append(
            _Asked(method, grant, key, charge.is_order, self._clock.mono())
        )
        return None

    async def has_more_room(self, request: dict[str, Any]) -> bool:
        """Have more weight granted for a request that was refused, see `Relays.has_more_room`."""
        if self._egress is None:
            return False
        params = request.get("params")
        charge = method_charge(self._market, request["method"], params if isinstance(params, dict) else {})
        key = key_of(request) or self._session_key
        return await self._relays.has_more_room(self._market, charge, key, self._egress)

    def _refusal(self, message_id: bytes, error: EgressExhausted) -> bytes:
        """Source: web-socket-api.md of 2026-07-21, "Response format" and "IP limits"."""
        now_ms = int(self._governor.clock.low_ms(self._clock.mono()))
        data = {"serverTime": now_ms, "retryAfter": now_ms + error.retry_after_s * 1000}
        text = orjson.dumps(
            {"status": error.answer.status, "error": {"code": -1003, "msg": error.msg, "data": data}}
        )
        return b'{"id":' + message_id + b"," + text[1:]

    def note(self, message: str) -> Answered | None:
        """Learn from a message of the upstream; None for what answers no request, such as an event."""
        if not self._open:
            return None
        head = message[:_HEAD_BYTES].encode()
        status = _STATUS.search(head)
        if status is None:
            return None
        found = _ID.search(head)
        asked = self._take(found[1] if found is not None else b"")
        if asked is None:
            return None
        grant = asked.grant
        tail = message[-_TAIL_BYTES:].encode()
        used = _USED.search(tail)
        mono = self._clock.mono()
        code = int(status[1])
        if grant is not None:
            self._governor.answered(
                grant, code if code in (418, 429) else 200, int(used[1]) if used else None, mono
            )
            if code in (418, 429):
                self._close(grant, asked.key, code, tail, mono)
        return Answered(asked.method, code, (mono - asked.sent_mono) * 1000)

    def _take(self, message_id: bytes) -> _Asked | None:
        """Take the request that is answered. One whose id nobody knows answers no order, as far as is known."""
        waiting = self._open.get(message_id)
        if waiting is None:
            others = (each for each, asked in self._open.items() if not asked[0].is_order)
            first = next(others, None)
            if first is None:
                return None
            message_id, waiting = first, self._open[first]
        asked = waiting.pop(0)
        if not waiting:
            del self._open[message_id]
        return asked

    def _close(self, grant: Grant, key: str | None, status: int, tail: bytes, mono: float) -> None:
        """A 429 or 418 came: nothing more goes into that pool there, by REST neither."""
        found = _RETRY_AFTER.search(tail)
        pause_s = _BAN_S if status == 418 else 60.0
        if found is not None:
            pause_s = (int(found[1]) - self._governor.clock.low_ms(mono)) / 1000
        pause_s = min(_MAX_PAUSE_S, max(1.0, pause_s))
        if status == 429 and grant.charge.is_order and b"-1015" in tail:
            # The account's own limit of orders, by REST too.
            self._governor.pause_orders(key or "", grant.charge.pool, mono + pause_s)
            return
        self._governor.close(grant, status, pause_s, mono)
        logger.warning(
            "the WebSocket API of %s answers %d through %s: nothing is sent there to %s for %d s",
            self._market, status, grant.egress.name, grant.charge.pool, int(pause_s),
        )  # fmt: skip

    def end(self) -> list[str]:
        """The connection is gone; return the methods of the requests that have no answer."""
        self._relays.desks.discard(self)
        left = self.unanswered
        for waiting in self._open.values():
            for asked in waiting:
                if asked.grant is not None:
                    self._governor.unanswered(asked.grant, self._clock.mono())
        self._open.clear()
        return left


def key_of(request: dict[str, Any]) -> str | None:
    """Return the API key a request of the WebSocket API carries."""
    params = request.get("params")
    key = params.get("apiKey") if isinstance(params, dict) else None
    return key if isinstance(key, str) and key else None


def is_request(request: Any) -> bool:
    """Tell whether this is a request whose answer can be told from others: id and method are plain."""
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return False
    number = request.get("id")
    return number is None or type(number) is int or (isinstance(number, str) and len(number) <= _MAX_ID_CHARS)
