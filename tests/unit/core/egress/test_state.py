"""What is known of one egress: closed pools, quarantine, limits; and the words of a refusal."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.egress.spec import DEFAULT_ROUTE
from resender.core.egress.state import (
    POOLS_OF,
    QUARANTINE_FIRST_S,
    QUARANTINE_MAX_S,
    Closure,
    Egress,
    Limits,
    Quarantine,
    ban_text,
    key_digest,
    limit_text,
    pool_group,
)
from tests.support.fixtures import MARKETS, wire

# -- pools ----------------------------------------------------------------------------------------


def test_all_sapi_counters_are_closed_as_one_and_other_pools_alone() -> None:
    assert {pool_group(pool) for pool in ("sapi:/sapi/v1/a", "sapi-uid:/sapi/v1/b", "sapi:*")} == {"sapi"}
    assert [pool_group(pool) for pool in ("spot", "futures")] == ["spot", "futures"]


def test_usd_m_and_coin_m_draw_on_one_pool() -> None:
    assert POOLS_OF[Market.UM] == POOLS_OF[Market.CM] == ("futures",)
    assert set(POOLS_OF) == set(Market)


@pytest.mark.parametrize(
    ("pool", "limit"),
    [("spot", 1), ("futures", 2), ("options", 3), ("pm", 4), ("sapi:/sapi/v1/a", 5), ("sapi-uid:/x", 6)],
)
def test_limit_is_that_of_the_pool_or_of_its_family(pool: str, limit: int) -> None:
    assert Limits(spot=1, futures=2, options=3, pm=4, sapi=5, sapi_uid=6).of(pool) == limit


def test_pool_is_closed_until_its_time_and_then_forgotten() -> None:
    egress = Egress(DEFAULT_ROUTE, closed={"spot": Closure(10.0, 429)})
    closure = egress.closure("spot", 9.9)
    assert closure is not None
    assert closure.status == 429
    assert egress.closure("futures", 9.9) is None
    assert egress.closure("spot", 10.0) is None
    assert not egress.closed


def test_ban_of_the_family_outlasts_the_pause_of_one_counter() -> None:
    egress = Egress(DEFAULT_ROUTE, closed={"sapi:/a": Closure(20.0, 429), "sapi": Closure(60.0, 418)})
    first, later = egress.closure("sapi:/a", 1.0), egress.closure("sapi:/a", 30.0)
    assert first == later == Closure(60.0, 418)
    egress.closed["sapi:/a"] = Closure(90.0, 429)
    assert egress.closure("sapi:/a", 30.0) == Closure(90.0, 429)
    assert egress.closure("sapi:/b", 30.0) == Closure(60.0, 418)


def test_key_is_stood_for_by_its_digest_whatever_its_letters() -> None:
    assert key_digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert key_digest("\ud800") == key_digest("?")


# -- quarantine -----------------------------------------------------------------------------------


def test_quarantine_grows_with_every_failure_up_to_its_limit() -> None:
    quarantine = Quarantine()
    pauses = []
    for number in range(9):
        mono = 100.0 * number
        quarantine.fail(mono, mono)
        pauses.append(quarantine.until_mono - mono)
    assert pauses[:3] == [QUARANTINE_FIRST_S, QUARANTINE_FIRST_S * 2, QUARANTINE_FIRST_S * 4]
    assert pauses[-1] == QUARANTINE_MAX_S


def test_calls_sent_before_the_failure_was_known_do_not_make_it_longer() -> None:
    quarantine = Quarantine()
    quarantine.fail(1.0, 2.0)
    for _ in range(20):
        quarantine.fail(1.5, 2.5)
    assert quarantine.until_mono == 2.0 + QUARANTINE_FIRST_S


def test_egress_is_left_alone_for_one_market_or_when_it_failed_itself_for_all() -> None:
    egress = Egress(DEFAULT_ROUTE)
    egress.quarantine[Market.UM] = Quarantine(until_mono=10.0)
    assert egress.is_quarantined(Market.UM, 9.0)
    assert not egress.is_quarantined(Market.SPOT, 9.0)
    assert not egress.is_quarantined(Market.UM, 10.0)
    egress.whole = Quarantine(until_mono=20.0)
    assert all(egress.is_quarantined(market, 15.0) for market in Market)
    assert (egress.due_mono(Market.UM), egress.due_mono(Market.SPOT)) == (20.0, 20.0)


def test_market_that_did_not_answer_a_ping_stays_left_alone_without_a_time() -> None:
    egress = Egress(DEFAULT_ROUTE, down={Market.CM})
    assert egress.is_quarantined(Market.CM, 1e9)
    assert egress.due_mono(Market.CM) == 0.0


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "window_ms", "words"),
    [
        (Market.UM, 60_000, "current limit of IP is 500 requests per minute. "),
        (Market.UM, 300_000, "current limit of IP is 500 requests per 5 minutes. "),
        (Market.CM, 600_000, "current limit of IP is 500 requests per 10 minutes. "),
        (Market.OPTIONS, 5_000, "current limit of IP is 500 requests per minute. "),
        (Market.SPOT, 60_000, "current limit is 500 request weight per 1 MINUTE. "),
        (Market.SPOT, 300_000, "current limit is 500 request weight per 5 MINUTE. "),
    ],
)
def test_refusal_names_the_window_it_is_about(market: Market, window_ms: int, words: str) -> None:
    assert words in limit_text(market, 500, window_ms)


@pytest.mark.parametrize("market", MARKETS)
def test_refusals_are_worded_as_the_exchange_words_its_own(market: Market) -> None:
    # The exchange names the address on futures; the gateway does not tell its clients which one.
    of_limit = wire(market, "http_error_429")["body"]["msg"].replace("IP(127.0.0.1)", "IP")
    assert limit_text(market, 1) == of_limit
    of_ban = wire(market, "http_error_418")["body"]["msg"].replace("IP(127.0.0.1)", "IP")
    until_ms = next(int(word.strip(".")) for word in of_ban.split() if word.strip(".").isdigit())
    assert ban_text(market, until_ms) == of_ban
