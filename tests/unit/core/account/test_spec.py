"""What kinds of accounts there are, and how each is opened."""

from __future__ import annotations

from resender.core.account.spec import MODES, AccountMarket, Mode
from resender.core.binance.markets import Market


def test_every_kind_of_account_has_a_host_and_ways_to_be_opened() -> None:
    assert set(MODES) == set(AccountMarket)
    assert {market: market.host for market in AccountMarket} == {
        AccountMarket.SPOT: Market.SPOT,
        AccountMarket.MARGIN: Market.SPOT,
        AccountMarket.UM: Market.UM,
        AccountMarket.CM: Market.CM,
        AccountMarket.PM: Market.PM,
    }


def test_key_alone_opens_no_stream_that_needs_a_signature() -> None:
    for market in (AccountMarket.SPOT, AccountMarket.MARGIN):
        assert MODES[market] == (Mode.SIGNED, Mode.SECRET)
    for market in (AccountMarket.UM, AccountMarket.CM, AccountMarket.PM):
        assert MODES[market] == (Mode.KEY, Mode.SECRET)


def test_kinds_and_ways_are_written_as_their_words() -> None:
    assert f"{AccountMarket.UM} {Mode.SECRET}" == "um secret"
