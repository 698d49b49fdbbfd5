"""A refusal says which allowance it is about, in Binance's words."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.egress.state import limit_text


@pytest.mark.parametrize(
    ("market", "window_ms", "words"),
    [
        (Market.UM, 60_000, "current limit of IP is 500 requests per minute. "),
        (Market.UM, 300_000, "current limit of IP is 500 requests per 5 minutes. "),
        (Market.CM, 600_000, "current limit of IP is 500 requests per 10 minutes. "),
        (Market.OPTIONS, 5_000, "current limit of IP is 500 requests per minute. "),
        (Market.SPOT, 60_000, "current limit is 500 request weight per 1 MINUTE. "),
        (Market.SPOT, 300_000, "current limit is 500 request weight per 5 MINUTE. "),
    ],
)
def test_refusal_names_the_window_it_is_about(market: Market, window_ms: int, words: str) -> None:
    assert words in limit_text(market, 500, window_ms)
