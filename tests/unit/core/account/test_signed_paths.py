"""Where a good answer shows that a signature was good."""

from __future__ import annotations

import pytest

from resender.core.account.calls import READS
from resender.core.account.signed_paths import is_signed_path
from resender.core.binance.markets import Market


def test_every_path_accounts_read_is_signed() -> None:
    assert all(is_signed_path(market, "GET", path) for market, path in READS)


@pytest.mark.parametrize(
    ("market", "method", "path"),
    [
        (Market.SPOT, "GET", "/api/v3/myTrades"),
        (Market.SPOT, "GET", "/api/v3/rateLimit/order"),
        (Market.SPOT, "GET", "/sapi/v1/account/apiRestrictions"),
        (Market.SPOT, "POST", "/api/v3/order"),
        (Market.UM, "GET", "/fapi/v3/account"),
        (Market.UM, "DELETE", "/fapi/v1/allOpenOrders"),
        (Market.CM, "GET", "/dapi/v1/positionRisk"),
        (Market.PM, "GET", "/papi/v1/um/openOrders"),
    ],
)
def test_signed_paths(market: Market, method: str, path: str) -> None:
    assert is_signed_path(market, method, path)


@pytest.mark.parametrize(
    ("market", "method", "path"),
    [
        (Market.SPOT, "GET", "/api/v3/time"),
        (Market.SPOT, "GET", "/api/v3/depth"),
        (Market.SPOT, "GET", "/api/v3/historicalTrades"),  # the key alone
        (Market.SPOT, "GET", "/api/v3/myTrades/"),
        (Market.SPOT, "GET", "/x/api/v3/myTrades"),
        (Market.SPOT, "GET", "/api/v3/myTradesx"),
        (Market.SPOT, "GET", "/sapi/v1/account/../system/status"),
        (Market.SPOT, "GET", "/sapi/v1/system/status"),
        (Market.UM, "GET", "/api/v3/myTrades"),
        (Market.UM, "POST", "/fapi/v1/listenKey"),  # the key alone
        (Market.UM, "PUT", "/fapi/v1/listenKey"),
        (Market.UM, "GET", "/fapi/v1/premiumIndex"),
        (Market.UM, "POST", "/fapi/v1/anything"),
        (Market.SPOT, "POST", "/sapi/v1/userListenToken"),  # the key alone
        (Market.SPOT, "POST", "/api/v3/userDataStream"),
        (Market.OPTIONS, "GET", "/eapi/v1/account"),
        (Market.SPOT, "OPTIONS", "/api/v3/order"),
        (Market.SPOT, "PATCH", "/api/v3/order"),
    ],
)
def test_a_good_answer_on_other_paths_shows_nothing(market: Market, method: str, path: str) -> None:
    assert not is_signed_path(market, method, path)
