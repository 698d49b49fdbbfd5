"""Reads of kline rows by REST, and which candles they are."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson

from resender.core.binance.endpoints import KLINES
from resender.core.market.candles import Candle, parse_rows
from resender.core.market.kept_json import kept_json
from resender.market.reader import Reader, ReadFailed
from resender.market.series import KeptEnded, KeptKlines
from resender.turns import next_turn

# A third of a millisecond.
_AT_ONCE = 64


def kline_target(kept: KeptKlines | KeptEnded, limit: int, end_ms: int | None = None) -> str:
    """Return the target that reads the latest rows of a series, or the latest up to a time."""
    begin = kept.target or f"{KLINES[kept.market]}?symbol={quote(kept.symbol, safe='')}"
    target = f"{begin}&interval={kept.interval}&limit={limit}"
    return target if end_ms is None else f"{target}&endTime={end_ms}"


async def read_klines(
    reader: Reader, kept: KeptKlines, target: str, made_ms: int, permit: Any = None
) -> list[Candle]:
    """Read rows of a series.

    Units: `made_ms` a time before which the exchange cannot have made the answer.
    Raises: ReadFailed.
    """
    body = await reader.get(target, permit)
    candles: list[Candle] = []
    try:
        rows = orjson.loads(body)
        if not isinstance(rows, list):
            raise ValueError("the klines are not a list")
        for first in range(0, len(rows), _AT_ONCE):
            if first:
                await next_turn()  # other work gets its turn
            part = parse_rows(rows[first : first + _AT_ONCE], kept.interval, kept_json, made_ms=made_ms)
            if candles and part[0].open_time <= candles[-1].close_time:
                raise ValueError("kline rows out of order or of another interval")
            candles += part
    except ValueError as error:
        raise ReadFailed(str(error)) from None
    return candles
