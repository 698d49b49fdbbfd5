"""What accounts learn from a call on its way to Binance and back."""

from __future__ import annotations

from typing import Any, cast

import pytest

from resender.account.passing import Passing
from resender.account.watched import WatchedAccount
from resender.core.account.calls import Change, What
from resender.core.binance.markets import Market

SIGNED = "timestamp=1796000000000&signature=" + "0" * 64


class Account:
    """One that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def written(self, change: Change, params: Any, status: int, body: bytes, sent_mono: float) -> None:
        self.told.append(("written", change, dict(params), status, body, sent_mono))

    def take(self, read: Any, body: bytes, asked_mono: float, asked_ms: int) -> None:
        self.told.append(("take", read.what, read.symbol, body, asked_mono, asked_ms))

    def outcome_unknown(self, change: Change) -> None:
        self.told.append(("unknown", change))


class World:
    def __init__(self, method: str = "GET", path: str = "/api/v3/openOrders", *, count: int = 1, **call: Any):
        self.accounts = [Account() for _ in range(count)]
        self.accepted = 0
        self.refused: list[int] = []
        self.passing = Passing(
            cast("list[WatchedAccount]", self.accounts),
            on_accepted=self._accept,
            on_refused=self.refused.append,
            method=method,
            path=path,
            asked_mono=5.0,
            asked_ms=77,
            **{"query": SIGNED, **call},
        )

    def _accept(self) -> None:
        self.accepted += 1

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return self.accounts[0].told


@pytest.mark.parametrize(
    ("method", "path", "wants"),
    [
        ("GET", "/api/v3/openOrders", True),
        ("GET", "/api/v3/account", True),
        ("POST", "/api/v3/order", True),
        ("DELETE", "/api/v3/openOrders", True),
        ("GET", "/api/v3/myTrades", False),
        ("POST", "/api/v3/order/test", False),
    ],
)
def test_body_is_wanted_of_reads_that_accounts_take_and_of_changes(
    method: str, path: str, wants: bool
) -> None:
    assert World(method, path).passing.wants_body is wants
    assert not World(method, path, count=0).passing.wants_body, "no account is there to learn"


def test_errors_that_may_name_a_bad_key_are_wanted_always() -> None:
    passing = World("GET", "/api/v3/myTrades", count=0).passing
    assert [status for status in (200, 400, 401, 403, 418, 429, 500) if passing.wants(status)] == [400, 401]


def test_good_read_is_given_to_the_account_with_the_time_it_was_asked() -> None:
    world = World(query="symbol=BTCUSDT&" + SIGNED)
    world.passing.answered(200, b"[]")
    assert world.told == [("take", What.OPEN_ORDERS, "BTCUSDT", b"[]", 5.0, 77)]
    assert (world.accepted, world.refused) == (1, [])


def test_read_that_was_refused_or_cannot_be_read_tells_the_account_nothing() -> None:
    refused = World()
    refused.passing.answered(500, b"{}")
    strange = World(query="limit=5&" + SIGNED)
    strange.passing.answered(200, b"[]")
    assert refused.told == strange.told == []
    assert (refused.accepted, strange.accepted) == (0, 1)


@pytest.mark.parametrize("status", [200, 400, 503])
def test_change_is_told_whatever_its_status(status: int) -> None:
    world = World("POST", "/api/v3/order", query="symbol=BTCUSDT", body=b"side=BUY&newClientOrderId=a%20b")
    world.passing.answered(status, b"{}")
    params = {"symbol": "BTCUSDT", "side": "BUY", "newClientOrderId": "a b"}
    assert world.told == [("written", Change.ORDERS, params, status, b"{}", 5.0)]


def test_parameters_that_cannot_be_read_are_left_out() -> None:
    world = World("POST", "/api/v3/order", query="symbol=A&symbol=B", body=b"side=BUY")
    world.passing.answered(200, b"{}")
    assert world.told[0][2] == {"side": "BUY"}


@pytest.mark.parametrize(
    ("status", "body", "codes"),
    [
        (401, b'{"code":-2015,"msg":"no"}', [-2015]),
        (400, b'{"code":-2014,"msg":"no"}', [-2014]),
        (400, b"<html>", [0]),
        (400, b'["-2015"]', [0]),
        (400, b'{"code":"-2015"}', [0]),
        (400, b"", []),
        (418, b'{"code":-2015}', []),
    ],
)
def test_code_of_a_refusal_is_handed_on(status: int, body: bytes, codes: list[int]) -> None:
    world = World("GET", "/api/v3/myTrades")
    world.passing.answered(status, body)
    assert (world.refused, world.accepted, world.told) == (codes, 0, [])


@pytest.mark.parametrize("is_sent", [True, False])
def test_change_without_an_answer_is_unknown_only_if_it_may_have_been_sent(is_sent: bool) -> None:
    world = World("DELETE", "/api/v3/order", count=2)
    world.passing.unanswered(is_sent=is_sent)
    expected = [("unknown", Change.ORDERS)] if is_sent else []
    assert [account.told for account in world.accounts] == [expected, expected]


@pytest.mark.parametrize("is_sent", [True, False])
def test_call_without_an_answer_is_told_of_where_no_account_is_asked(is_sent: bool) -> None:
    unknown: list[bool] = []
    passing = Passing((), on_accepted=lambda: None, on_unknown=lambda: unknown.append(True))
    for _ in range(2):
        passing.unanswered(is_sent=is_sent)
    assert unknown == [True] * is_sent


def test_first_word_about_a_call_is_the_last() -> None:
    answered = World("POST", "/api/v3/order")
    answered.passing.answered(200, b"{}")
    answered.passing.answered(200, b"{}")
    answered.passing.unanswered(is_sent=True)
    assert (len(answered.told), answered.accepted) == (1, 1)
    lost = World("POST", "/api/v3/order")
    lost.passing.unanswered(is_sent=True)
    lost.passing.answered(200, b"{}")
    assert (lost.told, lost.accepted) == ([("unknown", Change.ORDERS)], 0)


def test_market_decides_what_a_path_is() -> None:
    world = World("GET", "/fapi/v1/openOrders")
    world.passing.answered(200, b"[]")
    assert (world.passing.wants_body, world.told) == (False, [])
    futures = World("GET", "/fapi/v1/openOrders", market=Market.UM)
    futures.passing.answered(200, b"[]")
    assert futures.told[0][:2] == ("take", What.OPEN_ORDERS)
