"""The table of preload rules: what says the same is one rule, and every change is noticed."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.market.preload import PreloadRule, parse_rule
from resender.store import DuplicateRule, Repository, UnknownRule
from tests.support.moment import Moment


def rule(symbols: str = "BTCUSDT", what: str = "1m", market: str = "um") -> PreloadRule:
    return parse_rule(market, symbols, what)


def test_rule_comes_back_as_it_was_given(repository: Repository, moment: Moment) -> None:
    row = repository.preload_add(rule("BTCUSDT,ETHUSDT", "1m,bookTicker"))
    assert repository.preload_list() == [row]
    assert repository.preload_get(row.id) == row
    assert row.rule == rule("BTCUSDT,ETHUSDT", "1m,bookTicker")
    assert row.created_ms == moment.ms


def test_rule_that_says_the_same_is_refused_with_the_row_that_does(repository: Repository) -> None:
    first = repository.preload_add(rule("BTCUSDT,ETHUSDT"))
    with pytest.raises(DuplicateRule) as caught:
        repository.preload_add(rule("ETHUSDT,BTCUSDT"))
    assert caught.value.row == first


@pytest.mark.parametrize(
    "other",
    [rule("BTCUSDT"), rule("*"), rule("BTCUSDT,ETHUSDT", what="5m"), rule("BTCUSDT,ETHUSDT", market="spot")],
)
def test_rule_that_says_something_else_is_another(repository: Repository, other: PreloadRule) -> None:
    repository.preload_add(rule("BTCUSDT,ETHUSDT"))
    repository.preload_add(other)
    assert len(repository.preload_list()) == 2


def test_rule_is_put_in_the_place_of_another(repository: Repository) -> None:
    first, second = repository.preload_add(rule()), repository.preload_add(rule("ETHUSDT"))
    changed = repository.preload_update(first.id, rule("NKNUSDT", "1h"))
    assert (changed.id, changed.symbols, changed.what) == (first.id, "NKNUSDT", "1h")
    assert changed.created_ms == first.created_ms
    with pytest.raises(DuplicateRule):
        repository.preload_update(first.id, rule("ETHUSDT"))
    assert repository.preload_update(second.id, rule("ETHUSDT")) == second, "with itself it is no quarrel"


@pytest.mark.parametrize("rule_id", [0, -1, 99, 2**31, 2**63])
def test_rule_that_is_not_there_is_told(repository: Repository, rule_id: int) -> None:
    assert repository.preload_get(rule_id) is None
    assert not repository.preload_remove(rule_id)
    with pytest.raises(UnknownRule):
        repository.preload_update(rule_id, rule())


@pytest.mark.parametrize(
    "change",
    [
        lambda r, i: r.preload_add(rule("ETHUSDT")),
        lambda r, i: r.preload_update(i, rule("ETHUSDT")),
        lambda r, i: r.preload_remove(i),
    ],
)
def test_every_change_raises_the_revision(repository: Repository, change: Any) -> None:
    row = repository.preload_add(rule())
    before = repository.preload_revision()
    change(repository, row.id)
    assert repository.preload_snapshot() == (before + 1, tuple(repository.preload_list()))


def test_refused_change_raises_no_revision(repository: Repository) -> None:
    repository.preload_add(rule())
    before = repository.preload_revision()
    with pytest.raises(DuplicateRule):
        repository.preload_add(rule())
    with pytest.raises(UnknownRule):
        repository.preload_update(99, rule("ETHUSDT"))
    repository.preload_remove(99)
    assert repository.preload_revision() == before
