"""Things that go wrong on purpose: the list of REST faults and the switches of streams and accounts.

`Faults` owns all (those of accounts are told in `account_faults.py`); the REST server asks it for
every call, the stream hubs read their `StreamFaults`. It does no I/O itself: what a kind does to a
connection is in `http_faults.py`, `stream_hub.py` and `stream_feed.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from resender.core.binance.markets import Market

from .account_faults import AccountFaults
from .config import SandboxConfig

FaultKind = Literal[
    "status", "delay", "reset_before", "close_before", "reset_mid_body", "truncated_gzip", "html",
    "drop", "slow_body", "close_idle", "partial_status_line", "body_delay", "large",
]  # fmt: skip
# These need the real answer, so the call is always carried out first.
NEEDS_ANSWER = frozenset({"reset_mid_body", "truncated_gzip", "slow_body", "body_delay", "close_idle"})


@dataclass(slots=True)
class Fault:
    """One rule about REST calls.

    Shape: `match` is a substring or regular expression of the path; None matches all.
        `times` None means until removed. With `after` the call is carried out (an order is
        placed) before the fault strikes. `peer` is the address the call comes from. `hits` counts.
        status: `status`, `body`, `headers`; delay, slow_body, body_delay: `seconds`;
        reset_mid_body, large: `chunked`; large: `megabytes`.
    """

    kind: FaultKind
    match: str | None = None
    host: str | None = None
    method: str | None = None
    times: int | None = 1
    after: bool = False
    status: int = 500
    body: bytes | str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.3
    chunked: bool = False
    megabytes: float = 1.0
    peer: str | None = None
    hits: int = 0

    def applies(self, host: str, method: str, path: str, peer: str = "") -> bool:
        """Tell whether this fault strikes a call."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.host is not None and self.host != host:
            return False
        if self.method is not None and self.method.upper() != method:
            return False
        if self.peer is not None and self.peer != peer:
            return False
        return self.match is None or self.match in path or re.search(self.match, path) is not None


@dataclass(slots=True)
class StreamFaults:
    """Switches of one market's streams, read at every push; set them at any time.

    Shape: `frozen` names symbols whose bookTicker stream is silent while REST goes on,
        `"*"` means all. `late_final_s` holds back the event with x:true, of single symbols
        `late_final_by_symbol` does; E stays the moment of the close and the next candle goes
        on. With `final_delay` the exchange makes that event later, by a profile of
        `final_delays.py` or by milliseconds; E is late too and the next candle waits for it.
        With `silent_open` USD-M streams are silent on some new candles, with `zero_open` spot
        streams bring candles without a trade, with `late_row` USD-M REST shows those late: see
        `opens.py`. For `rest_lag_ms` after every close REST shows candles as they stood so much earlier.
        `refuse_status` is the HTTP status of refused handshakes, 0 cuts the connection
        instead. `muted` and `never_start` are patterns of stream names, see `Faults`; of what
        `lose_once` fits one event is lost, then it is None again; `repeat_once` has one sent
        twice and `swap_once` one sent after the next of its stream. `lose_next` loses as many
        events as each pattern counts. `partial_on_change` keeps partial depth streams silent
        while their book does not change; `depth_lag_ms`, `trades_lag_ms`
        and `periods_lag_ms` are how far behind REST shows depth, trades, and the rows of funding
        and futures/data.
    """

    refuse: bool = False
    refuse_status: int = 503
    silent: bool = False
    duplicate: bool = False
    reorder: bool = False
    swallow_final: bool = False
    late_final_s: float = 0.0
    late_final_by_symbol: dict[str, float] = field(default_factory=dict)
    final_delay: str | float | None = None
    rest_lag_ms: int = 0
    next_before_final: bool = False
    silent_open: bool = False
    zero_open: bool = False
    late_row: bool = False
    frozen: set[str] = field(default_factory=set)
    muted: list[str] = field(default_factory=list)
    never_start: list[str] = field(default_factory=list)
    lose_once: str | None = None
    repeat_once: str | None = None
    swap_once: str | None = None
    lose_next: dict[str, int] = field(default_factory=dict)
    partial_on_change: bool = False
    depth_lag_ms: int = 0
    trades_lag_ms: int = 0
    periods_lag_ms: int = 0


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern is part of a stream's name or, as a regular expression, found in it."""
    return pattern in name or re.search(pattern, name) is not None


class StreamActions(Protocol):
    """What a stream hub can be told to do at once."""

    def drop_all(self, code: int | None = None) -> int: ...

    def send_raw(self, data: str | bytes) -> None: ...

    def send_for_each_stream(self, make: str) -> None: ...

    def announce_shutdown(self) -> None: ...

    def mute(self, pattern: str) -> int: ...

    def unmute(self) -> None: ...


class Faults:
    """All faults of a sandbox; what the configuration sets is where `clear` goes back to."""

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self._config = config or SandboxConfig()
        self.rest: list[Fault] = []
        self.streams: dict[Market, StreamFaults] = {
            market: self._fresh() for market in (Market.SPOT, Market.UM, Market.CM)
        }
        self.accounts = {market: AccountFaults() for market in (Market.SPOT, Market.UM, Market.CM)}
        self._hubs: Mapping[Market, StreamActions] = {}

    def bind(self, hubs: Mapping[Market, StreamActions]) -> None:
        """Give the hubs that carry out the one-time stream faults."""
        self._hubs = hubs

    def add(self, fault: Fault) -> Fault:
        """Arm a REST fault and return it, so that a test can read `hits`."""
        self.rest.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Disarm one REST fault."""
        self.rest = [other for other in self.rest if other is not fault]

    def stream(self, market: Market) -> StreamFaults:
        """Return the switches of a market's streams."""
        return self.streams[market]

    def drop_streams(self, market: Market, code: int | None = None) -> int:
        """Cut every connection of a market with a RST, or close it with a code."""
        return self._hubs[market].drop_all(code)

    def refuse_streams(self, market: Market, on: bool = True, status: int = 503) -> None:
        """Refuse new stream connections; status 0 cuts them before an answer."""
        self.streams[market].refuse = on
        self.streams[market].refuse_status = status

    def silence(self, market: Market, on: bool = True) -> None:
        """Keep connections open and send nothing at all, not even pings, pongs or acks."""
        self.streams[market].silent = on

    def send_raw(self, market: Market, data: str | bytes) -> None:
        """Send one frame of any content: str as text, bytes as binary."""
        self._hubs[market].send_raw(data)

    def send_truncated(self, market: Market) -> None:
        """Send every subscribed stream an event whose JSON is cut in half."""
        self._hubs[market].send_for_each_stream("truncated")

    def send_wrong_types(self, market: Market) -> None:
        """Send every subscribed stream an event with values of wrong types."""
        self._hubs[market].send_for_each_stream("wrong_types")

    def send_huge(self, market: Market, megabytes: float = 2.0) -> None:
        """Send one valid JSON text frame of that size."""
        filler = "x" * int(megabytes * 1024 * 1024)
        self._hubs[market].send_raw(f'{{"e":"filler","data":"{filler}"}}')

    def server_shutdown(self, market: Market) -> None:
        """Send the serverShutdown notice; connections stay until dropped."""
        self._hubs[market].announce_shutdown()

    def freeze_book_ticker(self, market: Market, symbol: str = "*", on: bool = True) -> None:
        """Silence a symbol's bookTicker stream ("*": all) while REST goes on changing."""
        frozen = self.streams[market].frozen
        frozen.add(symbol) if on else frozen.discard(symbol)

    def mute(self, market: Market, match: str, *, everywhere: bool = False) -> int:
        """Let streams fall silent while pings, pongs and acks of their connections go on.

        Shape: `match` is a substring or regular expression of the stream's name, "" means
            all. It holds for the connections open now, for what they subscribe later too;
            with `everywhere` for new connections as well. Returns how many subscriptions
            it hit.
        """
        re.compile(match)
        if everywhere:
            self.streams[market].muted.append(match)
        hub = self._hubs.get(market)
        return hub.mute(match) if hub is not None else 0

    def unmute(self, market: Market) -> None:
        """End every `mute` of a market; streams go on with their next event."""
        self.streams[market].muted.clear()
        if market in self._hubs:
            self._hubs[market].unmute()

    def never_start(self, market: Market, match: str, on: bool = True) -> None:
        """Acknowledge the subscriptions made from now on and never deliver them.

        Shape: `match` as for `mute`; names in a connection's URL count. Switched off, a
            new SUBSCRIBE works; subscriptions made before stay dead.
        """
        re.compile(match)
        patterns = self.streams[market].never_start
        if on:
            patterns.append(match)
        else:
            patterns[:] = [other for other in patterns if other != match]

    def clear(self) -> None:
        """Disarm everything."""
        self.rest.clear()
        for faults in self.accounts.values():
            faults.clear()
        for hub in self._hubs.values():
            hub.unmute()
        for market in self.streams:
            # In place: the hubs keep a reference.
            fresh = self._fresh()
            for name in StreamFaults.__slots__:
                setattr(self.streams[market], name, getattr(fresh, name))

    def _fresh(self) -> StreamFaults:
        config = self._config
        return StreamFaults(
            rest_lag_ms=config.rest_lag_ms,
            final_delay="measured" if config.measured and config.final_delay is None else config.final_delay,
            silent_open=config.measured,
            zero_open=config.measured,
            late_row=config.measured,
            partial_on_change=config.partial_on_change,
        )

    def strike(self, host: str, method: str, path: str, peer: str = "") -> list[Fault]:
        """Return the faults of a call, counted: all delays, then at most one other."""
        delays: list[Fault] = []
        other: Fault | None = None
        for fault in self.rest:
            if (fault.kind == "delay" or other is None) and fault.applies(host, method, path, peer):
                fault.hits += 1
                if fault.kind == "delay":
                    delays.append(fault)
                else:
                    other = fault
        return delays if other is None else [*delays, other]
