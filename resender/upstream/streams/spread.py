"""Spreads the WebSockets of one market over the egresses, leaving alone those that fail.

It decides which egress opens a connection, nothing else. A `SpreadSessions` owns one session for
each egress; its owner starts and stops it.
"""

from __future__ import annotations

import logging
import random as random_module
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from resender.aio import Backoff, Clock
from resender.core.binance.markets import Market
from resender.core.egress.spec import EgressSpec
from resender.upstream.egresses import make_route
from resender.upstream.streams.session import Socket, StreamBroken, StreamSession
from resender.upstream.tls import make_context

logger = logging.getLogger("resender.upstream")

_BACKOFF_FIRST_S = 1.0
_BACKOFF_CAP_S = 60.0
_NO_STREAMS_PAUSE_S = 600.0
_GOOD_LIFE_S = 20.0  # an egress whose connections end sooner is one that fails


class Health(Protocol):
    """What is known of the egresses themselves, by REST calls too; `Governor` fits."""

    def is_failed(self, name: str, mono: float) -> bool: ...
    def note_failed(self, name: str, sent_mono: float, mono: float) -> None: ...
    def note_works(self, name: str) -> None: ...


def make_stream_session(
    spec: EgressSpec, base_url: str, connect_timeout_s: float, *, ssl_context: ssl.SSLContext | None = None
) -> StreamSession:
    """Make what opens WebSockets through one egress.

    Raises: ValueError for another gateway, which forwards REST only.
    """
    if not spec.has_streams:
        raise ValueError("another Binance Resender has no streams")
    return StreamSession(base_url, connect_timeout_s, egress=make_route(spec), ssl_context=ssl_context)


@dataclass(slots=True, eq=False)
class _StreamEgress:
    """One egress and what is known of it.

    Units: monotonic seconds. `due` is when an egress that failed may be tried again, `closed_until`
        when the venue wants to hear of it again.
    """

    spec: EgressSpec
    session: StreamSession
    backoff: Backoff
    due: float = 0.0
    closed_until: float = 0.0
    failures: int = 0
    opening: int = 0
    turn: int = 0
    sockets: list[tuple[Socket, float]] = field(default_factory=list)

    def load(self, now: float) -> int:
        """Count what is open or being opened; learn from what has ended since."""
        ended = [opened for socket, opened in self.sockets if socket.transport.is_closing()]
        if any(now - opened >= _GOOD_LIFE_S for _, opened in self.sockets):
            self.backoff.reset()
        if ended:
            self.sockets = [entry for entry in self.sockets if not entry[0].transport.is_closing()]
            if now - max(ended) < _GOOD_LIFE_S and self.due <= now:
                self.quarantine(now)
        return len(self.sockets) + self.opening

    def quarantine(self, now: float) -> None:
        self.failures += 1
        self.due = max(self.due, now + self.backoff.next_s())


class SpreadSessions:
    """Opens each WebSocket on the egress with the fewest; an egress that fails is set aside for a while.

    It serves as the session of a `StreamPool`. Every `open` tries each usable egress at most once
    and then, of those set aside, the one due soonest. An egress is also set aside when its connection
    ended soon. One the venue has told to wait (`Retry-After`) is left alone until then.
    """

    def __init__(
        self,
        specs: Sequence[EgressSpec],
        base_url: str,
        connect_timeout_s: float,
        *,
        market: Market | None = None,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        random: random_module.Random | None = None,
        health: Health | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._health = health
        if ssl_context is None and base_url.startswith("wss:"):
            ssl_context = make_context()
        random = random or random_module.Random()
        self._egresses = [
            _StreamEgress(
                spec,
                make_stream_session(spec, base_url, connect_timeout_s, ssl_context=ssl_context),
                Backoff(_BACKOFF_FIRST_S, _BACKOFF_CAP_S, random),
            )
            for spec in specs
            if spec.has_streams and (market is None or spec.serves(market))
        ]
        self._turn = 0

    async def start(self) -> None:
        for egress in self._egresses:
            await egress.session.start()

    async def stop(self) -> None:
        for egress in self._egresses:
            await egress.session.stop()

    @property
    def open_sockets(self) -> dict[str, int]:
        """Open WebSockets by the name of the egress."""
        now = self._clock.mono()
        return {egress.spec.name: egress.load(now) - egress.opening for egress in self._egresses}

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        """Open one WebSocket on one of the egresses.

        Raises: StreamBroken with the reason of the last egress tried; `retry_after_s` only if all
            egresses have been told to wait.
        """
        if not self._egresses:
            raise StreamBroken(
                "no entry of EGRESS carries streams: another Binance Resender forwards REST only",
                _NO_STREAMS_PAUSE_S,
            )
        tried: list[_StreamEgress] = []
        why = "every egress has been told to wait"
        is_last = False
        while not is_last and (egress := self._next(tried)) is not None:
            is_last = self._is_left_alone(egress, self._clock.mono())
            tried.append(egress)
            try:
                return await self._open(egress, target, max_message_bytes)
            except StreamBroken as error:
                why = str(error)
                if len(self._egresses) > 1:
                    logger.warning("egress %s: no stream connection: %s", egress.spec.name, error)
        now = self._clock.mono()
        raise StreamBroken(why, max(0.0, min(egress.closed_until for egress in self._egresses) - now))

    def _next(self, tried: list[_StreamEgress]) -> _StreamEgress | None:
        now = self._clock.mono()
        loads = [(egress.load(now), egress.turn, egress) for egress in self._egresses]
        left = [egress for egress in self._egresses if egress not in tried and egress.closed_until <= now]
        usable = [entry for entry in loads if entry[2] in left and not self._is_left_alone(entry[2], now)]
        if usable:
            return min(usable, key=lambda entry: entry[:2])[2]
        return min(left, key=lambda egress: egress.due, default=None)

    def _is_left_alone(self, egress: _StreamEgress, now: float) -> bool:
        """Tell whether an egress failed lately, for streams or altogether."""
        return egress.due > now or (
            self._health is not None and self._health.is_failed(egress.spec.name, now)
        )

    async def _open(self, egress: _StreamEgress, target: str, max_message_bytes: int) -> Socket:
        self._turn += 1
        egress.turn = self._turn
        egress.opening += 1
        failures, begun = egress.failures, self._clock.mono()
        try:
            socket = await egress.session.open(target, max_message_bytes)
        except StreamBroken as error:
            now = self._clock.mono()
            if egress.failures == failures:  # of several that fail at once, one counts
                egress.quarantine(now)
            if error.is_whole and self._health is not None:
                self._health.note_failed(egress.spec.name, begun, now)
            if error.retry_after_s:
                egress.closed_until = now + error.retry_after_s
            raise
        finally:
            egress.opening -= 1
        if self._health is not None:
            self._health.note_works(egress.spec.name)
        egress.due = egress.closed_until = 0.0
        egress.sockets.append((socket, self._clock.mono()))
        return socket
