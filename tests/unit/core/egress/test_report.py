"""The rows that show every pool of every egress to people and programs."""

from __future__ import annotations

from typing import Any

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.report import weight_rows
from resender.core.egress.spec import parse_egress
from resender.core.egress.state import Limits
from resender.core.weights.rules import Charge

START_MS = 1_791_374_400_000.0  # the start of a minute


def governor(egress: str = "127.0.0.2,127.0.0.3") -> Governor:
    limits = Limits(spot=100, futures=60)
    return Governor(parse_egress(egress.split(",")), ExchangeClock.guess(START_MS, 0.0), limits=limits)


def row_of(one: Governor, egress: str, pool: str, mono: float) -> dict[str, Any]:
    (row,) = [row for row in weight_rows(one, mono) if (row["egress"], row["pool"]) == (egress, pool)]
    return row


def test_egress_that_has_done_nothing_has_no_row() -> None:
    assert weight_rows(governor(), 5.0) == []


def test_calls_under_way_are_reserved_and_answered_ones_used() -> None:
    one = governor("127.0.0.2")
    grant = one.admit(Market.SPOT, Charge(7, "spot"), 5.0)
    row = row_of(one, "127.0.0.2", "spot", 5.0)
    assert (row["used"], row["reserved"], row["limit"], row["window_s"]) == (0, 7, 100, 60.0)
    one.answered(grant, 200, 12, 5.1)
    row = row_of(one, "127.0.0.2", "spot", 5.2)
    assert (row["used"], row["reserved"]) == (12, 0)


def test_row_names_the_markets_that_share_its_pool() -> None:
    one = governor("127.0.0.2")
    one.admit(Market.CM, Charge(1, "futures"), 5.0)
    assert row_of(one, "127.0.0.2", "futures", 5.0)["markets"] == ["um", "cm"]


def test_pause_and_ban_are_told_with_the_seconds_that_are_left() -> None:
    one = governor()
    one.close_pool(one.egresses[0], "spot", 429, 15.2)
    one.close_pool(one.egresses[1], "futures", 418, 125.0)
    paused = row_of(one, "127.0.0.2", "spot", 5.0)
    assert (paused["state"], paused["closed_status"], paused["closed_s"]) == ("closed", 429, 11)
    banned = row_of(one, "127.0.0.3", "futures", 5.0)
    assert (banned["state"], banned["closed_status"], banned["closed_s"]) == ("banned", 418, 120)
    assert banned["limit"] == 60, "also where nothing was ever sent"
    over = [row for row in weight_rows(one, 15.2) if row["egress"] == "127.0.0.2"]
    assert {row["state"] for row in over} <= {"ok"}


def test_egress_that_cannot_connect_is_shown_set_aside_until_it_may_be_tried_again() -> None:
    one = governor()
    grant = one.admit(Market.SPOT, Charge(1, "spot"), 5.0)
    one.unreachable(grant, 5.0)
    row = row_of(one, grant.egress.name, "spot", 5.1)
    assert (row["state"], row["problem"]) == ("set_aside", "unreachable")
    assert row_of(one, grant.egress.name, "spot", 60.0)["state"] == "ok"


def test_region_block_is_named_as_the_problem() -> None:
    one = governor("127.0.0.2")
    grant = one.admit(Market.SPOT, Charge(1, "spot"), 5.0)
    one.answered(grant, 451, None, 5.1)
    assert row_of(one, "127.0.0.2", "spot", 5.2)["problem"] == "region"


def test_counters_of_single_accounts_are_not_shown() -> None:
    one = governor("127.0.0.2")
    one.admit(Market.SPOT, Charge(1, "spot"), 5.0)
    one.close_pool(one.egresses[0], "spot#account", 429, 60.0)
    assert [row["pool"] for row in weight_rows(one, 5.0)] == ["spot"]
