"""Paths on which Binance takes a call only with a good signature: an accepted one shows whose key it is.

Where a path is public Binance ignores the signature, so a good answer there proves nothing. Pure tables.
Source: rest-api.md of 2026-07-21; binance-connector-python of 2026-08-21.
"""

from __future__ import annotations

import re

from resender.core.account.calls import READS, Change, change_of
from resender.core.binance.markets import Market

_MORE: dict[Market, re.Pattern[str]] = {
    Market.SPOT: re.compile(
        r"/api/v3/(?:allOrders|allOrderList|myTrades|myPreventedMatches|myAllocations|orderList|openOrderList"
        r"|account/commission|rateLimit/order|order/amendments)"
        r"|/sapi/v1/(?:account/[A-Za-z]+|margin/(?:openOrders|order|account|allOrders|myTrades))"
    ),
    Market.UM: re.compile(
        r"/fapi/v[123]/(?:account|balance|positionRisk|allOrders|userTrades|income|forceOrders|commissionRate"
        r"|accountConfig|symbolConfig|allAlgoOrders|leverageBracket|multiAssetsMargin|rateLimit/order)"
        r"|/fapi/v1/positionSide/dual"
    ),
    Market.CM: re.compile(
        r"/dapi/v1/(?:account|balance|positionRisk|allOrders|userTrades|income|forceOrders|commissionRate)"
        r"|/dapi/v1/positionSide/dual"
    ),
    Market.PM: re.compile(
        r"/papi/v1/(?:account|balance|(?:um|cm|margin)/(?:openOrders?|order|allOrders|account))"
    ),
}
_NOT_CERTAIN = frozenset({Change.NOTHING, Change.UNKNOWN, Change.BALANCES})


def is_signed_path(market: Market, method: str, path: str) -> bool:
    """Tell whether Binance checks the signature of such calls."""
    if method in ("GET", "HEAD"):
        if (market, path) in READS:
            return True
        more = _MORE.get(market)
        return more is not None and more.fullmatch(path) is not None
    return change_of(market, method, path) not in _NOT_CERTAIN
