"""What /metrics tells of accounts: sums by market, never a name."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from resender.account_gauges import account_families
from resender.core.account.spec import AccountMarket

SPOT, UM, CM = AccountMarket.SPOT, AccountMarket.UM, AccountMarket.CM


def account(market: AccountMarket, state: str = "live", **told: Any) -> Any:
    return SimpleNamespace(
        market=market,
        spec=SimpleNamespace(name="secret desk"),
        state=lambda: {"state": state},
        hits=told.get("hits", 0),
        misses=Counter(told.get("misses", {})),
        events=Counter(told.get("events", {})),
        difference_count=told.get("differences", 0),
    )


def samples(*accounts: Any) -> dict[tuple[str, ...], float]:
    """Return the samples by name and the values of their labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in account_families(cast(Any, accounts))
        for sample in family.samples
    }


def test_without_accounts_the_families_are_there_and_empty() -> None:
    families = account_families([])
    assert [family.name for family in families] == [
        "resender_account_answers", "resender_accounts", "resender_account_events",
        "resender_account_differences",
    ]  # fmt: skip
    assert samples() == {}


def test_account_nobody_has_asked_yet_is_there_with_zeros() -> None:
    assert samples(account(CM, "waiting")) == {
        ("resender_account_answers_total", "cm", "hit"): 0,
        ("resender_account_answers_total", "cm", "miss"): 0,
        ("resender_account_events_total", "cm"): 0,
        ("resender_account_differences_total", "cm"): 0,
        ("resender_accounts", "cm", "waiting"): 1,
    }


def test_accounts_of_a_market_are_added_up() -> None:
    told = samples(
        account(UM, hits=3, misses={"stream silent": 1, "timestamp": 2}, events={"ORDER_TRADE_UPDATE": 5}),
        account(UM, hits=4, misses={"timestamp": 1}, events={"ACCOUNT_UPDATE": 2}, differences=1),
    )
    assert told["resender_account_answers_total", "um", "hit"] == 7
    assert told["resender_account_answers_total", "um", "miss"] == 4
    assert told["resender_account_events_total", "um"] == 7
    assert told["resender_account_differences_total", "um"] == 1


def test_markets_are_told_apart() -> None:
    told = samples(account(SPOT, hits=1), account(UM, hits=2))
    assert told["resender_account_answers_total", "spot", "hit"] == 1
    assert told["resender_account_answers_total", "um", "hit"] == 2


def test_accounts_are_counted_by_their_state() -> None:
    told = samples(account(SPOT), account(SPOT), account(SPOT, "syncing"), account(UM, "opening"))
    states = {place[1:]: value for place, value in told.items() if place[0] == "resender_accounts"}
    assert states == {("spot", "live"): 2, ("spot", "syncing"): 1, ("um", "opening"): 1}


def test_names_are_not_told() -> None:
    assert "secret" not in repr([family.samples for family in account_families([account(SPOT)])])
