"""Deep order books: whose answers are their snapshots, what breaks them, and what a quiet one is worth."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from resender.core.market.book import Book
from resender.core.market.requests import Miss
from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.errors import EgressExhausted
from resender.market.kinds.base import Hit, Wanting
from tests.support.book_fakes import Shelf
from tests.support.market_fakes import World

EXHAUSTED = "no weight"


async def test_deep_book_is_read_once_and_followed(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    shelf.push()
    assert isinstance(await shelf.ask(100), Wanting)
    await shelf.pushing(3000)
    assert shelf.reads == [500]
    for after_ms in range(3000, 20_000, 700):
        await shelf.pushing(after_ms)
        for limit in (5, 20, 50, 100, 500 if shelf.deep.book.reaches(500) else 50):
            hit = await shelf.hit(limit)
            assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id
            assert hit.age_ms < 100
    assert shelf.reads == [500]


async def test_clients_own_answer_is_the_snapshot(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    shelf.push()
    found = await shelf.ask(100)
    assert isinstance(found, Wanting)
    assert found.reason == "not read yet"
    body = shelf.model.body(shelf.model.update_id, 100)
    for _ in range(3):
        shelf.push()
    found.take(body)
    hit = await shelf.hit(50)
    assert orjson.loads(hit.body)["lastUpdateId"] == shelf.model.update_id
    await shelf.pushing(3000)
    assert shelf.reads == []
    assert isinstance(shelf.deep.book, Book)
    assert shelf.deep.book.recording == 0
    assert not shelf.deep.book.has_waiting


async def test_clients_own_answer_proves_what_it_shows_and_as_of_the_call(world: World) -> None:
    shelf = Shelf(world, deep=True)
    old = shelf.model.update_id
    shelf.push()
    await world.until(500)
    found, other = await shelf.ask(100), await shelf.ask(100)
    assert isinstance(found, Wanting)
    assert isinstance(other, Wanting)
    await world.until(900)
    found.take(shelf.model.body(old, 100))  # the exchange was behind its stream
    age_ms, kind = shelf.kind.proof(shelf.deep)
    assert (age_ms, kind) == (pytest.approx(900, abs=2), "event")
    other.take(shelf.model.body(shelf.model.update_id, 100))
    age_ms, kind = shelf.kind.proof(shelf.deep)
    assert (age_ms, kind) == (pytest.approx(400, abs=2), "rest")
    await shelf.hit(50)


async def test_answer_that_never_came_or_is_none_ends_the_record(world: World) -> None:
    shelf = Shelf(world, deep=True)
    shelf.push()
    assert isinstance(book := shelf.deep.book, Book)
    for body in (b"<html>", b"null", b"[1]", b"{}", b'{"lastUpdateId":1,"bids":[[]],"asks":[]}', None):
        found = await shelf.ask(100)
        assert isinstance(found, Wanting)
        assert book.recording == 1
        if body is None:
            found.leave()
        else:
            found.take(body)
        assert book.recording == 0
        assert not book.is_synced
    assert book.has_waiting, "it is needed for the next one"


async def test_client_that_is_never_heard_of_again_keeps_no_record(world: World) -> None:
    shelf = Shelf(world, deep=True, depth=700)
    await shelf.synced()
    assert isinstance(book := shelf.deep.book, Book)
    assert isinstance(await shelf.ask(1000), Wanting)
    assert book.recording == 1
    await shelf.pushing(130_000, every_ms=1000)
    assert book.recording == 0
    assert not book.has_waiting


async def test_answer_from_before_a_loss_is_no_snapshot(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    shelf.push()
    found = await shelf.ask(100)
    assert isinstance(found, Wanting)
    body = shelf.model.body(shelf.model.update_id, 100)
    shelf.lose(shelf.deep)
    shelf.live(shelf.deep)
    found.take(body)
    assert not shelf.deep.is_known
    assert isinstance(shelf.deep.book, Book)
    assert shelf.deep.book.recording == 0


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
async def test_read_from_before_a_loss_counts_for_nothing(each_world: World, what: str) -> None:
    shelf = Shelf(each_world, deep=what == BOOK, partial=what == PARTIAL_BOOK)
    kept = shelf.deep if what == BOOK else shelf.partial
    each_world.door.held.clear()
    asked = asyncio.create_task(shelf.ask(20))
    await each_world.until(2500)  # the read is on its way
    assert len(shelf.reads) == 1
    shelf.lose(kept)
    shelf.live(kept)
    for _ in range(5):
        shelf.model.update()
    each_world.door.held.set()
    assert isinstance(await asked, Miss)
    await each_world.settle()
    assert not kept.is_known
    assert kept.seeded_mono < 0
    assert kept.failures == 0
    await each_world.until(6000)
    if what == PARTIAL_BOOK:
        await shelf.hit()


@pytest.mark.parametrize("what", [BOOK, PARTIAL_BOOK])
async def test_lost_book_is_told_again_only_after_news_or_a_read(each_world: World, what: str) -> None:
    shelf = Shelf(each_world, deep=what == BOOK, partial=what == PARTIAL_BOOK)
    shelf.push()
    if what == BOOK:
        await shelf.synced()
    kept = shelf.deep if what == BOOK else shelf.partial
    old = await shelf.hit()
    shelf.lose(kept)
    assert shelf.kind.proof(kept) == (None, "")
    assert await shelf.ask() == Miss("stream not live")
    shelf.model.update()
    shelf.live(kept)
    assert shelf.kind.proof(kept) == (None, "")
    assert kept.proof_mono < 0
    each_world.door.refuse = EgressExhausted(EXHAUSTED, retry_after_s=1)
    assert isinstance(await shelf.ask(), Miss)
    each_world.door.refuse = None
    await asyncio.sleep(6)
    for _ in range(2):
        await shelf.ask()
        await asyncio.sleep(1.5)
    new = await shelf.hit()
    assert new.body != old.body
    assert orjson.loads(new.body)["lastUpdateId"] == shelf.model.update_id


async def test_gap_is_seen_and_nothing_is_told_until_it_is_read_again(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    await shelf.synced()
    await shelf.hit(100)
    shelf.model.update()
    assert shelf.model.cut(shelf.socket) is not None  # lost
    shelf.push()
    assert shelf.kind.gaps == 1
    found = await shelf.ask(100)
    assert isinstance(found, Wanting)
    assert found.reason == "not read yet"
    await shelf.pushing(12_000)
    await shelf.hit(100)
    assert len(shelf.reads) == 1


async def test_book_that_breaks_again_and_again_is_read_at_growing_pauses(world: World) -> None:
    shelf = Shelf(world, deep=True)
    await shelf.synced()
    for after_ms in range(3000, 300_000, 1000):
        await world.until(after_ms)
        shelf.deep.used_mono = world.clock.mono()
        shelf.model.update()
        shelf.model.cut(shelf.socket)
        shelf.push()
    assert shelf.kind.gaps > 5
    assert 4 <= len(shelf.reads) <= 12


async def test_refused_read_waits_as_long_as_it_is_told_to(world: World) -> None:
    shelf = Shelf(world, deep=True)
    shelf.push()
    await shelf.ask(100)
    world.door.refuse = EgressExhausted(EXHAUSTED, retry_after_s=30)
    await shelf.pushing(2500)
    assert shelf.reads == []
    assert shelf.deep.not_before_mono == pytest.approx(world.clock.mono() + 30.0, abs=1.6)
    world.door.refuse = None
    await shelf.pushing(28_000)
    assert shelf.reads == []
    await shelf.pushing(36_000)
    assert shelf.reads == [500]
    await shelf.hit(100)
    assert not any(is_urgent for _, is_urgent in world.door.admitted)


async def test_failed_reads_are_repeated_at_growing_pauses(world: World) -> None:
    shelf = Shelf(world, deep=True)
    world.door.answers[shelf.path] = lambda *_: b"<html>"
    for after_ms in range(0, 300_000, 5000):
        await world.until(after_ms)
        shelf.push()
        await shelf.ask(100)
    assert 4 <= len(shelf.reads) <= 10


async def test_nobody_pays_for_a_book_nobody_asks_for(world: World) -> None:
    shelf = Shelf(world, deep=True)
    await shelf.pushing(70_000, every_ms=1000)
    shelf.lose(shelf.deep)
    shelf.live(shelf.deep)
    reads = len(shelf.reads)
    await shelf.pushing(200_000, every_ms=1000)
    assert len(shelf.reads) == reads
    shelf.deep.is_preload = True
    await shelf.pushing(203_000)
    assert len(shelf.reads) == reads + 1


async def test_shallow_book_is_read_deeper_when_it_is_asked_for_again(world: World) -> None:
    shelf = Shelf(world, deep=True)
    shelf.push()
    found = await shelf.ask(50)
    assert isinstance(found, Wanting)
    found.take(shelf.model.body(shelf.model.update_id, 50))
    await shelf.pushing(2000)
    await shelf.hit(5)
    assert shelf.reads == []
    first = await shelf.ask(100)
    assert isinstance(first, Wanting)
    assert first.reason == "levels not known"
    first.leave()
    await shelf.pushing(5000)
    assert shelf.reads == [], "once is no habit"
    second = await shelf.ask(100)
    assert isinstance(second, Wanting)
    second.leave()
    await shelf.pushing(8000)
    assert shelf.reads == [500]
    await shelf.hit(100)


async def test_answer_for_more_levels_makes_the_book_deeper(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    await shelf.synced()
    shelf.push()
    found = await shelf.ask(1000)
    assert isinstance(found, Wanting | Hit)
    if isinstance(found, Wanting):
        shelf.push()
        found.take(shelf.model.body(shelf.model.update_id, 1000))
        shelf.push()
    await shelf.hit(1000)
    assert shelf.reads == []


async def test_quiet_deep_book_is_believed_only_at_the_very_update_rest_has(each_world: World) -> None:
    """The best levels say nothing about those below them."""
    shelf = Shelf(each_world, deep=True, quiet_s=10.0)
    await shelf.synced()
    await each_world.until(12_000)
    await shelf.hit(100)
    await each_world.until(14_000)
    hit = await shelf.hit(100)
    assert hit.age_ms < 3000
    assert shelf.kind.proof(shelf.deep)[1] == "rest"
    assert shelf.reads == [20]
    best = shelf.model.levels(shelf.model.update_id, 20)
    while True:
        shelf.model.update()
        if shelf.model.levels(shelf.model.update_id, 20) == best:
            break
        shelf.push()
        await asyncio.sleep(0.01)
        best = shelf.model.levels(shelf.model.update_id, 20)
    await asyncio.sleep(12)
    found = await shelf.ask(100)
    assert isinstance(found, Wanting), "something deeper has changed unseen"
    assert found.reason == "stream quiet"
    found.take(shelf.model.body(shelf.model.update_id, 100))


async def test_mute_deep_stream_is_found_and_moved(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True, quiet_s=10.0)
    await shelf.synced()
    begun = each_world.clock.mono()
    times: dict[int, float] = {}
    while not each_world.moved and each_world.clock.mono() < begun + 60:
        shelf.model.update()
        times[shelf.model.update_id] = each_world.clock.mono()
        await asyncio.sleep(0.25)
        found = await shelf.ask(100)
        if isinstance(found, Wanting):
            found.take(shelf.model.body(shelf.model.update_id, 100))
        elif isinstance(found, Hit):
            update_id = orjson.loads(found.body)["lastUpdateId"]
            assert found.body == shelf.model.body(update_id, 100)
            newer = [at for each, at in times.items() if each > update_id]
            assert not newer or min(newer) >= each_world.clock.mono() - found.age_ms / 1000 - 0.001
    assert [id(each) for each in each_world.moved] == [id(shelf.deep)]
    assert each_world.clock.mono() - begun < 25


async def test_snapshot_ahead_of_a_mute_stream_proves_nothing_about_what_is_held(world: World) -> None:
    shelf = Shelf(world, deep=True, quiet_s=10.0)
    shelf.push()
    early = await shelf.ask(500)
    late = await shelf.ask(50)
    assert isinstance(early, Wanting)
    assert isinstance(late, Wanting)
    early.take(shelf.model.body(shelf.model.update_id, 500))
    await shelf.hit(100)
    await world.until(900)
    for _ in range(5):
        shelf.model.update()  # mute from here on
    newer = await shelf.ask(50)
    late.take(shelf.model.body(shelf.model.update_id, 50))
    assert isinstance(newer, Hit)
    assert shelf.kind.proof(shelf.deep)[0] == pytest.approx(900, abs=50)


async def test_whoever_asks_but_once_costs_no_read_of_its_own(each_world: World) -> None:
    shelf = Shelf(each_world, deep=True)
    await shelf.pushing(10_000)
    assert shelf.reads == []
    found = await shelf.ask(100)
    assert isinstance(found, Wanting)
    found.leave()
    await shelf.pushing(12_000)
    assert shelf.reads == [500]


async def test_book_of_a_rule_is_read_before_anybody_asks(each_world: World) -> None:
    shelf = Shelf(each_world)
    shelf.keep(BOOK, is_preload=True)
    await shelf.pushing(3000)
    assert shelf.reads == [1000]
