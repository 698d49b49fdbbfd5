"""Samples about accounts that are read when somebody scrapes /metrics. No state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from resender.account import WatchedAccount

Family = CounterMetricFamily | GaugeMetricFamily


def account_families(accounts: Iterable[WatchedAccount]) -> list[Family]:
    """Name what the accounts have answered and whether they are proven; names of accounts are not told."""
    answers = CounterMetricFamily(
        "resender_account_answers",
        "Signed calls accounts were asked for, by market and result.",
        labels=["market", "result"],
    )
    states = GaugeMetricFamily(
        "resender_accounts", "Accounts that are watched, by market and state.", labels=["market", "state"]
    )
    events = CounterMetricFamily(
        "resender_account_events", "Events of user data streams, by market.", labels=["market"]
    )
    differences = CounterMetricFamily(
        "resender_account_differences",
        "What REST told otherwise than the events of an account, or events that did not fit.",
        labels=["market"],
    )
    hits: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    told: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for account in accounts:
        market = account.market.value
        hits[market] += account.hits
        misses[market] += account.misses.total()
        told[market, str(account.state()["state"])] += 1
        seen[market] += account.events.total()
        wrong[market] += account.difference_count
    for market in sorted(seen | hits | misses | Counter(name for name, _ in told)):
        answers.add_metric([market, "hit"], hits[market])
        answers.add_metric([market, "miss"], misses[market])
        events.add_metric([market], seen[market])
        differences.add_metric([market], wrong[market])
    for (market, state), count in sorted(told.items()):
        states.add_metric([market, state], count)
    return [answers, states, events, differences]
