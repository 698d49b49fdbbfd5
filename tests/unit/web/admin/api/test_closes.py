"""What became of the last closes, as the page "Closes" asks for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from resender.core.binance.markets import Market
from resender.core.market.close_log import EVENT, CloseLog
from tests.support.admin import assert_error
from tests.unit.web.serving import administered, make_services

T = 1_790_000_040_000


def cache(**logs: CloseLog) -> Any:
    """Return a cache of which USD-M has seen closes of these intervals."""
    found = {name.lstrip("i"): log for name, log in logs.items()}
    kind = SimpleNamespace(closes=found)
    state = SimpleNamespace(market=Market.UM, kind=lambda wanted: kind, entries=list)
    return SimpleNamespace(states={Market.UM: state}, backfills={})


async def test_closes_are_listed_by_market_and_interval_newest_first() -> None:
    minutes, hours = CloseLog("1m"), CloseLog("1h")
    for number in range(2):
        minutes.note(
            T + number * 60_000, "BTCUSDT", T + number * 60_000 + 105, 3, EVENT, T + number * 60_000 + 90
        )
    async with administered(make_services(cache=cache(i1h=hours, i1m=minutes))) as one:
        first, second = (await one.get("closes"))["items"]
    assert (first["market"], first["interval"], second["interval"]) == ("um", "1m", "1h")
    assert second["closes"] == []
    newest, older = first["closes"]
    assert (newest["close_ms"], older["close_ms"]) == (T + 60_000, T)
    assert newest["missing"] == 2
    assert newest["slowest"] == "BTCUSDT"
    assert (newest["p50_ms"], newest["event_p50_ms"], newest["trip_p50_ms"]) == (105, 90, 15)


async def test_without_a_cache_there_is_nothing_to_tell() -> None:
    async with administered() as one:
        assert_error(await one.send("GET", "closes"), 404, -3, reason="cache_off")
