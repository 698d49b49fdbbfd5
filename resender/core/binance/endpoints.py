"""The REST paths the gateway itself knows the meaning of, each named once."""

from __future__ import annotations

from resender.core.binance.markets import Market

KLINES: dict[Market, str] = {
    Market.SPOT: "/api/v3/klines",
    Market.UM: "/fapi/v1/klines",
    Market.CM: "/dapi/v1/klines",
}
CONTINUOUS_KLINES: dict[Market, str] = {
    Market.UM: "/fapi/v1/continuousKlines",
    Market.CM: "/dapi/v1/continuousKlines",
}
# Candles of which only closed rows are kept, by the last part of their path.
ENDED_KLINES: dict[Market, dict[str, str]] = {
    Market.SPOT: {"uiKlines": "/api/v3/uiKlines"},
    **{
        market: {
            name: f"/{host}/v1/{name}"
            for name in ("indexPriceKlines", "markPriceKlines", "premiumIndexKlines")
        }
        for market, host in ((Market.UM, "fapi"), (Market.CM, "dapi"))
    },
}
FUNDING_RATES: dict[Market, str] = {
    Market.UM: "/fapi/v1/fundingRate",
    Market.CM: "/dapi/v1/fundingRate",
}
# By the last part of their path. Both markets have the same paths, with other parameters; those of COIN-M stand
# here behind its prefix.
STATISTICS: dict[Market, dict[str, str]] = {
    Market.CM: {
        name: f"/dapi/futures/data/{name}"
        for name in (
            "openInterestHist",
            "topLongShortAccountRatio",
            "topLongShortPositionRatio",
            "globalLongShortAccountRatio",
            "takerBuySellVol",
            "basis",
        )
    },
    Market.UM: {
        name: f"/futures/data/{name}"
        for name in (
            "openInterestHist",
            "topLongShortAccountRatio",
            "topLongShortPositionRatio",
            "globalLongShortAccountRatio",
            "takerlongshortRatio",
            "basis",
        )
    },
}
BOOK_TICKERS: dict[Market, str] = {
    Market.SPOT: "/api/v3/ticker/bookTicker",
    Market.UM: "/fapi/v1/ticker/bookTicker",
    Market.CM: "/dapi/v1/ticker/bookTicker",
}
DEPTH: dict[Market, str] = {
    Market.SPOT: "/api/v3/depth",
    Market.UM: "/fapi/v1/depth",
    Market.CM: "/dapi/v1/depth",
}
AGG_TRADES: dict[Market, str] = {
    Market.SPOT: "/api/v3/aggTrades",
    Market.UM: "/fapi/v1/aggTrades",
    Market.CM: "/dapi/v1/aggTrades",
}
TRADES: dict[Market, str] = {Market.SPOT: "/api/v3/trades"}
PRICES: dict[Market, str] = {Market.SPOT: "/api/v3/ticker/price"}
DAY_TICKERS: dict[Market, str] = {
    Market.SPOT: "/api/v3/ticker/24hr",
    Market.UM: "/fapi/v1/ticker/24hr",
    Market.CM: "/dapi/v1/ticker/24hr",
}
PREMIUM_INDEX: dict[Market, str] = {
    Market.UM: "/fapi/v1/premiumIndex",
    Market.CM: "/dapi/v1/premiumIndex",
}
EXCHANGE_INFO: dict[Market, str] = {
    # Without permission sets and halted symbols the answer is a fraction of its size.
    Market.SPOT: "/api/v3/exchangeInfo?showPermissionSets=false&symbolStatus=TRADING",
    Market.UM: "/fapi/v1/exchangeInfo",
    Market.CM: "/dapi/v1/exchangeInfo",
}
# The cheapest that tells the weight limit, for each pool that has one.
LIMITS: dict[str, tuple[tuple[Market, str], ...]] = {
    "spot": ((Market.SPOT, "/api/v3/exchangeInfo?symbol=BTCUSDT"),),
    "futures": ((Market.UM, "/fapi/v1/exchangeInfo"), (Market.CM, "/dapi/v1/exchangeInfo")),
    "options": ((Market.OPTIONS, "/eapi/v1/exchangeInfo"),),
}
