"""The endpoints below `/local/` beside klines and bookTicker: which there are, and what a call of each means.

Pure reading of calls; `local.py` asks the cache and writes the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resender.core.binance.endpoints import (
    AGG_TRADES,
    DAY_TICKERS,
    DEPTH,
    FUNDING_RATES,
    PREMIUM_INDEX,
    PRICES,
    TRADES,
)
from resender.core.binance.markets import Market
from resender.core.market import levels, words
from resender.core.market.requests import (
    DEFAULT_LIMIT,
    MAX_FUNDING_ROWS,
    MAX_TRADES,
    DepthRequest,
    FundingRequest,
    SymbolsRequest,
    TradesRequest,
)
from resender.errors import BadRequest

_DEFAULT_DEPTH = 20
_DEFAULT_FUNDING = 100
_DEFAULT_MAX_AGE_MS = 10_000
_MAX_AGE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class LocalKind:
    """One endpoint.

    Shape: `paths` are the REST paths whose answers it gives, by market; `words` what has to be kept for it.
        With `is_object` several symbols come as an object of symbol to answer, else as a list of rows.
        `read(market, params)` takes its own parameters out of `params` and returns what makes a request for
        one symbol.
    """

    paths: dict[Market, str]
    words: tuple[str, ...]
    is_object: bool
    read: Callable[[Market, dict[str, str]], Callable[[str], Any]]
    takes_age: bool = False


def _number(params: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = params.pop(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise BadRequest(f"`{name}` must be a whole number from {least} to {most}.")
    return int(text)


def _depth(market: Market, params: dict[str, str]) -> Callable[[str], DepthRequest]:
    limit = _number(params, "limit", _DEFAULT_DEPTH, 1, levels.MAX_LIMIT[market])
    return lambda symbol: DepthRequest(market, symbol, limit)


def _trades(market: Market, params: dict[str, str]) -> Callable[[str], TradesRequest]:
    limit = _number(params, "limit", DEFAULT_LIMIT, 1, MAX_TRADES)
    return lambda symbol: TradesRequest(market, symbol, limit)


def _funding(market: Market, params: dict[str, str]) -> Callable[[str], FundingRequest]:
    limit = _number(params, "limit", _DEFAULT_FUNDING, 1, MAX_FUNDING_ROWS)
    return lambda symbol: FundingRequest(market, symbol, limit)


def _row(market: Market, params: dict[str, str]) -> Callable[[str], SymbolsRequest]:
    return lambda symbol: SymbolsRequest(market, (symbol,), False, is_local=True)


LOCAL_KINDS: dict[str, LocalKind] = {
    "depth": LocalKind(DEPTH, (words.PARTIAL_BOOK, words.BOOK), True, _depth),
    "aggTrades": LocalKind(AGG_TRADES, (words.AGG_TRADES,), True, _trades),
    # Of futures there are aggregated ones only.
    "trades": LocalKind({**AGG_TRADES, **TRADES}, (words.TRADES, words.AGG_TRADES), True, _trades),
    "fundingRate": LocalKind(FUNDING_RATES, (words.FUNDING,), True, _funding),
    # Of futures the last aggregated trade tells it.
    "price": LocalKind({**AGG_TRADES, **PRICES}, (words.TRADES, words.AGG_TRADES), False, _row),
    "ticker": LocalKind(DAY_TICKERS, (words.DAY_TICKER,), False, _row, takes_age=True),
    "premiumIndex": LocalKind(PREMIUM_INDEX, (words.MARK_PRICE,), False, _row, takes_age=True),
}


def read_max_age(params: dict[str, str]) -> int:
    """Take `maxAge` out of the parameters: how old a value may be. Units: milliseconds."""
    return _number(params, "maxAge", _DEFAULT_MAX_AGE_MS, 1, _MAX_AGE_MS)
