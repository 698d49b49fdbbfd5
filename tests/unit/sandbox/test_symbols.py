"""The symbols an exchange is made with."""

import pytest

from resender.core.binance.markets import Market
from resender.sandbox.symbols import build_symbols, quarter_codes

NOW = 1_791_374_430_500


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
def test_hundreds_of_symbols_can_be_made(market):
    specs = build_symbols(market, 450, NOW)
    assert len({spec.symbol for spec in specs}) == 450
    assert all(spec.price_ticks >= 5_000 and spec.listed_ms < NOW for spec in specs)


def test_default_symbols_hold_the_promised_ones():
    names = {market: {s.symbol for s in build_symbols(market, None, NOW)} for market in list(Market)[:3]}
    usual = {"BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"}
    assert usual <= names[Market.SPOT]
    assert usual | {"币安人生USDT", "BTCUSDT_261225"} <= names[Market.UM]
    assert {"BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD_261225"} <= names[Market.CM]


def test_part_of_usd_m_are_contracts_on_shares_and_metals():
    specs = build_symbols(Market.UM, 720, NOW)
    types = {spec.symbol: spec.contract_type for spec in specs}
    assert (types["TSLAUSDT"], types["BTCUSDT"]) == ("TRADIFI_PERPETUAL", "PERPETUAL")
    share = list(types.values()).count("TRADIFI_PERPETUAL") / len(types)
    assert 0.2 <= share <= 0.27
    named = build_symbols(Market.UM, ["SIMPLEUSDT", "SIM001USDT"], NOW)
    assert [spec.contract_type for spec in named] == ["PERPETUAL", "TRADIFI_PERPETUAL"]
    assert {spec.contract_type for spec in build_symbols(Market.CM, 60, NOW)} >= {"PERPETUAL"}
    assert "TRADIFI_PERPETUAL" not in {spec.contract_type for spec in build_symbols(Market.CM, 60, NOW)}


@pytest.mark.parametrize(
    ("now", "codes"),
    [(NOW, ("261225", "270326")), (1_798_300_000_000, ("270326", "270625")),
     (1_782_400_000_000, ("260626", "260925"))],
)  # fmt: skip
def test_quarterly_contracts_end_on_the_last_friday(now, codes):
    assert quarter_codes(now) == codes
