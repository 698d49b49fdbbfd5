"""The pure part of market streams: names, control messages, the venue's limits and their pacing.

It opens nothing and knows no connection; time comes in as a value. Whatever reaches a stream
URL or a SUBSCRIBE has passed `check_stream_name`. Buckets and budgets belong to their users.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import orjson

from resender.core.binance.markets import SPOT_INTERVALS

Method = Literal["SUBSCRIBE", "UNSUBSCRIBE"]

SHUTDOWN_EVENT = "serverShutdown"
SHUTDOWN_STREAM = "!serverShutdown"
MAX_SYMBOL_CHARS = 64
MAX_MESSAGE_ID = 2**31 - 1
# Source: web-socket-streams.md of 2026-07-21.
CONNECT_WINDOW_S = 300.0
VENUE_LIFE_S = 86_400.0

_VENUE_MARGIN_S = 900.0
_JITTER = 0.05

_INTERVAL = "|".join(SPOT_INTERVALS)
# Letters and digits of any script: spot lists Chinese symbols. No class here holds a quote, a
# backslash, a blank, "/", "?", "&", "%" or "#", so no name can leave its JSON string or its URL.
_SYMBOL = re.compile(rf"[\w.\-]{{1,{MAX_SYMBOL_CHARS}}}")
_SUFFIX = re.compile(
    rf"kline_(?:{_INTERVAL})(?:@\+08:00)?|continuousKline_(?:{_INTERVAL})"
    r"|bookTicker|miniTicker|ticker|aggTrade|trade|markPrice(?:@1s)?|depth(?:5|10|20)(?:@[15]00ms)?"
)
# Of all symbols of a market that traded, once a second. Source: web-socket-streams.md of 2026-07-21.
MINI_TICKERS = "!miniTicker@arr"
# {"method":"UNSUBSCRIBE","params":[...],"id":2147483647}
_FRAME_BYTES = len(b'{"method":"UNSUBSCRIBE","params":[],"id":2147483647}')


def check_stream_name(name: str) -> str:
    """Return a stream name that is safe to send, `<symbol>@<what>` with the symbol in lower case.

    Of the all-market streams only `!miniTicker@arr` is known; its data is an array.
    Raises: ValueError.
    Source: spot web-socket-streams.md of 2026-07-21; derivatives SDKs of 2026-08-21. An
        upper-case symbol is acknowledged and silent (measured on USD-M).
    """
    if name == MINI_TICKERS:
        return name
    symbol, _, suffix = name.partition("@")
    if not _SYMBOL.fullmatch(symbol) or symbol != symbol.lower() or not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{name[:100]!r} is no stream name")
    return name


def kline_stream(symbol: str, interval: str) -> str:
    """Return the name of a kline stream: ("BTCUSDT", "1M") gives "btcusdt@kline_1M".

    Only the symbol is lower-cased: 1m is a minute, 1M a month.
    Raises: ValueError for a symbol or interval that cannot be one.
    """
    if interval not in SPOT_INTERVALS:
        raise ValueError(f"{interval[:20]!r} is no interval")
    return _of_symbol(symbol, f"kline_{interval}")


def book_ticker_stream(symbol: str) -> str:
    """Return the name of a bookTicker stream: "BTCUSDT" gives "btcusdt@bookTicker".

    Raises: ValueError for a symbol that cannot be one.
    """
    return _of_symbol(symbol, "bookTicker")


def _of_symbol(symbol: str, suffix: str) -> str:
    # Checked before lower-casing too: lower() may turn one odd letter into two plain ones.
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"{symbol[:100]!r} is no symbol")
    return check_stream_name(f"{symbol.lower()}@{suffix}")


def control_message(method: Method, names: list[str], message_id: int) -> bytes:
    """Build a control message.

    Shape: `{"method":"SUBSCRIBE","params":["btcusdt@kline_1m"],"id":7}`, UTF-8; the id is a small
        positive integer, the one form all markets take.
    """
    return orjson.dumps({"method": method, "params": names, "id": message_id})


def fitting(names: Iterable[str], max_bytes: int) -> list[str]:
    """Return the first names, as many as one control message shorter than `max_bytes` can carry.

    Shape: empty only if `names` is empty or its first does not fit.
    """
    size = _FRAME_BYTES
    chosen: list[str] = []
    for name in names:
        size += len(name.encode()) + 3  # two quotes and a comma
        if size >= max_bytes:
            break
        chosen.append(name)
    return chosen


@dataclass(frozen=True, slots=True)
class Reply:
    """The venue's answer to a control message; `message_id` is 0 if it names none."""

    message_id: int
    is_error: bool
    code: str = ""


def read_reply(frame: object) -> Reply | None:
    """Read a frame that is no event of a combined stream; None is the notice of a shutdown.

    Shape: `{"result":null,"id":7}`, flat `{"code":2,"msg":"...","id":7}` (spot), nested
        `{"error":{"code":4,"msg":"..."},"id":7}` (USD-M, the id may be missing),
        `{"e":"serverShutdown","E":1790000000000}`.
    Raises: ValueError if it is none of these.
    Source: web-socket-streams.md of 2026-07-21; the nested form was measured on USD-M.
    """
    if not isinstance(frame, dict):
        raise ValueError("a frame is no object")
    if frame.get("e") == SHUTDOWN_EVENT:
        return None
    message_id = frame.get("id")
    if type(message_id) is not int:
        message_id = 0
    error = frame.get("error", frame if "code" in frame else None)
    if error is not None:
        code = error.get("code") if isinstance(error, dict) else None
        return Reply(message_id, True, str(code)[:20])
    if "result" not in frame or not message_id:
        raise ValueError("a frame has a wrong shape")
    return Reply(message_id, False)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the venue allows and when a connection counts as dead.

    Units: `_s` seconds, `_bytes` bytes, `messages_per_s` outgoing messages of one connection.
    Source: web-socket-streams.md of 2026-07-21: 5 messages a second on spot, pings and pongs
        included, 10 on futures; 300 connects in 5 minutes; cut after 24 hours.
    """

    streams_per_connection: int = 200
    messages_per_s: float = 3.0  # spot; futures: 6
    subscribe_bytes: int = 4096  # a SUBSCRIBE stays below
    connects_per_5_min: int = 250
    silence_s: float = 10.0  # nothing at all for so long: dead
    ping_every_s: float = 3.0
    max_age_s: float = 82_800.0
    connect_timeout_s: float = 10.0
    max_message_bytes: int = 1 << 20
    ack_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.ping_every_s < self.silence_s / 2:
            raise ValueError("ping_every_s must be below half of silence_s")
        if self.messages_per_s * self.ping_every_s <= 1:
            raise ValueError("messages_per_s leaves no room beside the pings")
        if not 1 <= self.streams_per_connection <= 1024:
            raise ValueError("streams_per_connection must lie between 1 and 1024")
        if self.subscribe_bytes < 512:
            raise ValueError("subscribe_bytes must be at least 512")


class TokenBucket:
    """Paces the outgoing messages of one connection.

    In any stretch of t seconds at most `burst` + t * `rate_per_s` messages pass.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: float = 1.0) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def wait_s(self, now: float) -> float:
        """Return how long the next message has to wait, 0 if it may go."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._tokens > 1 - 1e-9 else (1 - self._tokens) / self._rate

    def take(self, now: float) -> None:
        """Count one message, allowed or not."""
        self.wait_s(now)
        self._tokens -= 1


class ConnectBudget:
    """Never more than `limit` connects in any `window_s` seconds."""

    def __init__(self, limit: int, window_s: float = CONNECT_WINDOW_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._times: deque[float] = deque()

    def wait_s(self, now: float) -> float:
        """Return how long the next connect has to wait, 0 if it may begin."""
        while self._times and now - self._times[0] >= self._window_s:
            self._times.popleft()
        if len(self._times) < self._limit:
            return 0.0
        return self._times[-self._limit] + self._window_s - now

    def take(self, now: float) -> None:
        self._times.append(now)


def rotation_age_s(max_age_s: float, source: random.Random) -> float:
    """Draw the age at which a connection is replaced: `max_age_s` within 5 %, before the venue's cut."""
    age = max_age_s * source.uniform(1 - _JITTER, 1 + _JITTER)
    return min(age, max(max_age_s * (1 - _JITTER), VENUE_LIFE_S - _VENUE_MARGIN_S))


@dataclass(slots=True)
class Pings:
    """A connection's own pings; the number is the payload. A pong settles its ping and all before it."""

    sent: int = 0
    answered: int = 0
    last: float = 0.0
    is_wanted: bool = False
    open: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=100))

    def next(self, now: float) -> bytes:
        """Count a ping sent now and return its payload."""
        self.is_wanted = False
        self.last = now
        self.sent += 1
        self.open.append((self.sent, now))
        return b"%d" % self.sent

    def settle(self, payload: bytes) -> None:
        if not payload.isdigit() or len(payload) > 18:
            return  # unsolicited: a sign of life and nothing else
        number = int(payload)
        if self.answered < number <= self.sent:
            self.answered = number
        while self.open and self.open[0][0] <= self.answered:
            self.open.popleft()
