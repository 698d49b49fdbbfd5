"""Samples read from the services at a scrape: their names, labels and values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from resender.aio import Clock, Tasks
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.cluster.node_info import NodeInfo
from resender.core.egress.governor import Governor
from resender.core.egress.report import weight_rows
from resender.core.egress.spec import parse_egress
from resender.core.market.close_log import EVENT, READ, CloseLog
from resender.core.weights.rules import Charge
from resender.fanout import Fanout, FanoutOptions, fanout_snapshot
from resender.gauges import (
    Family,
    add_readers,
    cache_families,
    close_families,
    cluster_families,
    savings_family,
    store_families,
    upstream_families,
    weight_families,
)
from resender.metrics import Metrics
from resender.snapshots import AnswerCounts, CloseSnapshot, MarketSnapshot
from resender.upstream.rest import RestStats
from resender.upstream.shared_answers import SharedAnswers

START_MS = 1_790_000_000_000 // 60_000 * 60_000 + 2000


def samples(families: list[Family]) -> dict[tuple[str, ...], float]:
    """Return the samples by name and values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def client(new: int, reused: int, repeats: int = 0) -> SimpleNamespace:
    return SimpleNamespace(stats=RestStats(new, reused, repeats))


def test_connections_of_a_market_are_summed_over_its_egresses() -> None:
    clients = {
        ("a", Market.SPOT): client(1, 10, 2),
        ("b", Market.SPOT): client(3, 20),
        ("a", Market.UM): client(5, 0),
    }
    found = samples(upstream_families([Market.UM, Market.SPOT, Market.PM], clients))
    assert found["resender_upstream_connections_total", "spot", "new"] == 4
    assert found["resender_upstream_connections_total", "spot", "reused"] == 30
    assert found["resender_upstream_repeats_total", "spot"] == 2
    assert found["resender_upstream_connections_total", "um", "new"] == 5
    assert found["resender_upstream_connections_total", "pm", "new"] == 0


def governor() -> Governor:
    specs = parse_egress(["a=127.0.0.2", "b=127.0.0.3;markets=um"])
    return Governor(specs, ExchangeClock.guess(START_MS, 0.0))


def weights(one: Governor, mono: float) -> dict[tuple[str, ...], float]:
    shared = SharedAnswers(lambda: mono)
    shared.joined, shared.shared = 4, 5
    return samples(weight_families(weight_rows(one, mono), one, shared, mono))


def test_weight_and_closed_pools_are_told_for_each_egress() -> None:
    one = governor()
    one.admit(Market.SPOT, Charge(20, "spot"), 1.0)
    grant = one.admit(Market.SPOT, Charge(30, "spot"), 1.0)
    one.answered(grant, 200, None, 1.0)
    one.close_pool(one.by_name["b"], "futures", 418, 60.0)
    found = weights(one, 1.0)
    assert found["resender_weight_reserved", "a", "spot"] == 20
    assert found["resender_weight_used", "a", "spot"] == 30
    assert found["resender_weight_limit", "a", "spot"] == 6000
    assert found["resender_egress_closed_seconds", "a", "spot"] == 0
    assert found["resender_egress_closed_seconds", "b", "futures"] == 59
    assert found["resender_egress_calls_total", "a", "spot"] == 1, "a call under way is not told yet"


def test_only_markets_an_egress_serves_have_samples_of_it() -> None:
    found = weights(governor(), 1.0)
    assert ("resender_egress_usable", "a", "spot") in found
    assert ("resender_egress_usable", "b", "um") in found
    assert ("resender_egress_usable", "b", "spot") not in found


def test_egress_that_is_left_alone_is_not_usable_until_its_pause_is_over() -> None:
    one = governor()
    one.note_failed("a", 1.0, 1.0)
    assert weights(one, 1.1)["resender_egress_usable", "a", "spot"] == 0
    assert weights(one, 31.1)["resender_egress_usable", "a", "spot"] == 1


def test_every_reason_of_a_refusal_and_kind_of_sharing_is_there() -> None:
    one = governor()
    one.refused["weight"] = 2
    one.moved = 3
    found = weights(one, 1.0)
    reasons = {key[1] for key in found if key[0] == "resender_refused_total"}
    assert reasons == set(one.refused)
    assert found["resender_refused_total", "weight"] == 2
    assert found["resender_shared_answers_total", "joined"] == 4
    assert found["resender_shared_answers_total", "shared"] == 5
    assert found["resender_egress_moved_total",] == 3


def test_cache_is_told_by_result_and_by_market() -> None:
    links = tuple(SimpleNamespace(is_live=live) for live in (True, False, True))
    market = MarketSnapshot(
        Market.CM,
        kept=9,
        live=8,
        wanted=4,
        wanted_live=3,
        mutes=7,
        corrected=6,
        witness_reads=5,
        connections=links,
    )
    found = samples(cache_families(AnswerCounts(hits=2, misses=1), [market]))
    assert found == {
        ("resender_cache_answers_total", "hit"): 2,
        ("resender_cache_answers_total", "miss"): 1,
        ("resender_cache_series", "cm"): 9,
        ("resender_cache_series_live", "cm"): 8,
        ("resender_stream_connections", "cm"): 2,
        ("resender_streams_mute_total", "cm"): 7,
        ("resender_candles_corrected_total", "cm"): 6,
        ("resender_witness_reads_total", "cm"): 5,
    }


def test_database_is_told_with_what_it_lost() -> None:
    stats = SimpleNamespace(log_written=5, log_dropped=2, log_queued=1, errors=3, healthy=False)
    found = samples(store_families(stats, 4))
    assert found["resender_log_rows_total", "written"] == 5
    assert found["resender_log_rows_total", "dropped"] == 2
    assert found["resender_database_healthy",] == 0
    assert found["resender_whitelist_entries",] == 4


def test_weight_saved_is_told_by_market_and_kind() -> None:
    saved = {(Market.UM, "klines"): 7, (Market.SPOT, "shared"): 3, (Market.SPOT, "klines"): 2}
    assert samples([savings_family(saved)]) == {
        ("resender_weight_saved_total", "spot", "klines"): 2,
        ("resender_weight_saved_total", "spot", "shared"): 3,
        ("resender_weight_saved_total", "um", "klines"): 7,
    }
    assert samples([savings_family({})]) == {}


def test_nodes_are_up_or_gone_by_name() -> None:
    nodes = [
        NodeInfo("1", "one", is_own=True),
        NodeInfo("2", "two", is_drained=True),
        NodeInfo("3", "two", seen_ms=60_000),
        NodeInfo("4", "gone", seen_ms=60_000),
    ]
    row = {"up": False, "losses": 3}
    cluster = SimpleNamespace(nodes=lambda: nodes, redis_row=lambda: row)
    found = samples(cluster_families(cast(Any, cluster)))
    assert found["resender_redis_up",] == 0
    assert found["resender_redis_losses_total",] == 3
    assert [found["resender_node_up", name] for name in ("one", "two", "gone")] == [1, 1, 0]
    assert [found["resender_node_drained", name] for name in ("one", "two", "gone")] == [0, 1, 0]
    assert samples(cluster_families(None)) == {}


def test_scrape_reads_the_services_as_they_are_then() -> None:
    one, metrics = governor(), Metrics()
    nobody = Fanout(cast(Any, None), FanoutOptions(), clock=Clock(), tasks=Tasks())
    stats = SimpleNamespace(log_written=0, log_dropped=0, log_queued=0, errors=0, healthy=True)
    calls = SimpleNamespace(in_flight=0)
    saved: dict[tuple[Market, str], int] = {}
    services = SimpleNamespace(
        metrics=metrics,
        calls=calls,
        clock=Clock(now_ms=lambda: START_MS, mono=lambda: 1.0),
        cache=None,
        access=SimpleNamespace(whitelist=SimpleNamespace(size=1)),
        store=SimpleNamespace(stats=stats),
        accounts=SimpleNamespace(all=[]),
        alerts=None,
        cluster=None,
        crew=None,
        status=SimpleNamespace(
            weights=lambda: weight_rows(one, 1.0),
            fanout=lambda: fanout_snapshot(nobody),
            slowest=lambda: [{"where": "x.y", "ms": 7.0}],
            saved=lambda: saved,
        ),
        dispatch=SimpleNamespace(
            egress=SimpleNamespace(markets={Market.SPOT}, clients={}, governor=one),
            shared_answers=SharedAnswers(lambda: 1.0),
        ),
    )
    add_readers(cast(Any, services))
    calls.in_flight = 3
    saved[Market.CM, "depth"] = 20
    one.admit(Market.SPOT, Charge(20, "spot"), 1.0)
    text = metrics.render().decode()
    assert "resender_in_flight 3.0" in text
    assert 'resender_weight_reserved{egress="a",pool="spot"} 20.0' in text
    assert "resender_cache_answers" not in text, "there is no cache"
    assert 'resender_stream_clients{kind="market"} 0.0' in text
    assert 'resender_loop_held_seconds{where="x.y"} 0.007' in text
    assert 'resender_weight_saved_total{kind="depth",market="cm"} 20.0' in text, "even without a cache"


def test_last_close_is_named_with_its_figures_in_seconds() -> None:
    log, close_ms = CloseLog("1m"), START_MS - 2000
    log.note(close_ms, "A", close_ms + 105, 3, EVENT, close_ms + 90)
    log.note(close_ms, "B", close_ms + 1600, 3, READ)
    found = samples(
        close_families(
            [CloseSnapshot(Market.UM, "1m", tuple(log.stats())), CloseSnapshot(Market.SPOT, "1m", ())]
        )
    )
    name = "resender_close_settled_seconds"
    assert [found[name, "um", "1m", at] for at in ("first", "p50", "p99", "last")] == [0.105, 0.105, 1.6, 1.6]
    series = {
        how: found["resender_close_series", "um", "1m", how]
        for how in ("event", "read", "witness", "missing")
    }
    assert series == {"event": 1, "read": 1, "witness": 0, "missing": 1}
    assert found["resender_close_event_trip_seconds", "um", "1m"] == 0.015
    assert not [key for key in found if "spot" in key]
