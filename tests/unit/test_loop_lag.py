"""The lag of the loop, and the name of what held it."""

from __future__ import annotations

import asyncio
import subprocess
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


async def test_loop_without_work_is_looked_at_less_often_until_it_has_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_CALM_BEATS", 5), ("_CALM_LATE_S", 5.0), ("_REST_S", 0.2), ("_BEAT_S", 0.01)):
        monkeypatch.setattr(f"resender.loop_lag.{name}", value)
    lag = LoopLag()
    lags: list[float] = []
    lag.on_lag = lags.append
    lag.start()
    try:
        await asyncio.sleep(0.3)
        lags.clear()
        await asyncio.sleep(1.0)
        resting = len(lags)
        assert 1 <= resting <= 6
        lags.clear()
        end = time.thread_time() + 0.4
        while time.thread_time() < end:
            sum(range(20_000))
            await asyncio.sleep(0)
        assert len(lags) > 2 * resting
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


# Garbage whose finalizer starts a thread, and a collector that comes with the next object.
_STARTER = """
import gc, threading
from resender.loop_lag import _place_in

class Starter:
    def __del__(self):
        threading.Thread(target=int).start()

def leave():
    one = Starter()
    one.itself = one

ident = threading.get_ident()
for _ in range(20):
    leave()
    gc.set_threshold(1, 1, 1)
    place = _place_in(ident)
    gc.set_threshold(700, 10, 10)
    assert place == "resender.loop_lag._place_in", place
gc.collect()
gc.disable()
_place_in(ident)
assert not gc.isenabled()
print("alive")
"""


def test_a_look_does_not_stop_the_process_whatever_garbage_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STARTER], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "alive\n", done.stderr
