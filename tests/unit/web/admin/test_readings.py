"""What the live pages share: one answer for all who look at once, readings, and places that are bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.errors import Busy
from resender.snapshots import MarketSnapshot
from resender.upstream.dispatch import LastAnswer
from resender.web.admin import readings
from resender.web.admin.readings import MAX_EXPORTS, MAX_STREAMS, Live, _is_drawn, _streams, resident_bytes
from tests.support.running import wait_until
from tests.unit.web.serving import NOW_MS, make_services


@pytest.fixture
def services() -> Any:
    return make_services()


@pytest.fixture
def live(services: Any) -> Live:
    return Live(services)


async def test_readings_begin_once_and_end_with_the_gateways_tasks(services: Any, live: Live) -> None:
    live.start()
    live.start()
    assert services.tasks.names() == ["admin-timeline"]
    await wait_until(lambda: live.timeline.latest is not None)
    await services.tasks.cancel()
    assert len(services.tasks) == 0


def test_without_a_loop_nothing_is_begun_yet(services: Any, live: Live) -> None:
    live.start()
    assert len(services.tasks) == 0


async def test_reading_that_fails_costs_one_point_and_not_the_day(
    services: Any, live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readings, "_EVERY_S", 0.01)
    taken: list[int] = []

    def take() -> None:
        taken.append(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(live, "take", take)
    live.start()
    await wait_until(lambda: len(taken) > 2)
    await services.tasks.cancel()
    assert "figures of the admin page cannot be read" in caplog.text


def test_all_who_look_within_a_moment_get_the_same_answer(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [50.0]
    monkeypatch.setattr(readings, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made: list[int] = []
    monkeypatch.setattr(live, "status", lambda: made.append(1) or {"n": len(made)})
    assert live.status_body() is live.status_body()
    now[0] += 0.9
    assert orjson.loads(live.status_body()) == {"n": 2}


def test_dashboard_is_the_picture_of_the_services(services: Any, live: Live) -> None:
    services.metrics.count_hit(1.0, 10)
    services.access.refused.note("192.0.2.9", "/x", NOW_MS)
    services.dispatch.last_answers[Market.UM] = LastAnswer("unreachable", None, NOW_MS - 5)
    services.savings.note(("um", "klines"), 2)
    services.savings.note(("spot", "depth"), 50)
    live.take()
    status = orjson.loads(orjson.dumps(live.status()))
    assert status["saved_today"] == {"depth": 50, "klines": 2}
    assert (status["time"], status["whitelist"], status["refused"]) == (NOW_MS, 1, 1)
    assert status["series"] == {"total": 0, "live": 0}
    um = next(each for each in status["upstreams"] if each["market"] == "um")
    assert (um["kind"], um["status"], um["time"]) == ("unreachable", None, NOW_MS - 5)
    assert live.timeline.latest is not None
    assert live.timeline.latest.calls == 1


def test_only_the_clients_with_most_weight_are_shown(
    services: Any, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"ip": str(n), "weight_minute": n % 150} for n in range(150)]
    monkeypatch.setattr(services.status, "clients", lambda: rows)
    shown = live.status()["clients"]
    assert len(shown) == 100
    assert shown[0]["weight_minute"] == 149


def test_connections_of_a_market_are_summed_up() -> None:
    links = tuple(
        SimpleNamespace(is_live=live, streams=2, age_s=age, last_frame_ms=frame)
        for live, age, frame in ((True, 10.04, 30), (False, 90.06, None), (True, 5.0, 7))
    )
    shown = _streams(MarketSnapshot(Market.UM, 1, 1, 0, 0, 0, 0, 0, links))
    assert shown == {
        "market": "um", "connections": 3, "live": 2, "streams": 6, "oldest_age_s": 90.1, "last_frame_ms": 7,
    }  # fmt: skip
    empty = _streams(MarketSnapshot(Market.CM, 0, 0, 0, 0, 0, 0, 0, ()))
    assert (empty["oldest_age_s"], empty["last_frame_ms"]) == (None, None)


def test_counters_of_single_paths_are_not_drawn() -> None:
    assert _is_drawn({"pool": "spot"})
    assert not _is_drawn({"pool": "sapi:/sapi/v1/asset"})


@pytest.mark.parametrize(
    ("take", "most", "reason"),
    [("stream", MAX_STREAMS, "streams_many"), ("export", MAX_EXPORTS, "exports_many")],
)
def test_places_are_bounded_and_free_again_whatever_happened(
    live: Live, take: str, most: int, reason: str
) -> None:
    places = [getattr(live, take)() for _ in range(most)]
    for place in places:
        place.__enter__()
    with pytest.raises(Busy) as caught, getattr(live, take)():
        pass
    assert caught.value.data == {"reason": reason, "most": most}
    places.pop().__exit__(None, None, None)
    with pytest.raises(RuntimeError), getattr(live, take)():
        raise RuntimeError("broke off")
    with getattr(live, take)():
        pass
    for place in places:
        place.__exit__(None, None, None)
    assert (live.streams_open, live.exports_open) == (0, 0)


def test_memory_of_the_process_is_known_on_this_machine() -> None:
    found = resident_bytes()
    assert found is not None
    assert found > 1 << 20
