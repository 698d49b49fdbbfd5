"""What is known of one egress: its budgets, closed pools and failures; and the words of a refusal.

Values with little behaviour; `Governor` owns and changes them. No state of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from resender.core.binance.markets import Market
from resender.core.egress.budget import MINUTE_MS, Budget, Reservation, RollingBudget
from resender.core.egress.spec import EgressSpec
from resender.core.weights.table import FUTURES_POOL, WS_UM_POOL, Charge

SAPI = "sapi"
POOLS_OF: dict[Market, tuple[str, ...]] = {
    Market.SPOT: ("spot", SAPI),
    Market.UM: ("futures",),
    Market.CM: ("futures",),
    Market.OPTIONS: ("options",),
    Market.PM: ("pm",),
}


def order_pool(pool: str) -> str:
    """Return the pool an account's limit of orders belongs to: USD-M has one for REST and WebSocket API."""
    return FUTURES_POOL if pool == WS_UM_POOL else pool


def pool_group(pool: str) -> str:
    """Return the family of a pool that a ban closes as one."""
    return SAPI if pool.startswith(SAPI) else pool


def key_digest(key: str) -> bytes:
    """Return what stands for an API key where the key itself must not be kept."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


@dataclass(frozen=True, slots=True)
class Limits:
    """Weight for one address and window in each pool, until exchangeInfo tells it.

    Units: weight; `window_ms` milliseconds.
    """

    spot: int = 6000
    futures: int = 2400
    options: int = 400
    pm: int = 6000
    # Source: USD-M WebSocket API general information of 2026-08: 2400 a minute, apart from REST.
    ws_um: int = 2400
    sapi: int = 12_000
    sapi_uid: int = 180_000
    window_ms: int = MINUTE_MS

    def of(self, pool: str) -> int:
        if pool.startswith(SAPI):
            return self.sapi_uid if pool.startswith("sapi-uid:") else self.sapi
        known: int = getattr(self, pool)
        return known


@dataclass(frozen=True, slots=True)
class Closure:
    """A pool into which nothing is sent until a time. Units: monotonic seconds."""

    until_mono: float
    status: int


# How long an egress that cannot connect is left alone: growing from the first to the last.
QUARANTINE_FIRST_S = 0.5
QUARANTINE_MAX_S = 30.0


@dataclass(slots=True)
class Quarantine:
    """An egress that could not connect: left alone until a time, with a growing pause."""

    until_mono: float = 0.0
    pause_s: float = 0.0
    failed_mono: float = 0.0

    def fail(self, sent_mono: float, mono: float) -> None:
        """A call sent at a time failed; one sent before the last failure tells nothing new."""
        if not self.pause_s or sent_mono >= self.failed_mono:
            self.failed_mono = mono
            self.pause_s = min(QUARANTINE_MAX_S, self.pause_s * 2 or QUARANTINE_FIRST_S)
            self.until_mono = mono + self.pause_s


@dataclass(slots=True)
class Egress:
    """The state of one egress.

    Shape: `problem` is "region" (451), "waf" (403) or "" and belongs to the market's last answer.
        `suspect` are the markets whose last call here was sent and got no answer, `down` those of
        them that did not answer a ping either. `whole` is set when the egress itself failed (its
        address, its proxy, the other gateway): it counts for every market and for streams too.
        `sharers` nodes use it, this one included.
    """

    spec: EgressSpec
    budgets: dict[str, Budget] = field(default_factory=dict)
    rolling: dict[str, RollingBudget] = field(default_factory=dict)
    closed: dict[str, Closure] = field(default_factory=dict)
    quarantine: dict[Market, Quarantine] = field(default_factory=dict)
    suspect: set[Market] = field(default_factory=set)
    down: set[Market] = field(default_factory=set)
    whole: Quarantine | None = None
    calls: dict[Market, int] = field(default_factory=dict)
    problems: dict[Market, str] = field(default_factory=dict)
    sharers: int = 1

    @property
    def name(self) -> str:
        return self.spec.name

    def is_quarantined(self, market: Market, mono: float) -> bool:
        quarantine = self.quarantine.get(market)
        return (
            (quarantine is not None and quarantine.until_mono > mono)
            or market in self.down
            or (self.whole is not None and self.whole.until_mono > mono)
        )

    def is_usable(self, market: Market, mono: float) -> bool:
        """Tell whether nothing speaks against it."""
        return market not in self.suspect and not self.is_quarantined(market, mono)

    def delay(self, market: Market, until_mono: float) -> bool:
        """Put off the next try of a market that is in quarantine; return whether it was."""
        quarantine = self.quarantine.get(market)
        if quarantine is not None:
            quarantine.until_mono = until_mono
        if self.whole is not None:
            self.whole.until_mono = until_mono
        return quarantine is not None or self.whole is not None

    def due_mono(self, market: Market) -> float:
        """Return when it may be tried again, 0 for at once."""
        quarantine = self.quarantine.get(market)
        return max(
            quarantine.until_mono if quarantine is not None else 0.0,
            self.whole.until_mono if self.whole is not None else 0.0,
        )

    def closure(self, pool: str, mono: float) -> Closure | None:
        """Return what keeps a pool closed now."""
        if not self.closed:
            return None
        worst: Closure | None = None
        for name in (pool, pool_group(pool)):
            found = self.closed.get(name)
            if found is None:
                continue
            if found.until_mono <= mono:
                del self.closed[name]
            elif worst is None or found.until_mono > worst.until_mono:
                worst = found
        return worst


class Grant:
    """Permission for one call: its egress and the weight reserved there.

    Shape: `own_window` is the window in which an own read was counted, None for a client's call;
        `client` the address a client's call was counted for; `is_trial` tells that it is the one
        call that tries whether a failed egress works again.
    """

    __slots__ = ("charge", "client", "egress", "is_trial", "market", "own_window", "reservation", "sent_mono")

    def __init__(
        self, egress: Egress, market: Market, charge: Charge, reservation: Reservation, sent_mono: float
    ) -> None:
        self.egress = egress
        self.market = market
        self.charge = charge
        self.reservation = reservation
        self.sent_mono = sent_mono
        self.own_window: int | None = None
        self.client = ""
        self.is_trial = False


def limit_text(market: Market, limit: int, window_ms: int = 60_000) -> str:
    """Say in Binance's words that the weight is used up, or the calls of a longer window.

    Source: spot errors.md of 2026-07-21 and docs/dev/binance-protocol.md, "Weights and limits".
    """
    minutes = max(1, round(window_ms / 60_000))
    if market is Market.SPOT:
        return (
            f"Too much request weight used; current limit is {limit} request weight per {minutes} MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
    return (
        f"Too many requests; current limit of IP is {limit} requests per "
        f"{'minute' if minutes == 1 else f'{minutes} minutes'}. "
        "Please use the websocket for live updates to avoid polling the API."
    )


def ban_text(market: Market, until_ms: int) -> str:
    """Say in Binance's words that a ban lasts. Units: epoch milliseconds."""
    if market is Market.SPOT:
        return (
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
    return (
        f"Way too many requests; IP banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans."
    )
