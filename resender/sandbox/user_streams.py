"""The user streams of one futures host: listen keys on connections, events onto them.

`UserStreams` works on the connections of its stream hub and owns none. The USD-M host carries
portfolio margin too, whose events say of which market they are.
"""

from __future__ import annotations

from typing import Protocol

import orjson

from resender.core.binance.markets import Market

from .exchange import Exchange
from .stream_connection import StreamConnection, frame
from .stream_names import Stream
from .user_feed import Event

_HOSTS = {Market.UM: "fapi", Market.CM: "dapi"}
PORTFOLIO = "papi"


class Hub(Protocol):
    """What is needed of a stream hub."""

    connections: set[StreamConnection]
    frames_sent: int

    def subscribers(self, name: str) -> set[StreamConnection]: ...


class UserStreams:
    """User events of one market's stream hub."""

    def __init__(self, exchange: Exchange, market: Market, hub: Hub) -> None:
        self._exchange = exchange
        self._market = market
        self._hub = hub
        self._host = _HOSTS.get(market, "")
        self.faults = exchange.faults.accounts[market]
        if self._host:
            exchange.feed.doors.append(self._bring)
            self.faults.bind(self)

    @property
    def _hosts(self) -> tuple[str, ...]:
        return (self._host, PORTFOLIO) if self._market is Market.UM else (self._host,)

    def meaning(self, name: str, now_ms: int) -> Stream | None:
        """Return the stream of a listen key that is alive."""
        if self._exchange.listen_keys.owner(name, self._hosts, now_ms) is None:
            return None
        return Stream(name, "user", "", "private")

    def _bring(self, market: Market, account: str, event: Event) -> None:
        keys, now = self._exchange.listen_keys, self._exchange.now()
        if market is self._market:
            key = keys.alive(self._host, account, now)
            if key is not None:
                self._send(key, event)
        if self._market is Market.UM and market in (Market.UM, Market.CM):
            key = keys.alive(PORTFOLIO, account, now)
            if key is not None:
                self._send(key, {"e": event["e"], "fs": market.name, **event})

    def _send(self, key: str, event: Event) -> int:
        text = orjson.dumps(event)
        raw, combined = frame(text), frame(b'{"stream":"' + key.encode() + b'","data":' + text + b"}")
        sent = 0
        for connection in self._hub.subscribers(key):
            is_wanted = not connection.events or event["e"] in connection.events
            if (is_wanted or event["e"] == "listenKeyExpired") and key not in connection.muted:
                connection.write(combined if connection.is_combined else raw)
                sent += 1
        self._hub.frames_sent += sent
        return sent

    def tick(self, now_ms: int) -> None:
        """End the keys that are over."""
        until = self._exchange.listen_keys.next_end_ms
        if self._host and until is not None and until <= now_ms:
            self._expire(self._exchange.listen_keys.end(self._hosts, now_ms))

    def _expire(self, ended: list[tuple[str, str]], notice: bool = True) -> None:
        now: int | str = self._exchange.now()
        if self.faults.expired_as_text:
            now = str(now)
        for _, key in ended:
            if notice and not self.faults.silent:
                self._send(key, {"e": "listenKeyExpired", "E": now, "listenKey": key})

    def _users(self) -> list[StreamConnection]:
        return [one for one in self._hub.connections if one.user_faults is not None]

    # -- faults of accounts ----------------------------------------------------------------

    def drop_users(self) -> int:
        """Reset every connection that brings user events."""
        users = self._users()
        for connection in users:
            connection.cut()
        return len(users)

    def expire_keys(self, notice: bool) -> int:
        """End every listen key of this host."""
        ended = self._exchange.listen_keys.end(self._hosts)
        self._expire(ended, notice)
        return len(ended)

    def terminate(self, notice: bool) -> int:
        """End nothing: there are no subscriptions of the WebSocket API here."""
        return 0

    def send_users(self, event: Event) -> int:
        """Send an event to every stream of an account."""
        now = self._exchange.now()
        names = {name for connection in self._users() for name in connection.names}
        keys = [name for name in names if self._exchange.listen_keys.owner(name, self._hosts, now)]
        return sum(self._send(key, event) for key in keys)
