"""Snapshots by themselves; what is put into them is tests/unit/test_status.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from resender.core.binance.markets import Market
from resender.snapshots import MarketSnapshot, UpstreamSnapshot


@pytest.mark.parametrize(
    ("lines", "wanted", "live", "is_live"),
    [
        ((True,), 4, 2, True),
        ((True,), 4, 1, False),
        ((False, False), 4, 4, False),
        ((False, True), 0, 0, True),
        ((), 1, 1, False),
    ],
)
def test_market_is_live_with_a_connection_and_half_of_what_rules_keep(
    lines: tuple[bool, ...], wanted: int, live: int, is_live: bool
) -> None:
    links = tuple(SimpleNamespace(is_live=each) for each in lines)
    market = MarketSnapshot(
        Market.UM, kept=9, live=9, wanted=wanted, wanted_live=live, mutes=0, corrected=0, witness_reads=0,
        connections=links,
    )  # fmt: skip
    assert market.is_live is is_live


def test_upstream_says_in_words_how_it_answered() -> None:
    assert "451" in UpstreamSnapshot(Market.SPOT, "region", 451, 5).text
