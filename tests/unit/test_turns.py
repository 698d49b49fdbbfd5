"""Whose turn it is: pieces of long work go one at a time, behind orders, and always some time."""

from __future__ import annotations

import asyncio
import time

import pytest

from resender import turns
from resender.turns import next_turn, order_pending


async def test_pieces_go_one_at_a_time_in_the_order_they_came() -> None:
    seen: list[str] = []

    async def work(name: str) -> None:
        for _ in range(3):
            await next_turn()
            seen.append(name)

    await asyncio.gather(*(work(name) for name in "abc"))
    assert seen == list("abcabcabc")


async def test_idle_loop_keeps_nobody_waiting() -> None:
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    loop.call_soon(count)
    await next_turn()
    for _ in range(20):
        await next_turn()
    assert passed <= 21 * turns._TURNS


async def test_busy_loop_gives_a_turn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_QUIET_S", 0.0)  # no turn is quiet
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    loop.call_soon(count)
    await next_turn()
    assert turns._TURNS - 1 <= passed <= turns._TURNS + 2


async def test_piece_waits_for_an_order_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_ORDER_S", 0.1)
    with order_pending():
        began = time.perf_counter()
        await next_turn()
        assert time.perf_counter() - began >= 0.09
        waiting = asyncio.ensure_future(next_turn())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
    began = time.perf_counter()
    await waiting
    assert time.perf_counter() - began < 0.09


async def test_order_that_fails_is_no_longer_under_way() -> None:
    with pytest.raises(ValueError, match="own"), order_pending(), order_pending():
        raise ValueError("own")
    assert turns._line().orders == 0


async def test_who_is_cancelled_leaves_the_line_to_the_others() -> None:
    with order_pending():
        first = asyncio.ensure_future(next_turn())
        second, third = asyncio.ensure_future(next_turn()), asyncio.ensure_future(next_turn())
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
    await asyncio.wait_for(third, 5)
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(next_turn(), 5)


async def test_all_may_leave() -> None:
    with order_pending():
        waiting = [asyncio.ensure_future(next_turn()) for _ in range(3)]
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
    await asyncio.wait_for(next_turn(), 5)


def test_each_loop_has_a_line_of_its_own() -> None:
    async def line() -> object:
        await next_turn()
        assert turns._line() is turns._line()
        return turns._line()

    assert asyncio.run(line()) is not asyncio.run(line())
