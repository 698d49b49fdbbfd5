"""The list of things traded on the simulated exchange.

Builds symbol descriptions; prices come from `prices.py`. It holds no state: the specs
it returns are owned by the market store.
"""

from __future__ import annotations

import datetime as dt
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from resender.core.binance.markets import Market

from .intervals import DAY_MS, HOUR_MS

FAR_DELIVERY_MS = 4_133_404_800_000

# base asset: (price in USD, spot price decimals, spot quantity decimals,
#              UM price decimals, UM quantity decimals)
_MAJORS: dict[str, tuple[float, int, int, int, int]] = {
    "BTC": (90_000, 2, 5, 1, 3),
    "ETH": (3_000, 2, 4, 2, 3),
    "BNB": (800, 2, 3, 2, 2),
    "SOL": (150, 2, 3, 3, 1),
    "XRP": (2.2, 4, 1, 4, 1),
    "DOGE": (0.2, 5, 0, 5, 0),
    "ADA": (0.8, 4, 1, 5, 0),
    "TRX": (0.3, 5, 1, 5, 0),
    "AVAX": (25, 3, 2, 3, 1),
    "LINK": (18, 3, 2, 3, 1),
    "DOT": (5, 4, 2, 4, 1),
    "LTC": (110, 2, 3, 2, 3),
    "BCH": (500, 2, 3, 2, 3),
    "ETC": (22, 3, 2, 3, 1),
    "UNI": (9, 3, 2, 4, 1),
    "ATOM": (5, 4, 2, 4, 1),
    "NEAR": (3, 4, 1, 4, 1),
    "APT": (6, 4, 2, 4, 1),
    "ARB": (0.6, 5, 1, 5, 1),
    "OP": (1.1, 4, 2, 5, 1),
    "SUI": (3.5, 4, 1, 5, 1),
    "FIL": (3, 4, 2, 4, 1),
    "AAVE": (280, 2, 3, 2, 1),
    "INJ": (14, 3, 2, 4, 1),
    "TON": (3.2, 4, 2, 5, 1),
    "XLM": (0.4, 5, 0, 5, 0),
    "HBAR": (0.25, 5, 0, 5, 0),
    "ICP": (6, 4, 2, 4, 0),
    "NKN": (0.09, 6, 0, 6, 0),
    "CTK": (0.5, 5, 1, 5, 0),
}
# Contracts on shares and metals, USD-M only: (price in USD, price decimals, quantity decimals).
_TRADITIONAL = {"TSLA": (420.0, 2, 2), "XAU": (4_100.0, 2, 3)}
_QUIET_BASES = {"NKN", "CTK"}
_OLD_BASES = {"BTC", "ETH", "BNB", "XRP", "ADA", "LTC", "ETC", "LINK", "TRX"}
# Listed in 2026 with a name outside ASCII; the gateway must carry such names unharmed.
NON_ASCII_SYMBOL = "币安人生USDT"
_SPOT_CROSSES = ("ETHBTC", "BNBBTC", "BTCUSDC", "ETHUSDC")
_CM_BASES = ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "LINK", "DOT", "LTC", "ETC")
_QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "USD")
DEFAULT_EXTRA = 8


@dataclass(slots=True)
class SymbolSpec:
    """One symbol or contract.

    Shape: `price_ticks` is the long-run price in ticks of `10**-price_decimals`;
        `status` is the only field that changes while the exchange runs.
    """

    market: Market
    symbol: str
    base: str
    quote: str
    price_decimals: int
    qty_decimals: int
    price_ticks: int
    listed_ms: int
    quiet: bool = False
    pair: str = ""
    contract_type: str = ""
    contract_size: int = 0
    delivery_ms: int = FAR_DELIVERY_MS
    status: str = "TRADING"


def build_symbols(
    market: Market,
    wanted: int | Sequence[str] | None,
    now_ms: int,
    quiet: Sequence[str] = (),
    listings: dict[str, int] | None = None,
) -> list[SymbolSpec]:
    """Return the symbols of a market: the default ones, the first `wanted`, or the named ones."""
    names = _default_names(market, now_ms)
    if isinstance(wanted, int):
        number = 0
        while len(names) < wanted:
            number += 1
            names.append(_generated_name(market, number))
        names = names[:wanted]
    elif wanted is not None:
        names = list(dict.fromkeys(wanted))
    else:
        names += [_generated_name(market, number) for number in range(1, DEFAULT_EXTRA + 1)]
    return [make_spec(market, name, now_ms, quiet, listings or {}) for name in names]


def make_spec(
    market: Market,
    name: str,
    now_ms: int,
    quiet: Sequence[str] = (),
    listings: dict[str, int] | None = None,
) -> SymbolSpec:
    """Describe one symbol by its name, realistic for known assets and plausible for others."""
    pair, _, suffix = name.partition("_")
    base, quote = _split(pair)
    price = _price_of(base) / (_price_of(quote) if quote in ("BTC", "ETH", "BNB") else 1.0)
    major = _MAJORS.get(base)
    if base in _TRADITIONAL:
        price_decimals, qty_decimals = _TRADITIONAL[base][1:]
    elif major and quote not in ("BTC", "ETH", "BNB"):
        price_decimals, qty_decimals = (major[1], major[2]) if market is Market.SPOT else (major[3], major[4])
    else:
        price_decimals = min(8, max(1, 4 - math.floor(math.log10(price))))
        qty_decimals = max(0, min(8 - price_decimals, 3 if price > 50 else 1))
        if market is Market.SPOT and quote in ("BTC", "ETH", "BNB"):
            qty_decimals = 4  # price times quantity has more decimals than are shown, as on the exchange
    digest = zlib.crc32(name.encode())
    listed = (listings or {}).get(name)
    if listed is None:
        # 2017-08-17, or some day from 2020 to 2024.
        first_day = 17_395 if base in _OLD_BASES and market is Market.SPOT else 18_262 + digest % 1_700
        listed = first_day * DAY_MS + 4 * HOUR_MS
    is_generated = base.startswith("SIM")
    spec = SymbolSpec(
        market=market,
        symbol=name,
        base=base,
        quote=quote,
        price_decimals=price_decimals,
        qty_decimals=qty_decimals,
        price_ticks=max(5_000, round(price * 10**price_decimals)),
        listed_ms=listed,
        quiet=name in quiet or base in _QUIET_BASES or (is_generated and base.endswith("0")),
        pair=pair,
    )
    if market is not Market.SPOT:
        is_traditional = base in _TRADITIONAL or (
            is_generated and base[3:].isdigit() and int(base[3:]) % 4 == 1
        )
        spec.contract_type = "TRADIFI_PERPETUAL" if market is Market.UM and is_traditional else "PERPETUAL"
        if suffix.isdigit():
            delivery = dt.datetime.strptime(suffix, "%y%m%d").replace(hour=8, tzinfo=dt.timezone.utc)
            spec.delivery_ms = int(delivery.timestamp() * 1000)
            spec.contract_type = "CURRENT_QUARTER" if suffix == quarter_codes(now_ms)[0] else "NEXT_QUARTER"
            spec.listed_ms = (listings or {}).get(name, spec.delivery_ms - 182 * DAY_MS)
    if market is Market.CM:
        spec.qty_decimals = 0
        spec.contract_size = 100 if base == "BTC" else 10
    return spec


def quarter_codes(now_ms: int) -> tuple[str, str]:
    """Return the `yymmdd` codes of the current and the next quarterly contract."""
    codes: list[str] = []
    moment = dt.datetime.fromtimestamp(now_ms / 1000, dt.timezone.utc)
    year, month = moment.year, (moment.month - 1) // 3 * 3 + 3
    while len(codes) < 2:
        day = dt.datetime(year + month // 12, month % 12 + 1, 1, 8, tzinfo=dt.timezone.utc)
        day -= dt.timedelta(days=1)
        while day.weekday() != 4:
            day -= dt.timedelta(days=1)
        if day > moment:
            codes.append(day.strftime("%y%m%d"))
        month += 3
        if month > 12:
            year, month = year + 1, 3
    return codes[0], codes[1]


def _default_names(market: Market, now_ms: int) -> list[str]:
    current, following = quarter_codes(now_ms)
    if market is Market.SPOT:
        return [f"{base}USDT" for base in _MAJORS] + list(_SPOT_CROSSES)
    if market is Market.UM:
        perpetual = [f"{base}USDT" for base in _MAJORS]
        dated = [f"{base}USDT_{code}" for base in ("BTC", "ETH") for code in (current, following)]
        traditional = [f"{base}USDT" for base in _TRADITIONAL]
        return [*perpetual[:6], NON_ASCII_SYMBOL, *perpetual[6:], "BTCUSDC", *traditional, *dated]
    if market is Market.CM:
        perpetual = [f"{base}USD_PERP" for base in _CM_BASES]
        dated = [f"{base}USD_{code}" for base in ("BTC", "ETH") for code in (current, following)]
        return [*perpetual[:2], *dated, *perpetual[2:]]
    return []


def _generated_name(market: Market, number: int) -> str:
    suffix = "USD_PERP" if market is Market.CM else "USDT"
    return f"SIM{number:03d}{suffix}"


def _split(pair: str) -> tuple[str, str]:
    for quote in _QUOTES:
        if pair.endswith(quote) and len(pair) > len(quote):
            return pair[: -len(quote)], quote
    return pair, "USDT"


def _price_of(asset: str) -> float:
    if asset in _MAJORS:
        return _MAJORS[asset][0]
    if asset in _TRADITIONAL:
        return _TRADITIONAL[asset][0]
    return 0.2 + zlib.crc32(asset.encode()) % 5_000 / 100
