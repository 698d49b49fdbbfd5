"""The figures under /metrics: what is counted where, and that names and labels are there from the start."""

from __future__ import annotations

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from resender import __version__
from resender.core.binance.markets import Market
from resender.errors import ANSWERS
from resender.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return every sample by its name and the values of its labels."""
    families = text_string_to_metric_families(metrics.render().decode("utf-8"))
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_error_is_there_with_zero_from_the_start() -> None:
    found = samples(Metrics())
    assert {labels[0] for name, labels in found if name == "resender_answers_total"} == set(ANSWERS)
    assert all(value == 0 for (name, _), value in found.items() if name == "resender_answers_total")
    assert found["resender_build_info", (__version__,)] == 1


def test_no_sample_tells_when_a_counter_was_made() -> None:
    metrics = Metrics()
    metrics.count_answer("busy")
    assert b"_created" not in metrics.render()


def test_forwarded_call_is_counted_with_its_time_and_its_bytes() -> None:
    metrics = Metrics()
    for status in (200, 200, 429):
        metrics.count_request(Market.UM, "GET", status, 0.02, 100)
    metrics.count_request(Market.SPOT, "POST", 200, 0.02, 0)
    found = samples(metrics)
    assert found["resender_requests_total", ("um", "GET", "200")] == 2
    assert found["resender_requests_total", ("um", "GET", "429")] == 1
    assert found["resender_requests_total", ("spot", "POST", "200")] == 1
    assert found["resender_request_duration_seconds_count", ("um",)] == 3
    assert found["resender_bytes_sent_total", ()] == 300


def test_method_of_the_clients_own_makes_no_series_of_its_own() -> None:
    metrics = Metrics()
    for method in ("BREW", "get", "X" * 1000):
        metrics.count_request(Market.SPOT, method, 405, 0.001, 0)
    assert samples(metrics)["resender_requests_total", ("spot", "other", "405")] == 3


def test_answer_out_of_memory_is_no_forwarded_call() -> None:
    metrics = Metrics()
    metrics.count_hit(0.4, 70)
    found = samples(metrics)
    assert not any(name == "resender_requests_total" for name, _ in found)
    assert found["resender_bytes_sent_total", ()] == 70


def test_tally_of_the_pages_counts_both_and_takes_only_failures_for_errors() -> None:
    metrics = Metrics()
    metrics.count_hit(0.4, 70)
    metrics.count_request(Market.SPOT, "GET", 200, 0.02, 30)
    metrics.count_request(Market.SPOT, "GET", 503, 0.02, 0)
    assert (metrics.tally.calls, metrics.tally.errors, metrics.tally.sent_bytes) == (3, 1, 100)


def test_reader_is_asked_at_every_scrape_and_not_before() -> None:
    metrics, asked = Metrics(), []

    def read() -> list[GaugeMetricFamily]:
        asked.append(1)
        return [GaugeMetricFamily("resender_things", "Things.", len(asked))]

    metrics.add_reader(read)
    before = len(asked)
    assert samples(metrics)["resender_things", ()] == before + 1
    assert samples(metrics)["resender_things", ()] == before + 2


def test_two_gateways_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.count_answer("busy")
    assert samples(two)["resender_answers_total", ("busy",)] == 0
