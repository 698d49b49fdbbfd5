"""The figures under /metrics, in Prometheus' text form.

It counts what others tell it and decides nothing. One `Metrics` belongs to one `Gateway`;
there is no global registry. Names follow `resender_<noun>_<what>_<unit>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from resender import __version__
from resender.core.binance.markets import Market
from resender.core.timeline import Tally
from resender.errors import ANSWERS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a cache answer on the same continent to Binance's own time-out.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_LAG_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)
# Gauges of which a node has as much as all its workers together; of the others the collector's own is told.
_SUMMED = frozenset(
    {
        "resender_weight_used", "resender_weight_reserved", "resender_in_flight", "resender_stream_clients",
        "resender_client_streams", "resender_stream_queued_bytes", "resender_log_queued",
    }
)  # fmt: skip
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})


class _Reader(Collector):
    """Asks a function for samples when somebody scrapes."""

    def __init__(self, read: Callable[[], list[CounterMetricFamily | GaugeMetricFamily]]) -> None:
        self._read = read

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        return self._read()


class Metrics:
    """Counters and histograms of one gateway."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time stamp beside every counter helps nobody here
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "resender_requests",
            "Calls of whitelisted clients that were forwarded, by market, method and HTTP status.",
            ["market", "method", "status"],
            registry=registry,
        )
        self._durations = Histogram(
            "resender_request_duration_seconds",
            "Time from a call's last byte received to its answer's last byte handed over.",
            ["market"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._answers = Counter(
            "resender_answers",
            "Answers made by the gateway itself, by name of the error.",
            ["name"],
            registry=registry,
        )
        self.clients_gone = Counter(
            "resender_clients_gone",
            "Clients that went away before their answer was complete.",
            registry=registry,
        )
        self.bodies_broken = Counter(
            "resender_bodies_broken", "Answers that broke off in the middle of the body.", registry=registry
        )
        self.bytes_sent = Counter(
            "resender_bytes_sent", "Bytes of answers' bodies sent to clients.", registry=registry
        )
        self.in_flight = Gauge("resender_in_flight", "Calls under way to an upstream now.", registry=registry)
        self.tunnels = Counter(
            "resender_tunnels", "Connections of CONNECT that have ended.", registry=registry
        )
        self.tunnel_bytes = Counter(
            "resender_tunnel_bytes",
            "Bytes passed through connections of CONNECT, both ways.",
            registry=registry,
        )
        self.loop_lag = Histogram(
            "resender_loop_lag_seconds",
            "How late the event loop was at each of its beats, 50 a second.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.stream_writes = Histogram(
            "resender_stream_write_seconds",
            "Time from an event's arrival to its writing to the clients of streams, for each round of writing.",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        info = Gauge(
            "resender_build_info", "Always 1; the label tells the version.", ["version"], registry=registry
        )
        info.labels(__version__).set(1)
        # Label values exist from the start, so that a rate is right from the first event on.
        self._answer_children = {name: self._answers.labels(name) for name in ANSWERS}
        self._duration_children = {market: self._durations.labels(market.value) for market in Market}
        self._request_children: dict[tuple[Market, str, int], Counter] = {}
        # What the admin page's figures are made of: plain numbers, read once a second.
        self.tally = Tally()

    def add_reader(self, read: Callable[[], list[CounterMetricFamily | GaugeMetricFamily]]) -> None:
        """Add samples that are read when somebody scrapes."""
        self.registry.register(_Reader(read))

    def count_answer(self, name: str) -> None:
        self._answer_children[name].inc()

    def count_request(
        self, market: Market, method: str, status: int, duration_s: float, sent_bytes: int
    ) -> None:
        """Count one call that was forwarded; cheap enough for every call."""
        key = (market, method, status)
        child = self._request_children.get(key)
        if child is None:
            child = self._requests.labels(
                market.value, method if method in _METHODS else "other", str(status)
            )
            self._request_children[key] = child
        child.inc()
        self._duration_children[market].observe(duration_s)
        if sent_bytes:
            self.bytes_sent.inc(sent_bytes)
        self.tally.note(status, duration_s * 1000, sent_bytes)

    def count_hit(self, duration_ms: float, sent_bytes: int) -> None:
        """Count one call answered out of memory."""
        self.bytes_sent.inc(sent_bytes)
        self.tally.note(200, duration_ms, sent_bytes)

    def render(self, others: Iterable[list[Any]] = ()) -> bytes:
        """Return the text for a scraper; `others` are what other workers have `told`."""
        collected = merged(list(self.registry.collect()), others)
        return generate_latest(_Collected(collected))

    def told(self) -> list[Any]:
        """Write down all figures for another worker.

        Shape: [name, type, documentation, [[sample, labels, value], ...]].
        """
        return [
            [
                family.name,
                family.type,
                family.documentation,
                [[sample.name, sample.labels, sample.value] for sample in family.samples],
            ]
            for family in self.registry.collect()
        ]


class _Collected:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def merged(own: list[Metric], others: Iterable[list[Any]]) -> list[Metric]:
    """Add what other workers count to one's own families.

    Shape: `others` as `Metrics.told`. Counters and histograms are added up, and the gauges of which a node has as
        much as all together; the rest is one's own.
    """
    by_name = {family.name: family for family in own}
    for families in others:
        for name, kind, words, samples in families:
            family = by_name.get(name)
            if family is None:
                family = by_name[name] = Metric(name, words, kind)
            elif kind == "gauge" and name not in _SUMMED:
                continue
            places = {(s.name, tuple(sorted(s.labels.items()))): i for i, s in enumerate(family.samples)}
            for sample, labels, value in samples:
                place = places.get((sample, tuple(sorted(labels.items()))))
                if place is None:
                    family.samples.append(Sample(sample, labels, value))
                else:
                    old = family.samples[place]
                    family.samples[place] = Sample(old.name, old.labels, old.value + value)
    return list(by_name.values())
