"""What is held of an account, as people are told it."""

from __future__ import annotations

from typing import Any

import pytest

from resender.account.ports import AccountOptions
from resender.account.state import LIVE, SYNCING, WAITING, AccountState
from resender.aio import Clock
from resender.core.account.dialects import Dialect, read_event
from resender.core.account.lore import Lore
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.binance.exchange_clock import ExchangeClock

NOW_MS = 1_796_000_000_000


class World:
    def __init__(self, market: AccountMarket, mode: Mode = Mode.KEY, **options: Any) -> None:
        self.mono = 1000.0
        self.lores: dict[Dialect, Lore] = {}
        clock = Clock(now_ms=lambda: NOW_MS, mono=lambda: self.mono)
        self.account = AccountState(
            AccountSpec(1, "desk", market, mode),
            AccountOptions(**options),
            lambda dialect: self.lores.setdefault(dialect, Lore(dialect)),
            clock=clock,
            exchange_clock=ExchangeClock.guess(NOW_MS, self.mono),
        )
        self.told: list[dict[str, Any]] = []
        self.account.listeners.add(self.told.append)

    def order(self, number: int, status: str = "NEW", *, at_ms: int = NOW_MS, **more: Any) -> None:
        said = {"s": "BTCUSDT", "i": number, "X": status, "x": status, "T": at_ms, "q": "1", "z": "0", **more}
        orders = self.account.orders
        orders.apply(read_event(orders.dialect, said))


@pytest.mark.parametrize(
    ("market", "kinds"),
    [
        (AccountMarket.SPOT, ["spot"]),
        (AccountMarket.MARGIN, ["spot"]),
        (AccountMarket.UM, ["um", "algo"]),
        (AccountMarket.CM, ["cm"]),
        (AccountMarket.PM, ["um", "cm"]),
    ],
)
def test_each_market_has_the_kinds_of_orders_it_knows(market: AccountMarket, kinds: list[str]) -> None:
    account = World(market).account
    assert [orders.dialect.name for orders in account._all_orders()] == kinds


def test_label_names_account_and_market() -> None:
    assert World(AccountMarket.UM).account.label == "desk (um)"


@pytest.mark.parametrize(
    ("mode", "signer", "is_own"),
    [(Mode.SECRET, True, True), (Mode.SECRET, False, False), (Mode.KEY, True, False)],
)
def test_only_a_key_of_its_own_with_its_secret_reads_by_itself(
    mode: Mode, signer: bool, is_own: bool
) -> None:
    account = World(AccountMarket.UM, mode).account
    account.signer = object() if signer else None  # type: ignore[assignment]
    assert account.is_own is is_own


def test_open_orders_say_of_which_kind_they_are_and_can_be_those_of_a_symbol() -> None:
    world = World(AccountMarket.UM)
    world.order(1)
    world.order(2, s="ETHUSDT")
    assert [(row["orderId"], row["kind"]) for row in world.account.open_orders()] == [(1, "um"), (2, "um")]
    assert [row["orderId"] for row in world.account.open_orders("ETHUSDT")] == [2]
    assert world.account.state()["openOrders"] == 2


def test_ended_orders_are_told_the_last_first_and_only_as_long_as_they_are_kept() -> None:
    world = World(AccountMarket.UM, history_ms=60_000)
    for number, age_ms in ((1, 61_000), (2, 30_000), (3, 1000)):
        world.order(number, "NEW", at_ms=NOW_MS - age_ms - 10)
        world.order(number, "CANCELED", at_ms=NOW_MS - age_ms)
    assert [row["orderId"] for row in world.account.ended_orders()] == [3, 2]
    assert world.account.open_orders() == []


def test_state_is_never_told_as_live_while_something_is_lacking() -> None:
    world = World(AccountMarket.UM)
    account = world.account
    assert account.state()["state"] == WAITING
    account.proof.opened(world.mono)
    account.phase = LIVE
    told = account.state()
    assert (told["state"], told["why"]) == (SYNCING, "no snapshot yet")
    account.proof.snapshot(None, world.mono)
    world.mono += 6
    account.proof.heard(world.mono)
    account.proof.snapshot(None, world.mono)
    told = account.state()
    assert (told["state"], told["why"]) == (LIVE, "")
    world.mono += 4
    assert account.state()["why"] == "stream silent"


def test_portfolio_margin_is_live_only_when_both_kinds_are_proven() -> None:
    world = World(AccountMarket.PM)
    account = world.account
    for proof in (account.proof, account.algo_proof):
        proof.opened(world.mono)
    for _ in range(2):
        account.proof.snapshot(None, world.mono)
        world.mono += 6
        account.proof.heard(world.mono)
        account.algo_proof.heard(world.mono)
    account.proof.snapshot(None, world.mono)
    assert account._lack() == "no snapshot yet"
    for _ in range(2):
        account.algo_proof.snapshot(None, world.mono)
    assert account._lack() is None


def test_age_is_that_of_the_last_sign_of_life() -> None:
    world = World(AccountMarket.UM)
    assert world.account.age_ms == 0
    world.account.proof.opened(world.mono)
    world.mono += 1.5
    assert world.account.age_ms == 1500


def test_entering_a_phase_is_told_once() -> None:
    world = World(AccountMarket.UM)
    world.account._enter(SYNCING)
    world.account._enter(SYNCING)
    assert [message["e"] for message in world.told] == ["state"]
    assert world.account.phase_since_ms == NOW_MS


@pytest.mark.parametrize(
    ("market", "event", "money"),
    [
        (
            AccountMarket.SPOT,
            {"e": "outboundAccountPosition", "u": NOW_MS, "B": [{"a": "BTC", "f": "1.0", "l": "0.5"}]},
            ("balances", "asset", "BTC"),
        ),
        (
            AccountMarket.UM,
            {
                "e": "ACCOUNT_UPDATE", "T": NOW_MS,
                "a": {"P": [{"s": "BTCUSDT", "pa": "-2", "ep": "100", "ps": "BOTH"}]},
            },
            ("positions", "symbol", "BTCUSDT"),
        ),
    ],
)  # fmt: skip
def test_snapshot_holds_all_that_is_known(
    market: AccountMarket, event: dict[str, Any], money: tuple[str, str, str]
) -> None:
    world = World(market)
    account = world.account
    account.spot.apply(event) if market is AccountMarket.SPOT else account.futures.apply(event)
    world.order(1)
    told = account.snapshot()
    assert (told["e"], told["market"], len(told["orders"])) == ("snapshot", market.value, 1)
    where, name, value = money
    assert told[where][0][name] == value
    assert (account.balances(), account.positions()) == (told["balances"], told["positions"])
