"""How old an answer may be that nothing can prove: by the setting, or by the client's own word.

Pure. Without consent these paths are forwarded; a client's `Cache-Control: max-age` counts before the setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from resender.core.binance.markets import Market

# What may be answered so, by the end of its path; each market has those its own table names.
_ENDINGS: dict[str, dict[Market, tuple[str, ...]]] = {
    "ticker/24hr": {
        Market.SPOT: ("/api/v3/ticker/24hr",),
        Market.UM: ("/fapi/v1/ticker/24hr",),
        Market.CM: ("/dapi/v1/ticker/24hr",),
    },
    "ticker/price": {
        Market.SPOT: ("/api/v3/ticker/price",),
        Market.UM: ("/fapi/v1/ticker/price", "/fapi/v2/ticker/price"),
        Market.CM: ("/dapi/v1/ticker/price",),
    },
    "premiumIndex": {Market.UM: ("/fapi/v1/premiumIndex",), Market.CM: ("/dapi/v1/premiumIndex",)},
    "avgPrice": {Market.SPOT: ("/api/v3/avgPrice",)},
    "openInterest": {Market.UM: ("/fapi/v1/openInterest",), Market.CM: ("/dapi/v1/openInterest",)},
    "exchangeInfo": {
        Market.SPOT: ("/api/v3/exchangeInfo",),
        Market.UM: ("/fapi/v1/exchangeInfo",),
        Market.CM: ("/dapi/v1/exchangeInfo",),
    },
    "fundingInfo": {Market.UM: ("/fapi/v1/fundingInfo",), Market.CM: ("/dapi/v1/fundingInfo",)},
}
NAMES: tuple[str, ...] = tuple(_ENDINGS)
PATHS: dict[str, tuple[Market, str]] = {
    path: (market, name)
    for name, by_market in _ENDINGS.items()
    for market, paths in by_market.items()
    for path in paths
}
MAX_AGE_MS = 24 * 3600 * 1000
_WHOLE = re.compile(r"[0-9]{1,8}")
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]+)(?![0-9.])")


def parse_consent(items: Iterable[str]) -> dict[str, int]:
    """Read the setting CONSENT_MAX_AGE_MS.

    Shape: `ticker/24hr=2000`, `um:premiumIndex=1000`; the result is by path. Units: milliseconds.
    Raises: ValueError with words for people.
    """
    found: dict[str, int] = {}
    for item in items:
        where, mark, text = item.partition("=")
        market, colon, name = where.strip().rpartition(":")
        name, market = name.strip(), market.strip().lower()
        if name not in _ENDINGS:
            raise ValueError(f"{name[:40]!r} cannot be named here; there are {', '.join(NAMES)}")
        if not mark or not _WHOLE.fullmatch(text.strip()) or not 0 < int(text) <= MAX_AGE_MS:
            raise ValueError(
                f"{item[:60]!r} does not say how many milliseconds, from 1 to {MAX_AGE_MS}: {name}=1000"
            )
        served = {each.value: paths for each, paths in _ENDINGS[name].items()}
        if colon and market not in served:
            raise ValueError(f"{name} is a path of {', '.join(served)}, not of {market[:20]!r}")
        for each, paths in served.items():
            if not colon or market == each:
                found.update(dict.fromkeys(paths, int(text)))
    return found


def max_age_ms(path: str, headers: Iterable[tuple[str, str]], by_path: Mapping[str, int]) -> int | None:
    """Return how old an answer on a path may be, None where nobody consents to any age.

    Units: milliseconds.
    """
    if path not in PATHS:
        return None
    lines = [value.lower() for name, value in headers if name.lower() == "cache-control"]
    if any("no-cache" in line or "no-store" in line for line in lines):
        return None
    said = [int(found[1][:12]) for line in lines for found in _MAX_AGE.finditer(line)]
    if said:
        return min(MAX_AGE_MS, min(said) * 1000) or None
    return by_path.get(path)
