"""The lag of the loop, and the name of what held it."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from resender.loop_lag import LoopLag, _place_of


async def test_what_holds_the_loop_is_named_and_its_time_is_kept() -> None:
    lag = LoopLag()
    lags: list[float] = []
    lag.on_lag = lags.append
    lag.start()
    try:
        await asyncio.sleep(0.1)
        end = time.perf_counter() + 0.08
        while time.perf_counter() < end:
            sum(range(1000))
        await asyncio.sleep(0.05)
    finally:
        lag.stop()
    assert max(lags) > 0.05
    assert max(lag.worst.values()) > 0.05
    # Nothing of ours was under way: the innermost function is named, whatever it is.
    assert all(place for place in lag.worst)


async def test_longest_lag_of_late_is_told_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.loop_lag._RECENT_S", 0.1)
    lag = LoopLag()
    lag.start()
    try:
        await asyncio.sleep(0.03)
        end = time.perf_counter() + 0.3
        while time.perf_counter() < end:
            sum(range(1000))
        await asyncio.sleep(0.03)
        assert lag.recent_s > 0.2
        await asyncio.sleep(0.4)
        assert lag.recent_s < 0.2
    finally:
        lag.stop()


async def test_a_stopped_one_beats_no_more() -> None:
    lag = LoopLag()
    lags: list[float] = []
    lag.on_lag = lags.append
    lag.start()
    await asyncio.sleep(0.06)
    lag.stop()
    count = len(lags)
    assert count
    await asyncio.sleep(0.06)
    assert len(lags) == count


def test_places_are_bounded_and_the_shortest_goes() -> None:
    lag = LoopLag()
    for n in range(300):
        lag._note(f"place{n}", n / 1000)
    assert len(lag.worst) == 200
    assert "place0" not in lag.worst
    assert "place299" in lag.worst


def test_innermost_function_of_ours_stands_for_what_it_calls() -> None:
    def inner() -> str:
        return _place_of(sys._getframe())

    namespace = {"__name__": "resender.somewhere", "inner": inner}
    exec("def work():\n    return inner()", namespace)
    assert namespace["work"]() == "resender.somewhere.work"
    assert _place_of(None) == ""
