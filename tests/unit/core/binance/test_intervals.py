"""Where the next candle opens."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from resender.core.binance.intervals import INTERVAL_MS, candles_between, next_open
from resender.core.binance.markets import SPOT_INTERVALS


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=timezone.utc).timestamp() * 1000)


def test_every_interval_of_binance_is_known() -> None:
    assert tuple(INTERVAL_MS) == SPOT_INTERVALS


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1s", ms(2026, 1, 1), ms(2026, 1, 1, 0, 0, 1)),
        ("1m", ms(2026, 1, 1), ms(2026, 1, 1, 0, 1)),
        ("1d", ms(2024, 2, 28), ms(2024, 2, 29)),
        ("3d", ms(2026, 1, 1), ms(2026, 1, 4)),
        ("1w", ms(2026, 1, 5), ms(2026, 1, 12)),
        ("1M", ms(2026, 1, 1), ms(2026, 2, 1)),
        ("1M", ms(2024, 2, 1), ms(2024, 3, 1)),
        ("1M", ms(2026, 12, 1), ms(2027, 1, 1)),
    ],
)
def test_next_open(interval: str, start: int, end: int) -> None:
    assert next_open(interval, start) == end


@pytest.mark.parametrize("interval", SPOT_INTERVALS)
def test_candles_between_is_never_too_few(interval: str) -> None:
    start = ms(2024, 1, 1)
    opens = [start]
    for _ in range(40):
        opens.append(next_open(interval, opens[-1]))
    for count in (0, 1, 5, 40):
        assert candles_between(interval, start, opens[count]) >= count
