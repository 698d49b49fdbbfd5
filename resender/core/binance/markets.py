"""The product lines of Binance and the facts about their addresses.

It is a table of constants, not a client. It holds no state. It is the one module
the sandbox exchange shares with the gateway.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Market(str, enum.Enum):
    """A product line. The value is the word used in logs, metrics, settings and docs."""

    SPOT = "spot"
    UM = "um"
    CM = "cm"
    OPTIONS = "options"
    PM = "pm"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """What is fixed about one market.

    Shape: `prefix` is the first path segment of the prefix form ("fapi" in
        `/fapi/fapi/v1/time`); `roots` are the first segments of that host's own
        paths; `ping_path` and `time_path` are its cheapest calls (`time_path` is
        empty where the market has none).
    Source: spot rest-api.md of 2026-07-21; binance-connector-python of 2026-08-21.
    """

    market: Market
    prefix: str
    roots: tuple[str, ...]
    rest_setting: str
    rest_default: str
    ping_path: str
    time_path: str


MARKETS: tuple[MarketFacts, ...] = (
    # sapi (wallet, margin, sub-account, ...) lives on the spot host.
    MarketFacts(
        Market.SPOT,
        "api",
        ("api", "sapi"),
        "UPSTREAM_API",
        "https://api.binance.com",
        "/api/v3/ping",
        "/api/v3/time",
    ),
    # /futures/data/* (open interest history, long/short ratios) exists on both futures
    # hosts with different parameters; only the prefix tells them apart.
    MarketFacts(
        Market.UM,
        "fapi",
        ("fapi", "futures"),
        "UPSTREAM_FAPI",
        "https://fapi.binance.com",
        "/fapi/v1/ping",
        "/fapi/v1/time",
    ),
    MarketFacts(
        Market.CM,
        "dapi",
        ("dapi", "futures"),
        "UPSTREAM_DAPI",
        "https://dapi.binance.com",
        "/dapi/v1/ping",
        "/dapi/v1/time",
    ),
    MarketFacts(
        Market.OPTIONS,
        "eapi",
        ("eapi",),
        "UPSTREAM_EAPI",
        "https://eapi.binance.com",
        "/eapi/v1/ping",
        "/eapi/v1/time",
    ),
    # Portfolio margin has no market data and no clock of its own.
    MarketFacts(
        Market.PM,
        "papi",
        ("papi",),
        "UPSTREAM_PAPI",
        "https://papi.binance.com",
        "/papi/v1/ping",
        "",
    ),
)

BY_MARKET: dict[Market, MarketFacts] = {facts.market: facts for facts in MARKETS}
BY_PREFIX: dict[str, MarketFacts] = {facts.prefix: facts for facts in MARKETS}

# Binance's own host names of REST, as clients may write them into a path behind the gateway. All names of
# a market go to its one upstream. Source: spot rest-api.md and faqs of 2026-07-21.
REST_NAMES: dict[str, Market] = {
    **dict.fromkeys(
        (
            "api.binance.com", "api1.binance.com", "api2.binance.com", "api3.binance.com",
            "api4.binance.com", "api-gcp.binance.com", "data-api.binance.vision",
        ),
        Market.SPOT,
    ),
    "fapi.binance.com": Market.UM,
    "dapi.binance.com": Market.CM,
    "eapi.binance.com": Market.OPTIONS,
    "papi.binance.com": Market.PM,
}  # fmt: skip

# Source: spot web-socket-streams.md of 2026-07-21; the USD-M split into paths is Binance's
# notice of 2026-03-06: unrouted URLs still connect after 2026-04-23 but deliver no klines.
STREAM_HOSTS: dict[Market, str] = {
    Market.SPOT: "wss://stream.binance.com:9443",
    Market.UM: "wss://fstream.binance.com",
    Market.CM: "wss://dstream.binance.com",
}
_STREAMS = ("kline", "bookTicker", "miniTicker", "depth", "aggTrade", "trade", "ticker", "markPrice")
STREAM_PATHS: dict[Market, dict[str, str]] = {
    Market.SPOT: dict.fromkeys(_STREAMS[:-1], ""),  # there is no mark price
    Market.UM: {**dict.fromkeys(_STREAMS, "/market"), "bookTicker": "/public", "depth": "/public"},
    Market.CM: dict.fromkeys(_STREAMS, ""),
}
# Whose user data alone comes over this host: the risk stream of margin accounts.
STREAM_MARGIN = "wss://margin-stream.binance.com"
WS_API_HOSTS: dict[Market, str] = {
    Market.SPOT: "wss://ws-api.binance.com:443",
    Market.UM: "wss://ws-fapi.binance.com",
    Market.CM: "wss://ws-dapi.binance.com",
}
WS_API_PATHS: dict[Market, str] = {
    Market.SPOT: "/ws-api/v3",
    Market.UM: "/ws-fapi/v1",
    Market.CM: "/ws-dapi/v1",
}
# Binance's own host names of WebSockets, as `REST_NAMES`. Options moved to the USD-M host in 2026; their old
# name is served from there. Source: spot web-socket-streams.md of 2026-07-21; derivatives SDKs of 2026-08-21.
STREAM_NAMES: dict[str, Market] = {
    "stream.binance.com": Market.SPOT,
    "data-stream.binance.vision": Market.SPOT,
    "fstream.binance.com": Market.UM,
    "dstream.binance.com": Market.CM,
    "nbstream.binance.com": Market.OPTIONS,
}
MARGIN_STREAM_NAME = "margin-stream.binance.com"
WS_API_NAMES: dict[str, Market] = {
    "ws-api.binance.com": Market.SPOT,
    "ws-fapi.binance.com": Market.UM,
    "ws-dapi.binance.com": Market.CM,
}

SPOT_INTERVALS: tuple[str, ...] = (
    "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M",
)  # fmt: skip
# 1s exists on spot only; case matters (1m is a minute, 1M a month).
INTERVALS: dict[Market, tuple[str, ...]] = {
    Market.SPOT: SPOT_INTERVALS,
    Market.UM: SPOT_INTERVALS[1:],
    Market.CM: SPOT_INTERVALS[1:],
}
