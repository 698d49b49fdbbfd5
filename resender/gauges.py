"""Samples that are read from the services when somebody scrapes /metrics.

It asks and names; it counts nothing itself and holds no state. What it is given are the
services of `Gateway`, of which it reads public attributes only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from resender.account_gauges import account_families
from resender.alerts import Alerts
from resender.core.alerts.kinds import KINDS
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.fanout import FanoutSnapshot
from resender.services import Services
from resender.snapshots import AnswerCounts, CloseSnapshot, MarketSnapshot
from resender.upstream.shared_answers import SharedAnswers
from resender.workers import Crew

if TYPE_CHECKING:
    from resender.cluster import Cluster

Family = CounterMetricFamily | GaugeMetricFamily


def add_readers(services: Services) -> None:
    """Let the metrics of a gateway read its services at every scrape."""
    metrics, calls, status, cache = services.metrics, services.calls, services.status, services.cache
    egress, store, access = services.dispatch.egress, services.store, services.access
    shared_answers, clock = services.dispatch.shared_answers, services.clock

    def read() -> list[Family]:
        families = upstream_families(egress.markets, egress.clients)
        families += weight_families(status.weights(), egress.governor, shared_answers, clock.mono())
        if cache is not None:
            families += cache_families(status.answers(), status.markets())
            families += close_families(status.closes())
        families.append(savings_family(status.saved()))
        families += account_families(services.accounts.all)
        families += cluster_families(services.cluster)
        families += alert_families(services.alerts)
        families += worker_families(services.crew)
        families += fanout_families(status.fanout(), status.slowest())
        return families + store_families(store.stats, access.whitelist.size)

    metrics.in_flight.set_function(lambda: calls.in_flight)
    metrics.add_reader(read)


def upstream_families(markets: Iterable[Market], clients: Mapping[tuple[str, Market], Any]) -> list[Family]:
    """Read the connections to the upstreams.

    Shape: `clients` by (name of the egress, market), each a `RestClient`.
    """
    connections = CounterMetricFamily(
        "resender_upstream_connections",
        "Calls by market, on a new or a kept upstream connection.",
        labels=["market", "kind"],
    )
    repeats = CounterMetricFamily(
        "resender_upstream_repeats",
        "GET calls sent a second time because a kept connection proved dead.",
        labels=["market"],
    )
    for market in sorted(markets):
        stats = [client.stats for (_, served), client in clients.items() if served is market]
        connections.add_metric([market.value, "new"], sum(each.connections_new for each in stats))
        connections.add_metric([market.value, "reused"], sum(each.connections_reused for each in stats))
        repeats.add_metric([market.value], sum(each.repeats for each in stats))
    return [connections, repeats]


def weight_families(
    rows: list[dict[str, Any]], governor: Governor, shared_answers: SharedAnswers, mono: float
) -> list[Family]:
    """Read the weights of all egresses, what was refused here and what was shared."""
    labels = ["egress", "pool"]
    used = GaugeMetricFamily("resender_weight_used", "Weight used in this minute.", labels=labels)
    reserved = GaugeMetricFamily("resender_weight_reserved", "Weight of calls under way.", labels=labels)
    limit = GaugeMetricFamily("resender_weight_limit", "Weight allowed a minute.", labels=labels)
    closed = GaugeMetricFamily(
        "resender_egress_closed_seconds",
        "Seconds until a pool closed after a 429 or 418 opens again; 0 = open.",
        labels=labels,
    )
    for row in rows:
        names = [row["egress"], row["pool"]]
        used.add_metric(names, row["used"])
        reserved.add_metric(names, row["reserved"])
        limit.add_metric(names, row["limit"])
        closed.add_metric(names, row["closed_s"])
    calls = CounterMetricFamily(
        "resender_egress_calls", "Calls by egress and market.", labels=["egress", "market"]
    )
    usable = GaugeMetricFamily(
        "resender_egress_usable", "0 while an egress is set aside because it cannot connect, else 1.",
        labels=["egress", "market"],
    )  # fmt: skip
    for egress in governor.egresses:
        for market in Market:
            if egress.spec.serves(market):
                calls.add_metric([egress.name, market.value], egress.calls.get(market, 0))
                usable.add_metric([egress.name, market.value], int(not egress.is_quarantined(market, mono)))
    refused = CounterMetricFamily(
        "resender_refused", "Calls refused here before anything was sent, by reason.", labels=["reason"]
    )
    for reason, count in governor.refused.items():
        refused.add_metric([reason], count)
    shared = CounterMetricFamily(
        "resender_shared_answers", "Calls answered by another call's answer.", labels=["kind"]
    )
    shared.add_metric(["joined"], shared_answers.joined)
    shared.add_metric(["shared"], shared_answers.shared)
    moved = CounterMetricFamily(
        "resender_egress_moved", "Calls that could not be sent and were tried on another egress.",
        governor.moved,
    )  # fmt: skip
    return [used, reserved, limit, closed, calls, usable, refused, shared, moved]


def savings_family(saved: Mapping[tuple[str, str], int]) -> Family:
    """Name the weight that answers out of memory have saved."""
    family = CounterMetricFamily(
        "resender_weight_saved",
        "Weight that calls answered out of memory would have cost, by market and kind of data.",
        labels=["market", "kind"],
    )
    for (market, kind), weight in sorted(saved.items()):
        family.add_metric([market, kind], weight)
    return family


def cache_families(counts: AnswerCounts, markets: Iterable[MarketSnapshot]) -> list[Family]:
    """Name what the market cache has done and keeps."""
    answers = CounterMetricFamily(
        "resender_cache_answers", "Calls the cache was asked for, by result.", labels=["result"]
    )
    answers.add_metric(["hit"], counts.hits)
    answers.add_metric(["miss"], counts.misses)
    series = GaugeMetricFamily("resender_cache_series", "Series and tickers kept.", labels=["market"])
    live = GaugeMetricFamily(
        "resender_cache_series_live", "Series and tickers that can answer.", labels=["market"]
    )
    connections = GaugeMetricFamily(
        "resender_stream_connections", "Stream connections that are live.", labels=["market"]
    )
    mute = CounterMetricFamily(
        "resender_streams_mute", "Streams that brought nothing although there was news.", labels=["market"]
    )
    corrected = CounterMetricFamily(
        "resender_candles_corrected",
        "Candles a REST read had settled and a late final event corrected.",
        labels=["market"],
    )
    witness = CounterMetricFamily(
        "resender_witness_reads",
        "REST reads that compared the quiet book tickers of a market.",
        labels=["market"],
    )
    for each in markets:
        market = [each.market.value]
        series.add_metric(market, each.kept)
        live.add_metric(market, each.live)
        connections.add_metric(market, each.live_connections)
        mute.add_metric(market, each.mutes)
        corrected.add_metric(market, each.corrected)
        witness.add_metric(market, each.witness_reads)
    return [answers, series, live, connections, mute, corrected, witness]


def close_families(snapshots: Iterable[CloseSnapshot]) -> list[Family]:
    """Name what became of the last close of each market and interval."""
    labels = ["market", "interval"]
    after = GaugeMetricFamily(
        "resender_close_settled_seconds",
        "Seconds after the last close at which its candles were final here: first, p50, p99, last.",
        labels=[*labels, "at"],
    )
    series = GaugeMetricFamily(
        "resender_close_series",
        "Series of the last close: settled by an event, a REST read or the witness, or missing.",
        labels=[*labels, "how"],
    )
    trip = GaugeMetricFamily(
        "resender_close_event_trip_seconds",
        "Median of what the final events of the last close took to arrive.",
        labels=labels,
    )
    for each in snapshots:
        if not each.closes:
            continue
        close, names = each.closes[0], [each.market.value, each.interval]
        figures = (close.first_ms, close.p50_ms, close.p99_ms, close.last_ms)
        for at, value in zip(("first", "p50", "p99", "last"), figures, strict=True):
            if value is not None:
                after.add_metric([*names, at], value / 1000)
        for how in ("event", "read", "witness"):
            series.add_metric([*names, how], getattr(close, f"by_{how}"))
        series.add_metric([*names, "missing"], close.missing)
        if close.trip_p50_ms is not None:
            trip.add_metric(names, close.trip_p50_ms / 1000)
    return [after, series, trip]


def worker_families(crew: Crew | None) -> list[Family]:
    """Read which workers of this node are there; the one that shows them is."""
    up = GaugeMetricFamily(
        "resender_worker_up", "1 while a worker of this node is there, else 0.", labels=["worker"]
    )
    up.add_metric(["0"], 1)
    for row in crew.rows() if crew is not None else ():
        up.add_metric([str(row["number"])], int(row["up"]))
    return [up]


def fanout_families(snapshot: FanoutSnapshot, slowest: list[dict[str, Any]]) -> list[Family]:
    """Name who listens to streams, what they got, and what held the event loop."""
    counts = snapshot.counts
    clients = GaugeMetricFamily(
        "resender_stream_clients",
        "Connections of clients that last: market streams, closes, relayed WebSockets (user data, WebSocket API), "
        "tunnels of CONNECT.",
        labels=["kind"],
    )
    for kind in ("market", "closes", "relay", "tunnel"):
        clients.add_metric([kind], sum(client.kind == kind for client in snapshot.clients))
    ended = CounterMetricFamily(
        "resender_stream_clients_ended",
        "Clients of streams that were closed here: they read too slowly, or the upstream lost events.",
        labels=["reason"],
    )
    ended.add_metric(["slow"], counts["closed_slow"])
    ended.add_metric(["lost"], counts["closed_lost"])
    queue = sum(client.queue for client in snapshot.clients)
    events = counts["events_in"]
    held = GaugeMetricFamily(
        "resender_loop_held_seconds",
        "Longest time the event loop was held, by what held it.",
        labels=["where"],
    )
    for each in slowest:
        held.add_metric([each["where"]], each["ms"] / 1000)
    return [
        clients,
        ended,
        held,
        GaugeMetricFamily(
            "resender_client_streams", "Upstream streams held for clients.", value=snapshot.streams
        ),
        CounterMetricFamily("resender_stream_events", "Events of streams that came for clients.", events),
        CounterMetricFamily(
            "resender_stream_duplicates",
            "Events that came twice and were passed on once.",
            counts["duplicates"],
        ),
        CounterMetricFamily(
            "resender_stream_gaps", "Times that events were missing in a stream.", counts["gaps"]
        ),
        CounterMetricFamily(
            "resender_stream_frames", "Frames of market streams for clients.", counts["frames_out"]
        ),
        CounterMetricFamily(
            "resender_stream_bytes", "Bytes written to clients of streams.", counts["bytes_out"]
        ),
        CounterMetricFamily(
            "resender_stream_dropped",
            "Frames left out for clients that read too slowly, where a newer one made them worthless.",
            counts["dropped"],
        ),
        CounterMetricFamily(
            "resender_stream_refused", "Clients refused because there were too many.", counts["refused"]
        ),
        GaugeMetricFamily("resender_stream_queued_bytes", "Bytes that wait for slow clients.", value=queue),
        GaugeMetricFamily(
            "resender_stream_fanout_ratio",
            "Frames for clients to each event that came, since the start.",
            value=counts["frames_out"] / events if events else 0.0,
        ),
    ]


def cluster_families(cluster: Cluster | None) -> list[Family]:
    """Name the link to Redis and the nodes; without Redis there are no samples."""
    link = GaugeMetricFamily("resender_redis_up", "1 while Redis answers, else 0.", labels=[])
    losses = CounterMetricFamily("resender_redis_losses", "Times that Redis was lost.", labels=[])
    up = GaugeMetricFamily(
        "resender_node_up",
        "1 for a node that has said so in the last 6 s, 0 for one that has gone without a word since; this node too.",
        labels=["node"],
    )
    drained = GaugeMetricFamily("resender_node_drained", "1 for a node that is drained.", labels=["node"])
    if cluster is not None:
        row = cluster.redis_row()
        link.add_metric([], int(row["up"]))
        losses.add_metric([], row["losses"])
        nodes = cluster.nodes()
        for name in sorted({node.name for node in nodes}):
            named = [node for node in nodes if node.name == name]
            up.add_metric([name], int(any(node.is_up for node in named)))
            drained.add_metric([name], int(any(node.is_drained for node in named)))
    return [link, losses, up, drained]


def alert_families(alerts: Alerts | None) -> list[Family]:
    """Tell what is wrong now, and what the looks for it have measured."""
    in_force = GaugeMetricFamily("resender_alerts", "Alerts in force, by kind.", labels=["kind"])
    off = GaugeMetricFamily(
        "resender_clock_off_seconds",
        "How far this machine's clock is off for certain, as the exchange tells it.",
    )
    free = GaugeMetricFamily("resender_disk_free_bytes", "What is free on the disk of DATA_DIR.")
    if alerts is not None:
        counts = Counter(each.finding.kind for each in alerts.in_force)
        for kind in KINDS.values():
            if kind.has_end:
                in_force.add_metric([kind.name], counts[kind.name])
        off.add_metric([], alerts.watch.clock_off_ms / 1000)
        if (free_mb := alerts.watch.free_mb) is not None:
            free.add_metric([], free_mb * 1_000_000)
    return [in_force, off, free]


def store_families(stats: Any, whitelist_size: int) -> list[Family]:
    """Read the database.

    Shape: `stats` is a `StoreStats`.
    """
    rows = CounterMetricFamily(
        "resender_log_rows", "Rows of the request log, written or dropped.", labels=["result"]
    )
    rows.add_metric(["written"], stats.log_written)
    rows.add_metric(["dropped"], stats.log_dropped)
    return [
        rows,
        GaugeMetricFamily("resender_log_queued", "Log rows waiting for the database.", stats.log_queued),
        CounterMetricFamily("resender_database_errors", "Failed database operations.", stats.errors),
        GaugeMetricFamily(
            "resender_database_healthy", "1 while the database works, else 0.", int(stats.healthy)
        ),
        GaugeMetricFamily("resender_whitelist_entries", "Whitelist entries in force.", whitelist_size),
    ]
