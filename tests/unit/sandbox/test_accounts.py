"""Keys and accounts: whose a key is, what it may do, what a position is worth."""

from decimal import Decimal

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, READ_KEY, READ_ONLY, TRADING, SandboxConfig
from resender.sandbox.accounts import Accounts, Position
from resender.sandbox.model import ApiError


def test_default_keys_share_an_account_and_differ_in_what_they_may():
    accounts = Accounts(SandboxConfig())
    assert accounts.of(READ_KEY) is accounts.of(API_KEY)
    assert (accounts.key(API_KEY).permissions, accounts.key(READ_KEY).permissions) == (TRADING, READ_ONLY)
    assert "unknown" not in accounts
    with pytest.raises(ApiError, match="-2015"):
        accounts.key("unknown")


def test_accounts_of_a_configuration_are_known_and_apart():
    accounts = Accounts(SandboxConfig(accounts={"a": "x", "b": "y", "c": "z"}, same_account={"c": "a"}))
    assert accounts.of("a") is accounts.of("c") is not accounts.of("b")
    assert READ_KEY not in accounts
    assert accounts.key("b").secret == "y"


def test_added_key_joins_an_account_and_a_removed_one_leaves_it():
    accounts = Accounts(SandboxConfig())
    accounts.add("second", "secret", account=READ_KEY)
    assert accounts.of("second") is accounts.of(API_KEY)
    accounts.remove("second")
    assert "second" not in accounts
    with pytest.raises(ApiError, match="-2015"):
        accounts.add("third", "secret", account="second")
    with pytest.raises(ValueError, match="PEM"):
        accounts.add("fourth", public_key="-----BEGIN PUBLIC KEY-----")


def test_first_balances_are_those_of_the_configuration():
    accounts = Accounts(SandboxConfig(balances={"spot": {"A": "1.5"}, "um": {"B": "2"}}))
    account = accounts.of(API_KEY)
    assert account.balance("A").free == Decimal("1.5")
    assert account.wallets == {Market.UM: {"B": Decimal(2)}, Market.CM: {}}


def test_lock_takes_no_more_than_is_free():
    account = Accounts(SandboxConfig(balances={"spot": {"A": "1.5"}})).of(API_KEY)
    with pytest.raises(ApiError, match="-2010"):
        account.lock("A", Decimal("1.6"))
    account.lock("A", Decimal("1.5"))
    assert (account.balance("A").free, account.balance("A").locked) == (0, Decimal("1.5"))


def test_coin_m_position_is_weighted_by_coins():
    held = Position()
    held.add(Decimal(1), Decimal(100), 10)
    held.add(Decimal(1), Decimal(200), 10)
    assert held.entry == Decimal("133.33333333")
    profit = held.add(Decimal(-2), Decimal(100), 10)
    assert profit == Decimal("-0.05000000")
    assert (held.amount, held.entry) == (0, 0)
