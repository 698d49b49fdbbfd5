"""Order books: hits and why there is none, quiet and mute streams, snapshots and whom they cost."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.core.market.requests import Miss
from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.errors import EgressExhausted
from resender.market.kinds.base import Hit, Wanting
from tests.support.book_fakes import Shelf
from tests.support.market_fakes import World

EXHAUSTED = "no weight"


# -- the best levels ------------------------------------------------------------------------------


async def test_first_call_is_read_and_all_others_need_none(each_world: World) -> None:
    shelf = Shelf(each_world, partial=True)
    shelf.push()
    found = await asyncio.gather(*(shelf.hit(limit) for limit in (5, 10, 20) * 5))
    assert len(found) == 15
    assert shelf.reads == [20], "how the exchange writes a body is not known before"
    shelf.push()
    hit = await shelf.hit(5)
    assert hit.age_ms == 0
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id
    assert shelf.kind.proof(shelf.partial) == (0, "event")
    assert shelf.reads == [20]
    assert each_world.desk.hits == shelf.partial.hits == 16


async def test_quiet_book_is_seeded_by_a_read_and_compared_when_that_is_old(each_world: World) -> None:
    shelf = Shelf(each_world, partial=True, quiet_s=10.0)
    await shelf.hit()
    assert shelf.kind.proof(shelf.partial)[1] == "rest"
    for after_ms in range(0, 60_000, 500):
        await each_world.until(after_ms)
        hit = await shelf.hit()
        assert hit.age_ms <= 10_000
    assert 5 <= len(shelf.reads) <= 7
    assert not each_world.moved, "nothing has changed"


async def test_frame_is_not_older_than_the_read_before_it(world: World) -> None:
    shelf = Shelf(world, partial=True)
    frames = []
    for _ in range(3):
        shelf.model.update()
        frames.append(shelf.model.frame())
    await shelf.hit()
    for data in frames[:2]:
        shelf.feed.send(shelf.partial.stream, data)
    hit = await shelf.hit()
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id
    assert shelf.kind.proof(shelf.partial)[1] == "rest", "older frames prove nothing"
    shelf.feed.send(shelf.partial.stream, frames[2])
    assert shelf.kind.proof(shelf.partial)[1] == "event"


async def test_mute_stream_is_found_and_moved_and_its_book_told_no_longer_than_a_read_is_young(
    each_world: World,
) -> None:
    shelf = Shelf(each_world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    begun, oldest = each_world.clock.mono(), 0
    times: dict[int, float] = {}
    while not each_world.moved and each_world.clock.mono() < begun + 60:
        shelf.model.update()
        times[shelf.model.update_id] = each_world.clock.mono()
        await asyncio.sleep(0.25)
        found = await shelf.ask()
        if isinstance(found, Hit):
            oldest = max(oldest, found.age_ms)
            update_id = orjson.loads(found.body)["lastUpdateId"]
            assert found.body == shelf.model.body(update_id, 20)
            newer = [at for each, at in times.items() if each > update_id]
            assert not newer or min(newer) >= each_world.clock.mono() - found.age_ms / 1000 - 0.001
    assert [id(each) for each in each_world.moved] == [id(shelf.partial)]
    assert each_world.clock.mono() - begun < 17
    assert oldest <= 10_000
    shelf.partial.is_mute = True
    assert await shelf.ask() == Miss("stream mute")


async def test_stream_that_never_spoke_is_mute_too(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    for after_ms in range(0, 30_000, 500):
        await world.until(after_ms)
        if after_ms % 2000 == 0:
            shelf.model.update()
        await shelf.ask()
    assert world.moved


async def test_rare_changes_that_only_rest_shows_are_enough_to_move_a_stream(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    await world.until(8000)
    shelf.model.update()  # the only one
    for after_ms in range(8000, 25_000, 500):
        await world.until(after_ms)
        await shelf.ask()
    assert world.moved


async def test_frame_that_comes_late_clears_its_stream_of_doubt(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    await world.until(11_000)
    shelf.model.update()
    await shelf.hit()
    assert shelf.partial.unheard_mono is not None
    await world.until(12_500)
    shelf.push(updates=0)
    for after_ms in range(12_500, 40_000, 500):
        await world.until(after_ms)
        await shelf.hit()
    assert not world.moved


async def test_read_the_stream_has_overtaken_puts_nothing_in_doubt(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    await world.until(11_000)
    world.door.held.clear()
    asked = asyncio.create_task(shelf.ask())
    await world.until(12_000)
    shelf.push()
    world.door.held.set()
    assert isinstance(await asked, Hit)
    assert shelf.partial.unheard_mono is None
    assert shelf.kind.proof(shelf.partial)[1] == "event"
    hit = await shelf.hit()
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id


async def test_read_that_lags_moves_no_stream(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    shelf.push()
    old_id = shelf.model.update_id
    await shelf.hit()
    shelf.push()
    good = world.door.answers[shelf.path]
    world.door.answers[shelf.path] = lambda _, params: shelf.model.rest(old_id, int(params["limit"]))
    await world.until(11_000)
    assert await shelf.ask() == Miss("stream quiet"), "an older book proves nothing"
    world.door.answers[shelf.path] = good
    await world.until(12_500)
    hit = await shelf.hit()
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id
    await world.until(40_000)
    await shelf.hit()
    assert not world.moved


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
async def test_ids_that_began_anew_are_no_sign_that_rest_is_behind(each_world: World, what: str) -> None:
    shelf = Shelf(each_world, deep=what == BOOK, partial=what == PARTIAL_BOOK, quiet_s=10.0)
    shelf.push()
    await shelf.ask()
    if what == BOOK:
        await shelf.synced()
    await shelf.hit()
    begun = each_world.now_ms
    shelf.model.restart(is_back=True)
    while not each_world.moved:
        assert each_world.now_ms < begun + 20_000
        shelf.model.update()
        await asyncio.sleep(0.5)
        found = await shelf.ask()
        if isinstance(found, Hit):
            assert found.age_ms >= each_world.now_ms - begun


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
async def test_stream_whose_ids_began_anew_is_followed_again(world: World, what: str) -> None:
    shelf = Shelf(world, deep=what == BOOK, partial=what == PARTIAL_BOOK, quiet_s=10.0)
    shelf.push()
    await shelf.ask()
    if what == BOOK:
        await shelf.synced()
    shelf.model.restart(is_back=True)
    begun = world.now_ms
    for _ in range(250):
        try:
            shelf.push()
        except ValueError:  # its connection is given up
            shelf.lose(shelf.partial)
            shelf.live(shelf.partial)
        await asyncio.sleep(0.1)
        found = await shelf.ask()
        if isinstance(found, Hit):
            is_new = orjson.loads(found.body)["lastUpdateId"] <= shelf.model.update_id
            assert is_new or found.age_ms >= world.now_ms - begun - 100
        elif isinstance(found, Wanting):
            found.leave()
    hit = await shelf.hit()
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id


# -- trades ---------------------------------------------------------------------------------------


async def test_book_without_a_frame_after_a_trade_is_compared_at_once(each_world: World) -> None:
    shelf = Shelf(each_world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    reads = len(shelf.reads)
    await each_world.until(2000)
    witness = shelf.tools.watch.witness
    row = {"s": shelf.symbol, "E": each_world.now_ms, "c": "1.0"}
    witness.on_frame("!miniTicker@arr", [row])
    await shelf.hit()
    assert len(shelf.reads) == reads, "its frame may have been the one before"
    await each_world.until(3000)
    shelf.model.update()
    witness.on_frame("!miniTicker@arr", [row | {"E": each_world.now_ms}])
    hit = await shelf.hit()
    assert len(shelf.reads) == reads + 1
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id


async def test_trade_of_another_symbol_says_nothing(world: World) -> None:
    shelf = Shelf(world, partial=True)
    shelf.push()
    await shelf.hit()
    await world.until(5000)
    shelf.tools.watch.witness.on_frame("!miniTicker@arr", [{"s": "ETHUSDT", "E": world.now_ms, "c": "1.0"}])
    await shelf.hit()
    assert shelf.reads == [20]


# -- misses ---------------------------------------------------------------------------------------


async def test_book_nobody_keeps_is_begun(world: World) -> None:
    shelf = Shelf(world)
    assert await shelf.ask(20) == Miss("not held yet")
    assert await shelf.ask(50) == Miss("not held yet")
    assert [what for _, _, what in world.desk.begun] == [PARTIAL_BOOK, BOOK]


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda shelf, kept: setattr(kept, "is_live", False), "stream not live"),
        (lambda shelf, kept: shelf.feed.dead.add(kept.stream), "stream not live"),
        (lambda shelf, kept: setattr(kept, "is_mute", True), "stream mute"),
        (lambda shelf, kept: setattr(kept, "is_unfit", True), "other format"),
        (lambda shelf, kept: kept.book.lose(), "not read yet"),
    ],
)
async def test_miss_says_what_is_the_matter(world: World, what: str, break_it: Any, reason: str) -> None:
    shelf = Shelf(world, deep=what == BOOK, partial=what == PARTIAL_BOOK)
    shelf.push()
    await shelf.ask()
    if what == BOOK:
        await shelf.synced()
    kept = shelf.deep if what == BOOK else shelf.partial
    await shelf.hit()
    break_it(shelf, kept)
    world.door.refuse = EgressExhausted(EXHAUSTED, retry_after_s=5)
    found = await shelf.ask()
    assert isinstance(found, Miss)
    assert found.reason == reason
    assert world.desk.reasons[reason] >= 1


async def test_quiet_book_that_cannot_be_compared_is_a_miss_and_not_read_again_at_once(world: World) -> None:
    shelf = Shelf(world, partial=True, quiet_s=10.0)
    shelf.push()
    await shelf.hit()
    await world.until(11_000)
    for bad in (b"<html>", b"null", b"[]", b'{"lastUpdateId":1}', Fetched(503, {}, b"{}")):
        world.door.answers[shelf.path] = lambda *_, bad=bad: bad
        reads = len(shelf.reads)
        found = await asyncio.gather(*(shelf.ask() for _ in range(5)))
        assert {each.reason for each in found if isinstance(each, Miss)} <= {"stream quiet", "not read yet"}
        assert not any(isinstance(each, Hit) for each in found)
        assert isinstance(await shelf.ask(), Miss)
        assert len(shelf.reads) == reads + 1
        await asyncio.sleep(1.1)


async def test_book_with_unknown_keys_is_not_answered_until_they_are_gone(each_world: World) -> None:
    shelf = Shelf(each_world, partial=True, deep=True, quiet_s=10.0)
    await shelf.synced()
    await shelf.hit(100)
    good = each_world.door.answers[shelf.path]
    each_world.door.answers[shelf.path] = lambda target, params: {"news": 1, **good(target, params)}
    await each_world.until(14_000)
    assert isinstance(await shelf.ask(5), Miss)
    shelf.push()
    assert await shelf.ask(100) == Miss("not read yet") or isinstance(await shelf.ask(100), Miss)
    assert isinstance(await shelf.ask(5), Miss)
    reads = len(shelf.reads)
    for _ in range(20):
        await asyncio.sleep(1.1)
        shelf.push()
        assert await shelf.ask(5) == Miss("other format")
    assert len(shelf.reads) == reads, "a form that is not known is not looked at with every call"
    each_world.door.answers[shelf.path] = good
    await asyncio.sleep(60)
    shelf.push()
    await shelf.hit(5)
    await shelf.hit(100)


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
async def test_book_that_rest_writes_otherwise_is_never_told(world: World, what: str) -> None:
    shelf = Shelf(world, deep=what == BOOK, partial=what == PARTIAL_BOOK, quiet_s=10.0)
    shelf.push()
    if what == BOOK:
        await shelf.synced()
    await shelf.hit()

    def padded(_: str, params: dict[str, str]) -> Any:
        body = shelf.model.rest(shelf.model.update_id, int(params["limit"]))
        return body | {"bids": [[f"{price}0", quantity] for price, quantity in body["bids"]]}

    world.door.answers[shelf.path] = padded
    await world.until(14_000)
    assert isinstance(found := await shelf.ask(), Miss)
    assert found.reason == "other format"
    shelf.push()
    assert isinstance(await shelf.ask(), Miss)


async def test_frame_that_lacks_what_rest_has_is_never_told(world: World) -> None:
    shelf = Shelf(world, partial=True)
    shelf.push()
    await shelf.hit()
    shelf.model.update()
    data = shelf.model.frame()
    del data["T"]
    shelf.feed.send(shelf.partial.stream, data)
    assert await shelf.ask() == Miss("other format")
    assert shelf.partial.is_unfit


async def test_frame_of_another_symbol_is_refused(each_world: World) -> None:
    shelf = Shelf(each_world, partial=True, deep=True)
    shelf.model.update()
    data = shelf.model.cut(shelf.socket)
    assert data is not None
    with pytest.raises(ValueError, match="another symbol"):
        shelf.kind.event(shelf.deep, data | {"s": "NKNUSDT"})
    if each_world.market is not Market.SPOT:  # there frames of best levels name none
        with pytest.raises(ValueError, match="another symbol"):
            shelf.kind.event(shelf.partial, shelf.model.frame() | {"s": "NKNUSDT"})


# -- which one answers ----------------------------------------------------------------------------


async def test_best_levels_come_from_the_deep_book_only_while_the_others_are_not_known(world: World) -> None:
    shelf = Shelf(world, deep=True)
    await shelf.synced()
    await shelf.hit(20)
    assert shelf.deep.hits == 1
    assert world.desk.begun == [], "it is kept already"
    shelf.keep(PARTIAL_BOOK)
    await shelf.hit(20)
    assert shelf.deep.hits == 2
    shelf.push()
    await shelf.hit(20)
    assert shelf.partial.hits == 1
    await shelf.hit(50)
    assert shelf.deep.hits == 3
    shelf.lose(shelf.partial)
    await shelf.hit(20)
    assert shelf.deep.hits == 4
    shelf.lose(shelf.deep)
    assert await shelf.ask(20) == Miss("stream not live")


async def test_book_that_ended_is_neither_read_nor_told_of_trades(world: World) -> None:
    shelf = Shelf(world, deep=True, partial=True)
    deep, partial = shelf.deep, shelf.partial
    for kept in (deep, partial):
        kept.is_dropped = True
        del shelf.kind.kept[kept.key[1:]]
        shelf.kind.end(kept)
    shelf.tools.watch.witness.on_frame(
        "!miniTicker@arr", [{"s": shelf.symbol, "E": world.now_ms, "c": "1.0"}]
    )
    assert deep.traded_mono < 0
    await world.until(5000)
    assert shelf.reads == []


async def test_answer_for_a_book_that_ended_is_not_taken(world: World) -> None:
    shelf = Shelf(world, deep=True)
    shelf.push()
    kept = shelf.deep
    found = await shelf.ask(100)
    assert isinstance(found, Wanting)
    kept.is_dropped = True
    found.take(shelf.model.body(shelf.model.update_id, 100))
    assert not kept.is_known


async def test_many_books_are_not_all_read_at_once(world: World) -> None:
    shelf = Shelf(world)
    names = [f"S{number}USDT" for number in range(80)]
    now = most = 0

    async def fetch(market: Market, target: str, permit: Any = None) -> Fetched:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return Fetched(200, {}, shelf.model.body(shelf.model.update_id, 20))

    world.door.fetch = fetch  # type: ignore[method-assign]
    for name in names:
        shelf.keep(PARTIAL_BOOK, name)
        shelf.keep(BOOK, name)
    found = await asyncio.gather(*(shelf.ask(limit, name) for name in names for limit in (20, 100)))
    assert sum(isinstance(each, Hit) for each in found) == 80
    assert most <= 32
    await world.until(10_000)
    assert all(kept.is_known for kept in shelf.kind.kept.values())
    assert most <= 32


async def test_states_are_told_in_words(world: World) -> None:
    shelf = Shelf(world, deep=True, partial=True)
    assert (shelf.deep.state, shelf.partial.state) == ("syncing", "syncing")
    assert (shelf.deep.rows, shelf.partial.rows) == (0, 0)
    await shelf.synced()
    assert (shelf.deep.state, shelf.partial.state) == ("live", "live")
    assert shelf.deep.rows > 100
    assert shelf.partial.rows == 20
    shelf.deep.is_mute = True
    shelf.lose(shelf.partial)
    assert (shelf.deep.state, shelf.partial.state) == ("mute", "connecting")
