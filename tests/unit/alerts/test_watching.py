"""A look at the gateway: what is wrong is found with all its words name, and what is well is not."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resender.access import Access
from resender.aio import Clock
from resender.alerts import AlertOptions, Watch, watching
from resender.core.alerts.board import Event, Finding
from resender.core.alerts.kinds import KINDS
from resender.core.alerts.words import LANGUAGES, sentence
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.snapshots import UpstreamSnapshot
from resender.status import Status
from tests.support.alert_events import AT_MS, VALUES

MB = 1_000_000


def weight(egress: str = "own", pool: str = "spot", **facts: Any) -> dict[str, Any]:
    """Make a row as `weight_rows` does."""
    row = {"closed_s": 0, "closed_status": 0, "state": "ok", "problem": "", "markets": ["spot", "margin"]}
    return {"egress": egress, "pool": pool, **row, **facts}


class World:
    """A gateway in which everything is well, and what a test makes of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mono, self.now_ms, self.free_mb = 1000.0, AT_MS, 50_000
        self.weights: list[dict[str, Any]] = [weight()]
        self.answers: list[UpstreamSnapshot] = [UpstreamSnapshot(Market.SPOT, "ok", 200, AT_MS)]
        self.markets: list[Any] = []
        self.stats = SimpleNamespace(healthy=True, last_error=None)
        self.nodes: list[Any] = []
        self.link = SimpleNamespace(is_up=True)
        self.ends: datetime | None = None
        self.asked: list[str] = []
        clock = Clock(now_ms=lambda: self.now_ms, mono=lambda: self.mono)
        self.access = Access((), clock)
        self.exchange_clock = ExchangeClock.guess(AT_MS, 1000.0)
        monkeypatch.setattr(shutil, "disk_usage", self.usage)
        status = SimpleNamespace(
            weights=lambda: self.weights,
            upstreams=lambda: self.answers,
            markets=self.count,
            is_out_of_reach=lambda each, *kinds: Status.is_out_of_reach(
                cast(Any, SimpleNamespace(_clock=clock)), each, *kinds
            ),
        )
        self.watch = Watch(
            AlertOptions(cache_s=120.0, free_disk_mb=1000, refused=100),
            status=cast(Any, status),
            store=cast(Any, SimpleNamespace(stats=self.stats)),
            access=self.access,
            exchange_clock=self.exchange_clock,
            clock=clock,
            folder=folder,
            cluster=cast(Any, SimpleNamespace(link=self.link, nodes=lambda: self.nodes)),
            certificate_ends=self.certificate,
        )

    def count(self) -> list[Any]:
        self.asked.append("cache")
        return self.markets

    def usage(self, path: Path) -> Any:
        self.asked.append("disk")
        if self.free_mb < 0:
            raise OSError("gone")
        return SimpleNamespace(free=self.free_mb * MB)

    def certificate(self) -> datetime | None:
        self.asked.append("certificate")
        return self.ends

    def look(self, after_s: float = 0.0) -> list[Finding]:
        self.mono += after_s
        self.now_ms += int(after_s * 1000)
        found = self.watch.look()
        assert len({(each.kind, each.subject) for each in found}) == len(found)
        for each in found:
            # Of each kind the words name these values and no others.
            assert each.values.keys() == VALUES[each.kind].keys()
            assert KINDS[each.kind].has_end, "what happens at one moment is not looked for"
            for language in LANGUAGES:
                assert "?" not in sentence(Event(KINDS[each.kind], "", each.values, AT_MS), language)
        return found

    def kinds(self, after_s: float = 0.0) -> list[str]:
        return [each.kind for each in self.look(after_s)]

    def refuse(self, count: int, address: str = "203.0.113.9") -> None:
        for _ in range(count):
            self.access.refused.note(address, "/api/v3/time", self.now_ms)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_nothing_is_found_where_all_is_well(world: World) -> None:
    for _ in range(10):
        assert world.look(2) == []


# --- egresses and upstreams -----------------------------------------------------------------------


def test_ban_and_pause_are_of_an_egress_and_its_pool(world: World) -> None:
    world.weights = [
        weight("own", "futures", closed_s=119, closed_status=418, state="banned"),
        weight("own", "spot", closed_s=7, closed_status=429, state="closed"),
        weight("second", "spot"),
    ]
    assert world.look() == [
        Finding("banned", "own futures", {"egress": "own", "pool": "futures", "seconds": 119}),
        Finding("paused", "own spot", {"egress": "own", "pool": "spot", "seconds": 7}),
    ]


def test_egress_that_is_down_is_one_finding_with_its_markets(world: World) -> None:
    world.weights = [
        weight("via", "spot", state="set_aside", problem="waf", markets=["spot", "margin"]),
        weight("via", "futures", state="set_aside", problem="waf", markets=["um", "cm"]),
        weight("own"),
    ]
    values = {"egress": "via", "markets": "cm, margin, spot, um", "why": "waf"}
    assert world.look() == [Finding("egress", "via", values)]
    world.weights = [weight("via", state="set_aside")]
    assert world.look()[0].values["why"] == "unreachable"


def test_pool_that_is_banned_while_its_egress_is_down_is_told_as_banned(world: World) -> None:
    world.weights = [weight(closed_s=9, closed_status=418, state="banned", problem="unreachable")]
    assert world.kinds() == ["banned"]


@pytest.mark.parametrize(
    ("kind", "status", "found"),
    [
        ("ok", 200, []),
        ("unknown", None, []),
        ("unreachable", None, ["unreachable"]),
        ("timeout", None, ["unreachable"]),
        ("firewall", 403, ["unreachable"]),
        ("region", 451, ["region"]),
        ("banned", 418, []),
        ("limited", 429, []),
        ("fault", 503, []),
    ],
)
def test_market_out_of_reach_is_told_with_why(
    world: World, kind: str, status: int | None, found: list[str]
) -> None:
    world.answers = [
        UpstreamSnapshot(Market.UM, kind, status, AT_MS, in_row=2),
        UpstreamSnapshot(Market.SPOT, "ok", 200, AT_MS),
    ]
    looked = world.look()
    assert [each.kind for each in looked] == found
    for each in looked:
        assert (each.subject, each.values["market"]) == ("um", "um")
        assert each.kind == "region" or each.values["why"] == world.answers[0].text


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("unreachable", None),
        ("timeout", None),
        ("region", 451),
        pytest.param("firewall", 403),
    ],
)
def test_answer_that_is_old_tells_nothing_of_now(world: World, kind: str, status: int | None) -> None:
    world.answers = [UpstreamSnapshot(Market.UM, kind, status, AT_MS, in_row=2)]
    assert len(world.look()) == 1
    assert world.look(600) == []


@pytest.mark.parametrize("kind", ["unreachable", "timeout"])
def test_one_call_that_came_to_nothing_says_nothing_yet(world: World, kind: str) -> None:
    world.answers = [UpstreamSnapshot(Market.UM, kind, None, AT_MS, in_row=1)]
    assert world.look() == []


def test_market_whose_wanted_series_are_dark_is_told(world: World) -> None:
    def market(market: Market, wanted: int, live: int, *, is_live: bool) -> Any:
        return SimpleNamespace(market=market, wanted=wanted, wanted_live=live, is_live=is_live)

    world.markets = [
        market(Market.SPOT, 300, 299, is_live=True),
        market(Market.UM, 320, 7, is_live=False),
        market(Market.CM, 0, 0, is_live=False),
    ]
    assert world.look() == [Finding("cache", "um", {"market": "um", "live": 7, "wanted": 320})]
    world.markets = []
    for _ in range(10):
        world.look(1)
    assert world.asked.count("cache") <= 4, "there may be thousands of series"
    assert world.look() == []


# --- nodes ----------------------------------------------------------------------------------------


def test_node_that_is_gone_is_told_while_redis_is_there(world: World) -> None:
    world.nodes = [
        SimpleNamespace(name="gw1", is_up=True, seen_ms=0),
        SimpleNamespace(name="gw2", is_up=False, seen_ms=37_900),
    ]
    assert world.look() == [Finding("node", "gw2", {"node": "gw2", "seconds": 37})]
    world.link.is_up = False
    assert world.look() == [], "without Redis nobody knows"


def test_gateway_without_others_looks_for_none(world: World) -> None:
    world.watch._cluster = None
    assert world.look() == []


# --- the machine ----------------------------------------------------------------------------------


def test_database_trouble_is_told_with_its_words(world: World) -> None:
    world.stats.healthy, world.stats.last_error = False, "The database x is locked."
    (found,) = world.look()
    assert (found.kind, found.subject) == ("database", "")
    assert found.values["why"] == "The database x is locked"
    assert ".." not in sentence(Event(KINDS["database"], "", found.values, AT_MS), "en")
    world.stats.last_error = "x" * 5000
    assert len(str(world.look()[0].values["why"])) <= 200
    world.stats.last_error = None
    assert world.kinds() == ["database"]
    world.stats.healthy = True
    assert world.look() == []


def test_disk_is_looked_at_seldom_and_told_below_the_setting(world: World) -> None:
    for _ in range(16):
        assert world.look(1) == []
    assert world.asked.count("disk") == 1
    world.free_mb = 999
    assert world.look(14) == []
    assert world.look(1) == [Finding("disk", "", {"free_mb": 999})]
    assert world.watch.free_mb == 999
    world.free_mb = 1000
    assert world.kinds(1) == ["disk"], "until the next look at it"
    assert world.kinds(29) == []


def test_disk_that_cannot_be_looked_at_is_no_alarm(world: World) -> None:
    world.free_mb = -1
    assert world.look() == []
    assert world.watch.free_mb is None


@pytest.mark.parametrize(("off_ms", "told"), [(900, False), (1100, True), (-900, False), (-1100, True)])
def test_clock_that_is_off_for_certain_is_told(world: World, off_ms: int, told: bool) -> None:
    world.exchange_clock.set(AT_MS - off_ms, 999.99, 1000.0)
    found = world.look()
    assert [each.kind for each in found] == ["clock"] * told
    assert abs(world.watch.clock_off_ms - abs(off_ms)) <= 20
    if told:
        assert abs(int(found[0].values["off_ms"]) - 1100) <= 20


def test_what_is_only_guessed_of_the_clock_is_not_told(world: World) -> None:
    world.now_ms += 3_600_000
    assert world.look() == []
    assert world.watch.clock_off_ms == 0


def test_slow_answers_make_no_clock_wrong(world: World) -> None:
    world.exchange_clock.set(AT_MS - 3000, 994.0, 1000.0)
    assert world.look() == [], "the answer took six seconds: the clock may be right"


@pytest.mark.parametrize(
    ("days", "told"), [(90, None), (14.5, None), (13.9, 13), (1.5, 1), (0.5, 0), (-3, 0)]
)
def test_certificate_is_told_two_weeks_before_its_end(world: World, days: float, told: int | None) -> None:
    world.ends = datetime.now(timezone.utc) + timedelta(days=days)
    found = world.look()
    assert found == ([] if told is None else [Finding("certificate", "", {"days": told})])


def test_certificate_is_looked_at_seldom(world: World) -> None:
    world.ends = datetime.now(timezone.utc) + timedelta(days=2)
    for _ in range(100):
        assert world.kinds(30) == ["certificate"]
    assert world.asked.count("certificate") == 1
    world.ends += timedelta(days=90)
    assert world.kinds(watching._CERTIFICATE_EVERY_S) == []


def test_gateway_without_a_certificate_has_none_to_end(world: World) -> None:
    world.watch._certificate_ends = None
    assert world.look() == []


# --- strangers ------------------------------------------------------------------------------------


def test_many_strangers_within_ten_minutes_are_told_with_the_last(world: World) -> None:
    assert world.look() == []
    world.refuse(99)
    assert world.look(2) == []
    world.refuse(1, "198.51.100.7")
    assert world.look(2) == [Finding("strangers", "", {"count": 100, "address": "198.51.100.7"})]


def test_strangers_are_forgotten_after_ten_minutes(world: World) -> None:
    world.look()
    world.refuse(150)
    kinds = [bool(world.kinds(10)) for _ in range(70)]
    assert kinds == [True] * 60 + [False] * 10


def test_few_strangers_all_day_are_not_told(world: World) -> None:
    for _ in range(600):
        world.refuse(1)
        assert world.look(8) == []


def test_strangers_whose_address_nobody_can_name_are_counted_too(world: World) -> None:
    world.look()
    world.refuse(1)
    world.refuse(99, "x" * 100)
    assert world.look(2) == [Finding("strangers", "", {"count": 100, "address": "203.0.113.9"})]
