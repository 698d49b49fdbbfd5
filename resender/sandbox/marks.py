"""Mark and index prices, premiums, funding, open interest and the ratios of futures/data.

Pure: everything is a function of the symbol and the time, so that streams, REST and history
agree, and a row of the past never changes. Numbers have eight decimals, kept as integers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .decimals import fixed, signed
from .intervals import FIXED_MS, HOUR_MS
from .market import MarketStore
from .prices import mix
from .symbols import SymbolSpec

FUNDING_MS = 8 * HOUR_MS
_DIGITS = 8
_OPEN_INTEREST_MS = 3_000
PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")


class Mark(NamedTuple):
    """A symbol's mark at a second, written as on the wire; rates are empty for dated contracts."""

    mark: str
    average: str
    index_price: str
    settle: str
    funding_rate: str
    interest_rate: str
    next_funding_ms: int
    time_ms: int


def has_funding(spec: SymbolSpec) -> bool:
    """Tell whether a contract pays funding."""
    return spec.contract_type in ("PERPETUAL", "TRADIFI_PERPETUAL")


def shift(spec: SymbolSpec, kind: str) -> int:
    """Return by how much the mark ("mark") or index ("index") price lies above the last one.

    Units: in 10**-8 of the quote; some ticks and a part of one.
    """
    tick: int = 10 ** (_DIGITS - spec.price_decimals)
    offset = _code(spec, kind) % (20 * tick)
    return offset - 10 * tick


def premium(spec: SymbolSpec, price: int) -> int:
    """Return the premium index that goes with a price in ticks; it grows with the price."""
    return (price - spec.price_ticks) * 1_000_000 // spec.price_ticks


def mark_at(store: MarketStore, symbol: str, now_ms: int) -> Mark:
    """Return what markPrice streams and premiumIndex show; it changes once a second."""
    series = store.series[symbol]
    spec, path = series.spec, series.path
    second = now_ms // 1000 * 1000
    scale = 10 ** (_DIGITS - spec.price_decimals)
    price = path.price_at(second) * scale
    mark = price + shift(spec, "mark")
    index, before = _index(store, spec, second), _index(store, spec, second - 30_000)
    average = (mark + path.price_at(second - 30_000) * scale + shift(spec, "mark")) // 2
    settle = (index + before) // 2 + 1
    rate = interest = ""
    next_ms = 0
    if has_funding(spec):
        rate = signed(_estimate(spec, second), _DIGITS, _DIGITS)
        interest = fixed(10_000, _DIGITS, _DIGITS)
        next_ms = (second // FUNDING_MS + 1) * FUNDING_MS
    return Mark(_text(mark), _text(average), _text(index), _text(settle), rate, interest, next_ms, second)


def _index(store: MarketStore, spec: SymbolSpec, at_ms: int) -> int:
    # The contracts of a pair have one index.
    series = store.series[store.symbol_of_pair(spec.pair) or spec.symbol]
    scale: int = 10 ** (_DIGITS - series.spec.price_decimals)
    return series.path.price_at(at_ms) * scale + shift(series.spec, "index")


def _text(value: int) -> str:
    return fixed(value, _DIGITS, _DIGITS)


def _estimate(spec: SymbolSpec, at_ms: int) -> int:
    # Walks from the rate paid last to the one that will be paid.
    period, inside = divmod(at_ms, FUNDING_MS)
    paid, coming = _rate(spec, period), _rate(spec, period + 1)
    return paid + (coming - paid) * (inside // 60_000) // (FUNDING_MS // 60_000)


def _rate(spec: SymbolSpec, period: int) -> int:
    # What is paid at the begin of a period.
    return mix(_code(spec, "funding"), period) % 60_000 - 30_000


def funding_rows(
    store: MarketStore, names: list[str], limit: int, now_ms: int, start_ms: int | None, end_ms: int | None
) -> list[dict[str, Any]]:
    """Return rates paid, ascending: the oldest from `start_ms` on, else the newest up to `end_ms`."""
    specs = [store.series[name].spec for name in names if has_funding(store.series[name].spec)]
    last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
    found: list[dict[str, Any]] = []
    period = last_ms // FUNDING_MS if start_ms is None else max(0, start_ms // FUNDING_MS)
    step = -1 if start_ms is None else 1
    while specs and len(found) < limit and 0 <= period * FUNDING_MS <= last_ms:
        rows = [_funding_row(store, spec, period) for spec in specs]
        rows = [
            row
            for row, spec in zip(rows, specs, strict=True)
            if row["fundingTime"] <= last_ms and row["fundingTime"] >= max(spec.listed_ms, start_ms or 0)
        ]
        if not rows and step < 0 and period * FUNDING_MS < min(spec.listed_ms for spec in specs):
            break
        found = found + rows if step > 0 else rows + found
        period += step
    return found[:limit] if start_ms is not None else found[-limit:]


def _funding_row(store: MarketStore, spec: SymbolSpec, period: int) -> dict[str, Any]:
    paid_ms = period * FUNDING_MS
    noise = mix(_code(spec, "paid"), period)
    return {
        "symbol": spec.symbol,
        "fundingRate": signed(_rate(spec, period), _DIGITS, _DIGITS),
        # A few milliseconds late now and then, as on the exchange.
        "fundingTime": paid_ms + (noise >> 8) % 12 * (noise % 3 == 0),
        "markPrice": mark_at(store, spec.symbol, paid_ms).mark,
    }


def funding_info(store: MarketStore) -> list[dict[str, Any]]:
    """Return the contracts whose funding was adjusted: a few."""
    return [
        {
            "symbol": spec.symbol,
            "adjustedFundingRateCap": "0.02500000",
            "adjustedFundingRateFloor": "-0.02500000",
            "fundingIntervalHours": FUNDING_MS // HOUR_MS,
            "disclaimer": False,
            "updateTime": spec.listed_ms,
        }
        for spec in store.symbols
        if has_funding(spec) and _code(spec, "info") % 3 == 0
    ]


def open_interest(store: MarketStore, symbol: str, now_ms: int) -> dict[str, Any]:
    """Return the open interest; it changes every three seconds."""
    spec = store.series[symbol].spec
    at_ms = now_ms // _OPEN_INTEREST_MS * _OPEN_INTEREST_MS
    amount = fixed(_open_contracts(spec, at_ms), spec.qty_decimals, spec.qty_decimals)
    if spec.contract_size:
        return {
            "symbol": symbol, "pair": spec.pair, "openInterest": amount,
            "contractType": spec.contract_type, "time": at_ms,
        }  # fmt: skip
    return {"openInterest": amount, "symbol": symbol, "time": at_ms}


def _open_contracts(spec: SymbolSpec, at_ms: int) -> int:
    lots: int = 10**spec.qty_decimals
    return (10_000 + mix(_code(spec, "open"), at_ms) % 500) * lots + mix(at_ms, 3) % max(1, lots)


def data_rows(
    store: MarketStore,
    spec: SymbolSpec,
    name: str,
    head: dict[str, Any],
    period: str,
    limit: int,
    now_ms: int,
    start_ms: int | None,
    end_ms: int | None,
) -> list[dict[str, Any]]:
    """Return rows of /futures/data, ascending, the newest of the range.

    Shape: one row for each period that is over, by the moment it was over; `head` comes first.
    """
    step = FIXED_MS[period]
    last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
    found = []
    for at_ms in _back(last_ms // step * step, step, max(spec.listed_ms, start_ms or 0)):
        found.append(head | _data_row(store, spec, name, at_ms) | {"timestamp": at_ms})
        if len(found) >= limit:
            break
    return found[::-1]


def _back(at_ms: int, step: int, first_ms: int) -> Iterator[int]:
    while at_ms >= first_ms:
        yield at_ms
        at_ms -= step


def _data_row(store: MarketStore, spec: SymbolSpec, name: str, at_ms: int) -> dict[str, Any]:
    noise = mix(_code(spec, name), at_ms)
    part = 3_000 + noise % 4_000  # of ten thousand
    mark = mark_at(store, spec.symbol, at_ms)
    if name == "openInterestHist":
        contracts = _open_contracts(spec, at_ms)
        amount = fixed(contracts, spec.qty_decimals, _DIGITS)
        value = contracts * int(mark.mark.replace(".", ""))
        return {
            "sumOpenInterest": amount,
            "sumOpenInterestValue": fixed(value, spec.qty_decimals + _DIGITS, _DIGITS),
        }
    if name == "basis":
        index, price = int(mark.index_price.replace(".", "")), int(mark.mark.replace(".", ""))
        return {
            "indexPrice": mark.index_price,
            "contractType": spec.contract_type,
            "basisRate": signed((price - index) * 10_000 // index, 4, 4),
            "futuresPrice": mark.mark,
            "annualizedBasisRate": "",
            "basis": signed(price - index, _DIGITS, _DIGITS),
            "pair": spec.pair,
        }
    if name == "takerlongshortRatio":
        return {
            "buySellRatio": fixed(part * 10_000 // (10_000 - part), 4, 4),
            "buyVol": fixed(part * 37, 4, 4),
            "sellVol": fixed((10_000 - part) * 37, 4, 4),
        }
    if name == "takerBuySellVol":
        return {
            "contractType": spec.contract_type,
            "takerBuyVol": str(part),
            "takerSellVol": str(10_000 - part),
            "takerBuyVolValue": fixed(part * 37, 4, _DIGITS),
            "takerSellVolValue": fixed((10_000 - part) * 37, 4, _DIGITS),
        }
    what = "Position" if name == "topLongShortPositionRatio" and spec.contract_size else "Account"
    return {
        "longShortRatio": fixed(part * 10_000 // (10_000 - part), 4, 4),
        f"long{what}": fixed(part, 4, 4),
        f"short{what}": fixed(10_000 - part, 4, 4),
    }


def _code(spec: SymbolSpec, kind: str) -> int:
    return mix(zlib.crc32(f"{spec.market.value}:{spec.symbol}:{kind}".encode()))
