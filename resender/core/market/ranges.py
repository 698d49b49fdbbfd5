"""Which rows of a kline series a call means: by its times and the rule of its market. Pure."""

from __future__ import annotations

from resender.core.binance.markets import Market
from resender.core.market.requests import KlineRequest
from resender.core.market.spans import Selection, Span

# COIN-M answers with the latest rows of at most 200 days.
# Source: binance-connector-python (cm) of 2026-08-21, market_data_api.py.
_CM_WINDOW_MS = 200 * 86_400_000


def select(series: Selection, request: KlineRequest, now_ms: int) -> Span | None:
    """Choose the rows, None if some of them are not held. Units: `now_ms` exchange milliseconds."""
    start, end, limit = request.start_ms, request.end_ms, request.limit
    if start is None and end is None:
        return series.latest(limit)
    if start is not None and start > now_ms:
        return None
    if request.market is Market.CM:
        if start is not None and end is not None and end - start > _CM_WINDOW_MS:
            return None
        upper = end if end is not None else (start or 0) + _CM_WINDOW_MS
        lower = start if start is not None else upper - _CM_WINDOW_MS
        return series.latest_until(lower, upper, limit)
    if start is None:
        return series.latest_until(None, end or 0, limit)
    return series.first_from(start, end, limit)
