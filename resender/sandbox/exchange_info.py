"""exchangeInfo and its parts, per market, from the symbol descriptions.

Pure: specs in, JSON data out. The limits shown are the ones that are enforced.
"""

from __future__ import annotations

from typing import Any

from resender.core.binance.markets import Market

from .config import SandboxConfig
from .decimals import fixed
from .symbols import SymbolSpec

_FUTURES_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET",
                  "TRAILING_STOP_MARKET"]  # fmt: skip
_FUTURES_TIF = ["GTC", "IOC", "FOK", "GTX", "GTD"]


def _step(decimals: int, shown: int | None = None) -> str:
    return fixed(1, decimals, decimals if shown is None else shown)


def rate_limits(market: Market, config: SandboxConfig) -> list[dict[str, Any]]:
    """Return the `rateLimits` of a market."""
    pool = {Market.SPOT: "spot", Market.OPTIONS: "options", Market.PM: "pm"}.get(market, "futures")

    def limit(kind: str, interval: str, number: int, value: int) -> dict[str, Any]:
        return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": value}

    weight = limit("REQUEST_WEIGHT", "MINUTE", 1, config.limit_of(pool))
    if market is Market.SPOT:
        return [
            weight,
            limit("ORDERS", "SECOND", 10, 100),
            limit("ORDERS", "DAY", 1, 200_000),
            limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]
    return [weight, limit("ORDERS", "MINUTE", 1, 1200), limit("ORDERS", "SECOND", 10, 300)]


def spot_info(specs: list[SymbolSpec], config: SandboxConfig, now_ms: int, show_sets: bool) -> dict[str, Any]:
    """Return spot's exchangeInfo for the given symbols."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": rate_limits(Market.SPOT, config),
        "exchangeFilters": [],
        "symbols": [_spot_symbol(spec, show_sets) for spec in specs],
    }


def _spot_symbol(spec: SymbolSpec, show_sets: bool) -> dict[str, Any]:
    tick, lot = _step(spec.price_decimals, 8), _step(spec.qty_decimals, 8)
    return {
        "symbol": spec.symbol,
        "status": spec.status,
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT",
                       "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000",
             "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000.00000000", "stepSize": lot},
            {"filterType": "ICEBERG_PARTS", "limit": 10},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "900000.00000000",
             "stepSize": "0.00000000"},
            {"filterType": "TRAILING_DELTA", "minTrailingAboveDelta": 10, "maxTrailingAboveDelta": 2000,
             "minTrailingBelowDelta": 10, "maxTrailingBelowDelta": 2000},
            {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "5", "bidMultiplierDown": "0.2",
             "askMultiplierUp": "5", "askMultiplierDown": "0.2", "avgPriceMins": 5},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
             "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5},
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        ],
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN", "TRD_GRP_004"]] if show_sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"],
    }  # fmt: skip


def futures_info(
    market: Market, specs: list[SymbolSpec], config: SandboxConfig, now_ms: int
) -> dict[str, Any]:
    """Return exchangeInfo of UM or CM."""
    info: dict[str, Any] = {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": rate_limits(market, config),
        "exchangeFilters": [],
    }
    if market is Market.UM:
        info["futuresType"] = "U_MARGINED"
        info["assets"] = [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"}
            for asset in ("USDT", "BTC", "BNB", "ETH", "USDC")
        ]
    info["symbols"] = [_futures_symbol(spec) for spec in specs]
    return info


def _futures_symbol(spec: SymbolSpec) -> dict[str, Any]:
    tick, lot = _step(spec.price_decimals), _step(spec.qty_decimals)
    is_cm = spec.market is Market.CM
    top = {"maxQty": "1000000", "minQty": lot, "stepSize": lot}
    row: dict[str, Any] = {
        "symbol": spec.symbol,
        "pair": spec.pair,
        "contractType": spec.contract_type,
        "deliveryDate": spec.delivery_ms,
        "onboardDate": spec.listed_ms,
        ("contractStatus" if is_cm else "status"): spec.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": spec.base,
        "quoteAsset": spec.quote,
        "marginAsset": spec.base if is_cm else spec.quote,
        "pricePrecision": spec.price_decimals,
        "quantityPrecision": spec.qty_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"] if spec.base == "BTC" else [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
            {"filterType": "LOT_SIZE", **top},
            {"filterType": "MARKET_LOT_SIZE", **top},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500",
             "multiplierDecimal": "4"},
        ],
        "orderTypes": _FUTURES_TYPES,
        "timeInForce": _FUTURES_TIF,
    }  # fmt: skip
    if is_cm:
        row["contractSize"] = spec.contract_size
        row["equalQtyPrecision"] = 4
    else:
        row["settlePlan"] = 0
        row["filters"].append({"filterType": "MIN_NOTIONAL", "notional": "5"})
        row["permissionSets"] = ["GRID", "COPY"]
    return row
