"""Balances out of REST's last answer and events: what they are now, or no answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.account import balances as module
from resender.core.account.balances import FuturesBalances, SpotBalances
from resender.core.account.dialects import BadEvent

AT_MS = 1_796_000_000_000


def answer(*assets: tuple[str, str, str], at_ms: int = AT_MS) -> bytes:
    listed = [{"asset": asset, "free": free, "locked": locked} for asset, free, locked in assets]
    return orjson.dumps(
        {"makerCommission": 10, "canTrade": True, "updateTime": at_ms, "accountType": "SPOT",
         "balances": listed, "permissions": ["SPOT"], "uid": 7}
    )  # fmt: skip


def position(at_ms: int, *assets: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    changed = [{"a": asset, "f": free, "l": locked} for asset, free, locked in assets]
    return {"e": "outboundAccountPosition", "E": at_ms + 1, "u": at_ms, "B": changed, **more}


FULL = (("BTC", "1.00000000", "0.00000000"), ("ETH", "0.00000000", "0.00000000"), ("USDT", "5.0", "1.0"))


def taken(is_full: bool = True) -> SpotBalances:
    spot = SpotBalances()
    spot.take(answer(*FULL), is_full=is_full, mono=3.0)
    return spot


def told(spot: SpotBalances, without_zeros: bool = False) -> dict[str, Any] | None:
    body = spot.answer(without_zeros=without_zeros)
    return None if body is None else dict(orjson.loads(body))


# --- spot --------------------------------------------------------------------------------------


def test_answer_is_rests_own_until_events_come() -> None:
    assert SpotBalances().answer(without_zeros=False) is None
    assert taken().answer(without_zeros=False) == answer(*FULL)
    assert taken().answer(without_zeros=True) == answer(FULL[0], FULL[2])


def test_event_changes_its_assets_in_their_places() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 5, ("ETH", "2.00000000", "0.50000000"), ("BTC", "0.00000000", "0.00000000")))
    now = (("BTC", "0.00000000", "0.00000000"), ("ETH", "2.00000000", "0.50000000"), FULL[2])
    assert spot.answer(without_zeros=False) == answer(*now, at_ms=AT_MS + 5)
    assert spot.answer(without_zeros=True) == answer(*now[1:], at_ms=AT_MS + 5)


def test_time_of_an_event_may_be_text_or_microseconds() -> None:
    spot = taken()
    spot.apply(position(0, ("ETH", "2", "0"), u=str((AT_MS + 5) * 1000)))
    found = told(spot)
    assert found is not None
    assert (found["updateTime"], found["balances"][1]["free"]) == (AT_MS + 5, "2")


def test_asset_rest_did_not_list_makes_no_answer_unless_there_is_nothing_of_it() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 5, ("XRP", "0.00000000", "0.00000000")))
    assert told(spot) is not None
    spot.apply(position(AT_MS + 6, ("XRP", "1.00000000", "0.00000000")))
    assert told(spot) is None
    assert told(spot, without_zeros=True) is None


def test_answer_without_zeros_answers_only_such_calls() -> None:
    spot = taken(is_full=False)
    assert spot.answer(without_zeros=False) is None
    assert spot.answer(without_zeros=True) == answer(FULL[0], FULL[2])


def test_answer_that_holds_less_does_not_replace_one_that_holds_all() -> None:
    spot = taken()
    spot.take(answer(FULL[0], at_ms=AT_MS + 1), is_full=False, mono=9.0)
    assert spot.is_full
    assert spot.rest_mono == 3.0
    spot.lose()
    assert not spot.has_answer
    spot.take(answer(FULL[0], at_ms=AT_MS + 1), is_full=False, mono=9.0)
    assert not spot.is_full
    spot.take(answer(*FULL, at_ms=AT_MS + 2), is_full=True, mono=10.0)
    assert spot.is_full


def test_answer_of_rest_that_lags_does_not_undo_an_event() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 5, ("BTC", "0.40000000", "0.60000000")))
    for at_ms in (AT_MS, AT_MS + 4, AT_MS + 5):
        spot.take(answer(*FULL, at_ms=at_ms), is_full=True, mono=4.0)
        found = told(spot)
        assert found is not None
        assert found["balances"][0]["free"] == "0.40000000"
        assert found["updateTime"] == AT_MS + 5
    spot.take(answer(*FULL, at_ms=AT_MS + 6), is_full=True, mono=4.0)
    assert spot.answer(without_zeros=False) == answer(*FULL, at_ms=AT_MS + 6)


def test_late_event_does_not_undo_a_newer_one() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 9, ("BTC", "0.1", "0")))
    spot.apply(position(AT_MS + 5, ("BTC", "0.9", "0"), ("ETH", "3", "0")))
    found = told(spot)
    assert found is not None
    assert [each["free"] for each in found["balances"]] == ["0.1", "3", "5.0"]


def test_two_events_of_one_millisecond_told_again_do_not_go_back() -> None:
    """A second connection brings both again, the older one first."""
    spot = taken()
    first, second = position(AT_MS + 5, ("BTC", "0.9", "0")), position(AT_MS + 5, ("BTC", "0.8", "0"))
    spot.apply(first)
    spot.apply(second)
    found = told(spot)
    assert found is not None
    assert found["balances"][0]["free"] == "0.8"
    spot.apply(first)
    assert told(spot) is None, "nobody knows whether it is told again or has become so again"
    spot.apply(second)
    assert told(spot) is None
    spot.apply(position(AT_MS + 6, ("BTC", "0.7", "0")))
    found = told(spot)
    assert found is not None
    assert found["balances"][0]["free"] == "0.7"
    spot.apply(position(AT_MS + 6, ("BTC", "0.7", "0")))
    assert told(spot) == found


def test_newer_answer_of_rest_settles_what_was_not_certain() -> None:
    spot = taken()
    for free in ("0.9", "0.8", "0.9"):
        spot.apply(position(AT_MS + 5, ("BTC", free, "0")))
    spot.take(answer(*FULL, at_ms=AT_MS + 5), is_full=True, mono=4.0)
    assert told(spot) is None, "it may be of between them"
    spot.take(answer(*FULL, at_ms=AT_MS + 6), is_full=True, mono=4.0)
    assert spot.answer(without_zeros=False) == answer(*FULL, at_ms=AT_MS + 6)


def test_what_changed_balances_is_awaited_until_its_event_has_come() -> None:
    spot = taken()
    for kind in ("balanceUpdate", "externalLockUpdate"):
        at_ms = spot.time_ms + 10
        spot.apply({"e": kind, "E": at_ms + 1, "T": at_ms, "a": "BTC", "d": "1"})
        assert spot.is_awaited
        spot.apply(position(at_ms - 1, ("BTC", "2", "0")))
        assert spot.is_awaited
        spot.apply(position(at_ms, ("BTC", "2", "0")))
        assert not spot.is_awaited
    spot.expect(AT_MS - 1)
    assert not spot.is_awaited


def test_loss_leaves_no_answer_until_rest_gives_one() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 5, ("BTC", "0.4", "0")))
    spot.lose()
    assert told(spot) is None
    spot.take(answer(*FULL, at_ms=AT_MS + 7), is_full=True, mono=9.0)
    assert spot.answer(without_zeros=False) == answer(*FULL, at_ms=AT_MS + 7)


@pytest.mark.parametrize(
    "bad",
    [
        {"B": None}, {"B": {}}, {"B": [1]}, {"B": [{"a": "BTC", "f": "x", "l": "0"}]},
        {"B": [{"a": "BTC", "f": "1", "l": "NaN"}]}, {"B": [{"a": "BTC", "l": "1"}]}, {"u": "x"}, {"u": None},
        {"B": [{"a": "BTC", "f": 1.5, "l": "0"}]}, {"B": [{"f": "1", "l": "0"}]}, {"B": [None]},
    ],
    ids=str,
)  # fmt: skip
def test_event_that_cannot_be_read_changes_nothing(bad: dict[str, Any]) -> None:
    spot = taken()
    with pytest.raises(BadEvent):
        spot.apply({**position(AT_MS + 5, ("BTC", "0.4", "0")), **bad})
    assert spot.answer(without_zeros=False) == answer(*FULL)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"3", b"null", b"{}", b'{"balances":[]}', b'{"balances":null,"updateTime":1}',
        b'{"balances":[3],"updateTime":1}', b'{"balances":[{"asset":"A","free":"1"}],"updateTime":1}',
        b'{"balances":[{"asset":"A","free":"x","locked":"0"}],"updateTime":1}',
        b'{"balances":[{"asset":"A","free":1,"locked":"0"}],"updateTime":1}',
        b'{"balances":[],"updateTime":"soon"}', b'{"balances":{"a":1},"updateTime":1}',
    ],
)  # fmt: skip
def test_answer_that_cannot_be_read_changes_nothing(body: bytes) -> None:
    spot = taken()
    with pytest.raises(BadEvent):
        spot.take(body, is_full=True, mono=9.0)
    assert spot.answer(without_zeros=False) == answer(*FULL)


def test_too_many_assets_leave_those_known_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ASSETS", 3)
    spot = taken()
    spot.apply(position(AT_MS + 5, ("BTC", "0.4", "0")))
    found = told(spot)
    assert found is not None
    assert found["balances"][0]["free"] == "0.4"
    spot.apply(position(AT_MS + 6, ("XRP", "1", "0")))
    assert told(spot) is None, "there is one of which nothing is kept"
    spot.take(answer(*FULL, ("XRP", "1", "0"), at_ms=AT_MS + 7), is_full=True, mono=9.0)
    assert told(spot) is None


def test_people_are_told_what_there_is_and_who_said_so() -> None:
    spot = taken()
    spot.apply(position(AT_MS + 5, ("BTC", "0.4", "0.6"), ("XRP", "0", "0")))
    assert spot.known() == [
        {"asset": "BTC", "free": "0.4", "locked": "0.6", "time": AT_MS + 5, "source": "event"},
        {"asset": "USDT", "free": "5.0", "locked": "1.0", "time": AT_MS, "source": "snapshot"},
    ]


# --- futures -----------------------------------------------------------------------------------


def update(at_ms: int, wallet: str = "10", amount: str = "0.5") -> dict[str, Any]:
    return {
        "e": "ACCOUNT_UPDATE", "E": at_ms + 1, "T": at_ms, "a": {
            "m": "ORDER", "B": [{"a": "USDT", "wb": wallet, "cw": wallet, "bc": "0"}],
            "P": [{"s": "BTCUSDT", "pa": amount, "ep": "9000", "bep": "9001", "mt": "cross", "iw": "0", "ps": "BOTH"}],
        },
    }  # fmt: skip


def test_wallets_and_positions_are_told_with_their_times() -> None:
    futures = FuturesBalances()
    futures.apply(update(AT_MS))
    futures.apply({"e": "ACCOUNT_CONFIG_UPDATE", "T": AT_MS + 1, "ac": {"s": "BTCUSDT", "l": 25}})
    assert futures.known() == [
        {"asset": "USDT", "walletBalance": "10", "crossWalletBalance": "10", "time": AT_MS, "source": "event"}
    ]
    (row,) = futures.known_positions()
    assert (row["positionAmt"], row["leverage"], row["time"], row["source"]) == ("0.5", 25, AT_MS, "event")
    assert "unRealizedProfit" not in row, "it moves without an event"


def test_older_word_of_futures_changes_nothing() -> None:
    futures = FuturesBalances()
    futures.apply(update(AT_MS + 5, "10"))
    futures.apply(update(AT_MS, "7", "0"))
    futures.take_balances(
        [{"asset": "USDT", "balance": "1", "crossWalletBalance": "1", "updateTime": AT_MS + 4}]
    )
    futures.take_positions([{"symbol": "BTCUSDT", "positionAmt": "9", "updateTime": AT_MS + 4}])
    assert futures.known()[0]["walletBalance"] == "10"
    assert futures.known_positions()[0]["positionAmt"] == "0.5"
    futures.take_balances(
        [{"asset": "USDT", "balance": "1", "crossWalletBalance": "1", "updateTime": AT_MS + 6}]
    )
    assert (futures.known()[0]["walletBalance"], futures.known()[0]["source"]) == ("1", "snapshot")
    for at_ms, leverage in ((AT_MS + 1, 25), (AT_MS, 20)):
        futures.apply({"e": "ACCOUNT_CONFIG_UPDATE", "T": at_ms, "ac": {"s": "BTCUSDT", "l": leverage}})
    assert futures.known_positions()[0]["leverage"] == 25


def test_positions_that_are_flat_are_not_shown() -> None:
    futures = FuturesBalances()
    futures.apply(update(AT_MS, amount="0.000"))
    assert futures.known_positions() == []


@pytest.mark.parametrize(
    "bad",
    [
        {"a": None}, {"a": []}, {"a": {"B": 5}}, {"a": {"B": ["x"]}}, {"a": {"P": [None]}}, {"T": "x"},
        {"a": {"P": [{"s": "BTCUSDT", "pa": "much"}]}}, {"a": {"P": {"s": 1}}},
    ],
    ids=str,
)  # fmt: skip
def test_event_of_futures_that_cannot_be_read_is_refused(bad: dict[str, Any]) -> None:
    futures = FuturesBalances()
    with pytest.raises(BadEvent):
        futures.apply({**update(AT_MS), **bad})
    assert futures.known_positions() == []


def test_snapshot_of_futures_that_cannot_be_read_is_refused() -> None:
    futures = FuturesBalances()
    with pytest.raises(BadEvent):
        futures.take_positions([{"symbol": "BTCUSDT", "positionAmt": "?", "updateTime": AT_MS}])
    with pytest.raises(BadEvent):
        futures.take_balances([{"asset": "USDT", "balance": "1", "updateTime": "x"}])
    assert futures.known() == futures.known_positions() == []


def test_events_of_no_balance_change_nothing() -> None:
    spot, futures = taken(), FuturesBalances()
    spot.apply({"e": "listStatus"})
    futures.apply({"e": "MARGIN_CALL"})
    futures.apply({"e": "ACCOUNT_CONFIG_UPDATE", "T": 1, "ac": None})
    assert spot.answer(without_zeros=False) == answer(*FULL)
    assert futures.known() == []
