"""What the venue allows a stream connection, and the pacing that keeps to it.

Pure: time comes in as a value. Buckets and budgets belong to their users.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

# Source: web-socket-streams.md of 2026-07-21.
CONNECT_WINDOW_S = 300.0
VENUE_LIFE_S = 86_400.0

_VENUE_MARGIN_S = 900.0
_JITTER = 0.05


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
