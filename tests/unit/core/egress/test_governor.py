"""Which way takes a call, what closes a pool, and what a refusal says."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import OWN_URGENT, Governor
from resender.core.egress.report import weight_rows
from resender.core.egress.spec import EgressSpec, parse_egress, parse_pins
from resender.core.egress.state import Grant, Limits, limit_text
from resender.core.weights.rules import Charge
from resender.core.weights.table import charge
from resender.core.weights.ws_api import method_charge
from resender.errors import EgressExhausted

START_MS = 1_791_374_400_000.0  # the start of a minute
SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
KEYS = [f"{number:02}key" + "k" * 59 for number in range(40)]
LIMITS = Limits(spot=1000, futures=600, options=100)


def governor(egress: str = "127.0.0.2,127.0.0.3,127.0.0.4", **options: Any) -> Governor:
    pins = parse_pins(options.pop("pins", "").split(",")) if options.get("pins") else None
    values: dict[str, Any] = {"limits": LIMITS, **options}
    return Governor(parse_egress(egress.split(",")), ExchangeClock.guess(START_MS, 0.0), pins=pins, **values)


def get(one: Governor, target: str, mono: float = 5.0, market: Market = SPOT, **options: Any) -> Grant:
    path, _, query = target.partition("?")
    method = options.pop("method", "GET")
    return one.admit(market, charge(market, method, path, query), mono, **options)


def refused(one: Governor, target: str, mono: float = 5.0, **options: Any) -> EgressExhausted:
    with pytest.raises(EgressExhausted) as caught:
        get(one, target, mono, **options)
    return caught.value


TRADES = "/api/v3/trades?symbol=BTCUSDT"  # 25
ACCOUNT = "/api/v3/account"  # 20
UM_TRADES = "/fapi/v1/trades?symbol=BTCUSDT"  # 5


# -- choosing -------------------------------------------------------------------------------------


def test_unsigned_calls_spread_over_all_ways_and_use_up_each() -> None:
    one = governor()
    taken: dict[str, int] = {}
    with pytest.raises(EgressExhausted):
        while True:
            grant = get(one, TRADES)
            taken[grant.egress.name] = taken.get(grant.egress.name, 0) + grant.charge.weight
    assert taken == {"127.0.0.2": 900, "127.0.0.3": 900, "127.0.0.4": 900}


def test_a_key_always_has_the_same_way_also_after_a_restart() -> None:
    big = Limits(spot=100_000)
    first, second = governor(limits=big), governor("127.0.0.4,127.0.0.3,127.0.0.2", limits=big)
    for key in KEYS:
        names = {get(one, ACCOUNT, 5.0 + n, key=key).egress.name for one in (first, second) for n in range(3)}
        assert len(names) == 1


def test_keys_spread_over_the_ways() -> None:
    one = governor(limits=Limits(spot=100_000))
    names = [get(one, ACCOUNT, key=key).egress.name for key in KEYS]
    assert all(names.count(f"127.0.0.{n}") >= 5 for n in (2, 3, 4))


def test_a_new_way_takes_over_only_a_part_of_the_keys() -> None:
    before, after = (
        governor("127.0.0.2,127.0.0.3", limits=Limits(spot=100_000)),
        governor("127.0.0.2,127.0.0.3,127.0.0.4", limits=Limits(spot=100_000)),
    )
    for key in KEYS:
        old, new = get(before, ACCOUNT, key=key).egress.name, get(after, ACCOUNT, key=key).egress.name
        assert new in (old, "127.0.0.4")


def test_a_pinned_key_has_its_way_whatever_happens() -> None:
    digest = hashlib.sha256(KEYS[1].encode()).hexdigest()
    for egress in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        one = governor(pins=f"{KEYS[0][:8]}={egress},sha256:{digest}={egress}")
        for key in KEYS[:2]:
            grant = get(one, ACCOUNT, key=key)
            assert grant.egress.name == egress
            one.unreachable(grant, 5.0)
            assert not one.may_move(SPOT, key, [grant.egress])
            assert get(one, ACCOUNT, 5.1, key=key).egress.name == egress


def test_an_unpinned_key_moves_only_while_its_way_cannot_connect() -> None:
    one = governor()
    home = get(one, ACCOUNT, key="k").egress
    one.unreachable(get(one, ACCOUNT, key="k"), 5.0)
    assert one.may_move(SPOT, "k", [home])
    assert get(one, ACCOUNT, 5.1, key="k", excluding=[home]).egress is not home
    assert get(one, ACCOUNT, 5.1, key="k").egress is not home
    trial = get(one, ACCOUNT, 6.0, key="k")
    assert trial.egress is home
    # One call tries; until it has been answered the others do not wait for the same failure.
    assert get(one, ACCOUNT, 6.1, key="k").egress is not home
    one.answered(trial, 200, None, 6.2)
    # A call that was sent and lost moves no key.
    one.lost(get(one, ACCOUNT, 6.2, key="k"), 6.2)
    assert get(one, ACCOUNT, 6.2, key="k").egress is home
    # Nor does a way that is full or closed give its keys away.
    one.close_pool(home, "spot", 429, 60.0)
    assert refused(one, ACCOUNT, 6.2, key="k").answer.status == 429


def test_a_way_set_aside_comes_back_with_a_growing_pause_and_is_forgiven_by_an_answer() -> None:
    one = governor()
    bad = one.egresses[0]
    mono, pauses = 10.0, []
    for _ in range(9):
        grant = one.admit(SPOT, Charge(0, "spot"), mono, excluding=one.egresses[1:])
        assert grant.egress is bad
        one.unreachable(grant, mono)
        pauses.append(bad.quarantine[SPOT].until_mono - mono)
        assert get(one, TRADES, mono + pauses[-1] - 0.01).egress is not bad
        mono = bad.quarantine[SPOT].until_mono
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    one.answered(one.admit(SPOT, Charge(0, "spot"), mono, excluding=one.egresses[1:]), 200, None, mono)
    assert not bad.quarantine
    assert not bad.is_quarantined(SPOT, mono)


def test_unsigned_calls_avoid_a_way_that_lost_a_call_until_it_answers() -> None:
    one = governor()
    grant = get(one, TRADES)
    bad = grant.egress.name
    other = next(each for each in (get(one, TRADES) for _ in range(9)) if each.egress is grant.egress)
    assert one.lost(grant, 6.0)
    assert not one.lost(other, 6.0)  # known by now
    assert {row["state"] for row in weight_rows(one, 6.0) if row["egress"] == bad} == {"set_aside"}
    assert bad not in {get(one, TRADES, 100.0).egress.name for _ in range(9)}
    home = [
        key for key in KEYS if one._order_for(SPOT, key, hashlib.sha256(key.encode()).digest())[0].name == bad
    ]
    trial = get(one, ACCOUNT, 100.0, key=home[0])
    assert trial.egress.name == bad
    one.answered(trial, 200, None, 100.0)
    assert bad in {get(one, TRADES, 100.0).egress.name for _ in range(9)}


def test_keys_leave_a_way_that_does_not_answer_pings_either_and_come_home() -> None:
    one = governor()
    home = get(one, ACCOUNT, key="k").egress
    one.died(home, SPOT)  # not in doubt: answered meanwhile
    assert get(one, ACCOUNT, key="k").egress is home
    one.lost(get(one, ACCOUNT, key="k"), 6.0)
    one.died(home, SPOT)
    assert get(one, ACCOUNT, 500.0, key="k").egress is not home
    assert get(one, UM_TRADES, 500.0, market=UM, key="k").egress is home
    ping = one.admit(
        SPOT,
        Charge(1, "spot"),
        500.0,
        priority=OWN_URGENT,
        excluding=[egress for egress in one.egresses if egress is not home],
    )
    assert ping.egress is home
    one.answered(ping, 200, None, 500.0)
    assert get(one, ACCOUNT, 500.0, key="k").egress is home


def test_when_every_way_has_lost_calls_all_are_used_on() -> None:
    one = governor()
    for grant in [get(one, TRADES) for _ in range(9)]:
        one.lost(grant, 6.0)
    assert len({get(one, TRADES, 6.1).egress.name for _ in range(9)}) == 3


def test_an_only_way_is_never_in_doubt() -> None:
    one = governor("127.0.0.2")
    assert not one.lost(get(one, TRADES), 6.0)
    assert get(one, TRADES, 6.0).egress.name == "127.0.0.2"


def test_one_call_tries_a_way_that_could_not_connect() -> None:
    one = governor()
    bad = one.egresses[0]
    one.unreachable(get(one, TRADES, 5.0, excluding=one.egresses[1:]), 5.0)
    names = [get(one, TRADES, 6.0).egress.name for _ in range(12)]
    assert names.count(bad.name) == 1
    # The one that tried was given up by its client: another may try later.
    assert bad.name not in {get(one, TRADES, 10.9).egress.name for _ in range(9)}
    assert [get(one, TRADES, 11.1).egress.name for _ in range(9)].count(bad.name) == 1


def test_a_gateway_behind_that_has_no_weight_left_gets_no_more_reads_in_this_window() -> None:
    one = governor("127.0.0.2")
    grant = get(one, TRADES)
    one.answered(grant, 429, None, 5.0)
    one.fill(grant, 5.0)
    assert refused(one, "/api/v3/ping").answer.status == 429
    get(one, "/api/v3/order", method="POST", key="k")
    get(one, TRADES, 61.1)


def test_many_calls_that_fail_at_once_lengthen_the_pause_once() -> None:
    one = governor()
    grants = [get(one, TRADES, 5.0) for _ in range(30)]
    mine = [grant for grant in grants if grant.egress is one.egresses[0]]
    assert len(mine) > 5
    for grant in mine:
        one.unreachable(grant, 7.0)
    assert one.egresses[0].quarantine[SPOT].until_mono == 7.5


def test_a_call_that_was_not_sent_costs_nothing() -> None:
    one = governor("127.0.0.2")
    grant = get(one, "/fapi/v1/fundingRate", market=UM)
    one.unreachable(grant, 5.0)
    assert one.used(UM, "futures", 5.0) == 0
    assert one.egresses[0].rolling["um-funding"].spent(5.0) == 0


def test_markets_of_a_way_are_respected() -> None:
    one = governor("a=127.0.0.2;markets=spot,b=127.0.0.3;markets=um+cm")
    assert {get(one, TRADES).egress.name for _ in range(5)} == {"a"}
    assert {get(one, UM_TRADES, market=UM).egress.name for _ in range(5)} == {"b"}
    assert {get(one, ACCOUNT, key=key).egress.name for key in KEYS[:5]} == {"a"}


# -- refusals -------------------------------------------------------------------------------------


@given(mono=st.floats(0.0, 500.0))
def test_the_wait_of_a_refusal_leads_into_the_next_window(mono: float) -> None:
    one = governor("127.0.0.2")
    mono += 2.0
    with pytest.raises(EgressExhausted) as caught:
        while True:
            get(one, TRADES, mono)
    wait_s = caught.value.retry_after_s
    assert 1 <= wait_s <= 61
    assert caught.value.answer.status == 429
    assert caught.value.msg == limit_text(SPOT, 1000)
    for grant_at in (mono + wait_s, mono + wait_s + 1):
        assert one.egresses[0].budgets["spot"].window * 60_000 + 60_000 <= one.clock.low_ms(grant_at)
    # What is still under way counts on; all of it came back, and now there is room.
    one.egresses[0].budgets["spot"].reserved = 0
    get(one, TRADES, mono + wait_s)


def test_a_429_closes_one_pool_of_one_way() -> None:
    one = governor()
    grant = get(one, TRADES)
    one.close(grant, 429, 30.0, 5.0)
    assert grant.egress.name not in {get(one, TRADES).egress.name for _ in range(20)}
    assert grant.egress.name in {get(one, UM_TRADES, market=UM).egress.name for _ in range(20)}
    assert one.closed_s(SPOT, "spot", 5.0) == 0.0
    assert grant.egress.name in {get(one, TRADES, 35.1).egress.name for _ in range(20)}


@pytest.mark.parametrize("first", [UM, CM])
def test_a_ban_on_one_futures_host_closes_both_and_nothing_else(first: Market) -> None:
    one = governor("127.0.0.2")
    target = UM_TRADES if first is UM else UM_TRADES.replace("/fapi", "/dapi")
    one.close(get(one, target, market=first), 418, 300.0, 5.0)
    for market, path in ((UM, "/fapi/v1/ping"), (CM, "/dapi/v1/ping")):
        error = refused(one, path, 6.5, market=market)
        assert (error.answer.status, error.answer.code, error.retry_after_s) == (418, -1003, 299)
        assert "banned until 17913747" in error.msg
    get(one, TRADES, 6.5)
    get(one, "/eapi/v1/ping", 6.5, market=Market.OPTIONS)
    get(one, "/fapi/v1/ping", 305.1, market=UM)


def test_a_ban_of_one_sapi_path_closes_all_of_sapi_and_a_429_only_that_path() -> None:
    one = governor("127.0.0.2")
    first, second = "/sapi/v1/system/status", "/sapi/v1/capital/config/getall"
    one.close(get(one, first), 429, 10.0, 5.0)
    assert refused(one, first).answer.status == 429
    get(one, second)
    one.close(get(one, second), 418, 100.0, 5.0)
    assert refused(one, first).answer.status == 418
    assert refused(one, "/sapi/v1/never/heard/of").answer.status == 418
    get(one, TRADES)
    get(one, first, 105.1)


def test_a_pause_that_was_only_guessed_can_be_taken_back() -> None:
    one = governor("127.0.0.2")
    first, second = get(one, TRADES), get(one, TRADES)
    one.close(first, 429, 10.0, 5.0)
    undo = one.close(second, 418, 120.0, 5.0)
    undo()
    undo()
    assert refused(one, TRADES, 6.0).retry_after_s == 9
    assert refused(one, TRADES, 6.0).answer.status == 429
    undo = one.close(second, 418, 120.0, 5.0)
    one.close(first, 418, 500.0, 5.0)  # meanwhile something longer came
    undo()
    assert refused(one, TRADES, 6.0).retry_after_s == 499


def test_a_shorter_pause_never_shortens_a_longer_one() -> None:
    one = governor("127.0.0.2")
    first, second = get(one, TRADES), get(one, TRADES)
    one.close(first, 418, 100.0, 5.0)
    one.close(second, 429, 10.0, 6.0)
    error = refused(one, TRADES, 50.0)
    assert (error.answer.status, error.retry_after_s) == (418, 55)


def test_two_ways_of_which_one_is_banned_are_refused_for_weight() -> None:
    one = governor("127.0.0.2,127.0.0.3")
    one.close(get(one, TRADES), 418, 100.0, 5.0)
    with pytest.raises(EgressExhausted) as caught:
        while True:
            get(one, TRADES)
    assert (caught.value.answer.status, caught.value.retry_after_s) == (429, 57)


def test_orders_of_one_key_can_be_paused_alone() -> None:
    one = governor("127.0.0.2")
    one.pause_orders("k1", "spot", 15.0)
    order = {"method": "POST"}
    assert refused(one, "/api/v3/order", key="k1", **order).retry_after_s == 10
    get(one, "/api/v3/order", key="k2", **order)
    get(one, ACCOUNT, key="k1")
    get(one, "/fapi/v1/order", market=UM, key="k1", **order)
    get(one, "/api/v3/order", 15.0, key="k1", **order)


def test_orders_of_usd_m_are_paused_over_both_ways() -> None:
    one = governor("127.0.0.2")
    order = method_charge(UM, "order.place", {})
    one.pause_orders("k1", "futures", 15.0)
    with pytest.raises(EgressExhausted):
        one.admit(UM, order, 5.0, key="k1")
    one.admit(UM, order, 5.0, key="k2")
    one.pause_orders("k2", order.pool, 15.0)
    assert refused(one, "/fapi/v1/order", market=UM, key="k2", method="POST").retry_after_s == 10


def test_the_allowance_of_five_minutes_is_kept_beside_the_weight() -> None:
    one = governor("127.0.0.2", limits=Limits(futures=1_000_000))
    for number in range(500):
        get(one, "/fapi/v1/fundingRate", 5.0 + number / 10, market=UM)
    error = refused(one, "/fapi/v1/fundingInfo", 60.0, market=UM)
    assert 240 <= error.retry_after_s <= 320
    assert error.msg.startswith("Too many requests; current limit of IP is 500 requests per 5 minutes. ")
    get(one, "/fapi/v1/ping", 60.0, market=UM)
    get(one, "/fapi/v1/fundingInfo", 60.0 + error.retry_after_s, market=UM)


def test_own_reads_come_last() -> None:
    one = governor("127.0.0.2")
    with pytest.raises(EgressExhausted):
        while True:
            one.admit(SPOT, Charge(1, "spot"), 5.0, priority=OWN_URGENT)
    assert one.used(SPOT, "spot", 5.0) == 855
    get(one, TRADES)


# -- limits ---------------------------------------------------------------------------------------


def test_a_limit_that_was_told_counts_at_once_and_for_pools_not_used_yet() -> None:
    one = governor("127.0.0.2,127.0.0.3")
    get(one, TRADES)
    one.set_limit("spot", 100)
    one.set_limit("futures", 50)
    one.set_limit("futures", 0)  # not a limit
    assert [one.limit("spot"), one.limit("futures"), one.limit("options")] == [100, 50, 100]
    with pytest.raises(EgressExhausted, match="current limit is 100 request weight per 1 MINUTE"):
        for _ in range(7):
            get(one, TRADES)
    with pytest.raises(EgressExhausted, match="current limit of IP is 50 requests per minute"):
        for _ in range(19):
            get(one, UM_TRADES, market=UM)


# -- fair shares ----------------------------------------------------------------------------------


def test_a_greedy_client_gets_its_share_and_no_more() -> None:
    one = governor(client_share=0.25)
    with pytest.raises(EgressExhausted) as caught:
        while True:
            get(one, TRADES, client="10.0.0.1")
    assert sum(egress.budgets["spot"].spent(one.clock.low_ms(5.0)) for egress in one.egresses) == 750
    assert caught.value.retry_after_s == 57
    get(one, TRADES, client="10.0.0.2")
    get(one, "/api/v3/order", method="POST", key="k", client="10.0.0.1")
    get(one, UM_TRADES, market=UM, client="10.0.0.1")
    get(one, TRADES, 61.1, client="10.0.0.1")
    assert [row["ip"] for row in one.clients.status(0)][-1] == "10.0.0.2"
    assert next(row for row in one.clients.status(0) if row["ip"] == "10.0.0.1")["refused"] == 1


def test_the_share_holds_for_keyed_calls_on_whatever_way_and_while_a_way_is_closed() -> None:
    one = governor(client_share=0.1, limits=Limits(spot=6000))
    keys = [key for key in KEYS if get(one, ACCOUNT, 5.0, key=key).egress is not one.egresses[0]]
    for mono in (65.0, 125.0, 185.0):  # nothing is asked of the first way in these minutes
        one.close_pool(one.egresses[0], "spot", 429, mono + 30)
        used = 0
        with pytest.raises(EgressExhausted):
            for number in range(200):
                get(one, ACCOUNT, mono, key=keys[number % len(keys)], client="10.0.0.1")
                used += 20
        assert used == 1800


# -- across a restart -----------------------------------------------------------------------------

closures = st.lists(
    st.tuples(
        st.sampled_from(["127.0.0.2", "127.0.0.3", "127.0.0.4"]),
        st.sampled_from(["spot", "futures", "options", "pm", "sapi", "sapi:/sapi/v1/system/status"]),
        st.sampled_from([418, 429]),
        st.floats(-10, 300_000),
    ),
    max_size=12,
)


@given(rows=closures, later_s=st.floats(0, 1000), mono=st.floats(0, 1e6))
def test_what_is_closed_survives_being_written_down(
    rows: list[tuple[str, str, int, float]], later_s: float, mono: float
) -> None:
    one = governor()
    for name, pool, status, left_s in rows:
        one.close_pool(one.by_name[name], pool, status, 50.0 + left_s)
    text = json.dumps(one.dump(50.0, int(START_MS)))
    two = governor()
    count = two.load(json.loads(text), mono, int(START_MS + later_s * 1000))
    left = 0
    for egress in one.egresses:
        for pool, closure in egress.closed.items():
            expected = closure.until_mono - 50.0 - later_s
            found = two.by_name[egress.name].closed.get(pool)
            if expected > 0.01:
                assert found is not None
                assert found.status == closure.status
                assert found.until_mono - mono == pytest.approx(expected, abs=0.01)
                left += 1
            elif expected < -0.01:
                assert found is None
    assert count >= left


def test_rows_that_cannot_be_read_and_ways_that_are_gone_are_left_out() -> None:
    one = governor()
    row = {"egress": "127.0.0.2", "pool": "spot", "status": 418, "until_ms": int(START_MS) + 60_000}
    rows: list[dict[str, Any]] = [
        {},
        {**row, "egress": "gone"},
        {**row, "until_ms": "soon"},
        {**row, "status": None},
    ]
    assert one.load(rows, 0.0, int(START_MS)) == 0
    assert one.load([row], 0.0, int(START_MS)) == 1


# -- what others see ------------------------------------------------------------------------------


def test_status_tells_closed_banned_set_aside_and_problems() -> None:
    one = governor("127.0.0.2,127.0.0.3")
    grant = get(one, TRADES)
    one.answered(grant, 451, 25, 5.0)
    one.close_pool(one.egresses[1], "futures", 418, 65.0)
    rows = {(row["egress"], row["pool"]): row for row in weight_rows(one, 5.0)}
    spot = rows[grant.egress.name, "spot"]
    assert (spot["state"], spot["problem"], spot["used"], spot["limit"]) == ("ok", "region", 25, 1000)
    banned = rows["127.0.0.3", "futures"]
    assert (banned["state"], banned["closed_s"], banned["closed_status"]) == ("banned", 60, 418)
    assert banned["markets"] == ["um", "cm"]
    one.answered(
        get(one, TRADES, excluding=[w for w in one.egresses if w is not grant.egress]), 403, None, 5.0
    )
    assert {row["problem"] for row in weight_rows(one, 5.0) if row["pool"] == "spot"} == {"waf", ""}
    one.answered(
        get(one, TRADES, excluding=[w for w in one.egresses if w is not grant.egress]), 200, None, 5.0
    )
    one.unreachable(get(one, TRADES, excluding=[w for w in one.egresses if w is not grant.egress]), 5.0)
    spot = {(row["egress"], row["pool"]): row for row in weight_rows(one, 5.0)}[grant.egress.name, "spot"]
    assert (spot["state"], spot["problem"]) == ("set_aside", "unreachable")


def test_no_key_and_nothing_made_of_it_is_shown() -> None:
    one = governor(pins=f"{KEYS[0][:8]}=127.0.0.2")
    for key in KEYS[:3]:
        get(one, ACCOUNT, key=key)
        get(one, "/sapi/v1/account/apiRestrictions", key=key)
        get(one, "/sapi/v1/asset/wallet/balance", key=key)
        get(one, "/sapi/v1/convert/getQuote", method="POST", key=key)
        one.pause_orders(key, "spot", 50.0)
    one.close_pool(one.egresses[0], "spot", 418, 100.0)
    shown = json.dumps([weight_rows(one, 5.0), one.dump(5.0, 0), one.clients.status(0), list(one.refused)])
    for key in KEYS[:3]:
        assert key[:8] not in shown
        assert hashlib.sha256(key.encode()).hexdigest()[:8] not in shown


def test_specs_hide_their_passwords() -> None:
    (spec,) = parse_egress(["http://user:secret@127.0.0.1:8080"])
    assert isinstance(spec, EgressSpec)
    assert "secret" not in repr(governor_of(spec).egresses)


def governor_of(spec: EgressSpec) -> Governor:
    return Governor([spec], ExchangeClock.guess(START_MS, 0.0))
