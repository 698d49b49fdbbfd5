"""Recorded answers and frames of `tests/fixtures`, as bytes or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from resender.core.binance.markets import Market

FOLDER = Path(__file__).resolve().parents[1] / "fixtures"
MARKETS = (Market.SPOT, Market.UM, Market.CM)
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


def raw(market: Market, name: str) -> bytes:
    """Return an answer or a frame exactly as it was on the wire."""
    return (FOLDER / market.value / f"{name}.json").read_bytes().removesuffix(b"\n")


def wire(market: Market, name: str) -> Any:
    """Return an answer or a frame as the program's JSON parser reads it."""
    return orjson.loads(raw(market, name))


def event(market: Market, name: str) -> Any:
    """Return what a frame of a combined stream carries."""
    return wire(market, name)["data"]
