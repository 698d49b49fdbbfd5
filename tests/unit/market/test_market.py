"""What other parts of the program may use of the kept market data is named, and there."""

from __future__ import annotations

import resender.market as room
from resender.core.binance.markets import INTERVALS
from resender.market import CACHED_MARKETS, PATHS


def test_every_name_that_is_offered_is_there() -> None:
    assert [name for name in room.__all__ if not hasattr(room, name)] == []
    assert room.__all__ == sorted(room.__all__, key=lambda name: (not name.isupper(), name))


def test_markets_with_candles_are_the_cached_ones_and_each_has_its_paths() -> None:
    assert set(CACHED_MARKETS) == set(INTERVALS) == {at.market for at in PATHS.values()}
