"""Answers about many series: their pieces are the whole, packing is shared, and memory stays bounded."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.aio import Tasks
from resender.core.market.row_store import Buffer
from resender.market import joined as module
from resender.market.joined import PIECE_BYTES, Joined, JoinedAnswers, Pieces

# More than may be kept joined without compression.
HEAVY = 5 << 20


def noise(size: int, salt: int = 1) -> bytes:
    """Make bytes that repeat late and hardly compress."""
    value, found = salt, bytearray()
    while len(found) < min(size, 4096):
        value = value * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        found.append(value >> 16 & 0xFF)
    return bytes(found) * (size // max(1, len(found))) + bytes(found[: size % max(1, len(found))])


def unpacked(packed: bytes) -> bytes:
    reader = zlib.decompressobj(31)
    plain = reader.decompress(packed)
    assert reader.eof
    assert reader.unused_data == b"", "more than one member: not every client reads that"
    assert gzip.decompress(packed) == plain
    return plain


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.cancel()


class Packing:
    """Compression that counts how often it is done, and may be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.at_once = self.most_at_once = 0
        self.held = asyncio.Event()
        self.held.set()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(asyncio, "to_thread", self._in_thread)

    async def _in_thread(self, work: object, pieces: Pieces) -> bytes:
        assert work is module._pack
        self.count += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        await self.held.wait()
        self.at_once -= 1
        return module._pack(pieces)


@pytest.fixture
async def packing(monkeypatch: pytest.MonkeyPatch) -> Packing:
    return Packing(monkeypatch)


# -- pieces -------------------------------------------------------------------------------------

sizes = st.one_of(
    st.integers(0, 300),
    st.integers(PIECE_BYTES - 2, PIECE_BYTES + 2),
    st.integers(2 * PIECE_BYTES - 2, 2 * PIECE_BYTES + 2),
    st.integers(0, 3 * PIECE_BYTES),
)


@st.composite
def bodies(draw: st.DrawFn) -> list[Buffer]:
    """Draw parts of a body, some of them views of something larger."""
    parts: list[Buffer] = []
    for number, size in enumerate(draw(st.lists(sizes, max_size=12))):
        part = noise(size, number + 1)
        parts.append(memoryview(b"x" + part + b"x")[1:-1] if draw(st.booleans()) else part)
    return parts


@given(bodies())
def test_pieces_are_the_whole_and_none_is_large(parts: Sequence[Buffer]) -> None:
    whole = b"".join(parts)
    pieces = Pieces(parts)
    found = list(pieces)
    assert b"".join(found) == pieces.join() == whole
    assert pieces.size == len(whole)
    assert all(type(piece) is bytes for piece in found), "a socket is given no view"
    assert all(len(piece) <= 2 * PIECE_BYTES for piece in found)
    assert list(pieces) == found, "they can be gone through again"


def test_many_small_parts_become_few_pieces() -> None:
    found = list(Pieces([noise(1000)] * 1000))
    assert len(found) == 1_000_000 // PIECE_BYTES + 1
    assert all(len(piece) >= PIECE_BYTES for piece in found[:-1])


def test_one_large_part_becomes_many_pieces() -> None:
    found = list(Pieces([b"[", memoryview(noise(HEAVY)), b"]"]))
    assert len(found) > HEAVY // PIECE_BYTES
    assert max(map(len, found)) <= PIECE_BYTES + 1


def test_what_comes_behind_a_large_part_begins_a_piece_of_its_own() -> None:
    kib = 1024
    found = list(Pieces([b"a" * size * kib for size in (100, 200, 60, 60, 60)]))
    assert [len(piece) // kib for piece in found] == [228, 72, 180]


@pytest.mark.parametrize("parts", [[], [b""], [b"", memoryview(b"")]])
def test_nothing_is_an_empty_body(parts: list[Buffer]) -> None:
    pieces = Pieces(parts)
    assert (b"".join(pieces), pieces.join(), pieces.size) == (b"", b"", 0)


# -- one answer ---------------------------------------------------------------------------------


async def test_light_answer_is_joined_at_once_and_holds_on_to_no_rows() -> None:
    rows = bytearray(b"[1],[2]")
    joined = Joined([b"[", memoryview(rows), b"]"], "stamp", "notes")
    rows[:] = b"[8],[9]"  # what it was made of has changed since
    assert joined.is_light
    assert joined.pieces is not None
    assert joined.pieces.join() == b"[[1],[2]]"
    assert (joined.size_bytes, joined.stamp, joined.notes) == (9, "stamp", "notes")


@pytest.mark.parametrize(("size", "is_light"), [(4 << 20, True), ((4 << 20) + 1, False)])
async def test_answer_of_megabytes_is_heavy_and_counts_only_once_it_is_packed(
    size: int, is_light: bool, tasks: Tasks
) -> None:
    joined = Joined([noise(size)], None, None)
    assert joined.is_light is is_light
    assert joined.size_bytes == (size if is_light else 0)
    packed = await joined.packed(asyncio.Semaphore(1), tasks)
    assert joined.size_bytes == len(packed) + (size if is_light else 0)


@pytest.mark.parametrize("size", [0, 1, 2000, PIECE_BYTES, HEAVY])
async def test_packed_answer_is_one_gzip_member_of_the_plain_one(size: int, tasks: Tasks) -> None:
    body = noise(size)
    joined = Joined([body[: size // 3], memoryview(body)[size // 3 :]], None, None)
    packed = await joined.packed(asyncio.Semaphore(1), tasks)
    assert unpacked(packed) == body
    assert size < 10_000 or len(packed) < size


async def test_heavy_answer_gives_its_pieces_up_once_it_is_packed_and_a_light_one_does_not(
    tasks: Tasks,
) -> None:
    slot = asyncio.Semaphore(1)
    heavy, light = Joined([noise(HEAVY)], None, None), Joined([noise(2000)], None, None)
    reading = heavy.pieces
    assert reading is not None
    packed = await heavy.packed(slot, tasks)
    assert heavy.pieces is None
    assert b"".join(reading) == noise(HEAVY), "who writes them meanwhile has them to the end"
    assert await heavy.packed(slot, tasks) is packed
    await light.packed(slot, tasks)
    assert light.pieces is not None
    assert light.pieces.join() == noise(2000)


async def test_equal_callers_share_one_packing(packing: Packing, tasks: Tasks) -> None:
    joined, slot = Joined([noise(5000)], None, None), asyncio.Semaphore(1)
    first, *others = await asyncio.gather(*(joined.packed(slot, tasks) for _ in range(20)))
    assert all(each is first for each in others)
    assert await joined.packed(slot, tasks) is first
    assert packing.count == 1


async def test_caller_that_leaves_does_not_take_the_packing_from_the_others(
    packing: Packing, tasks: Tasks
) -> None:
    packing.held.clear()
    joined, slot = Joined([noise(5000)], None, None), asyncio.Semaphore(1)
    first, second = (asyncio.create_task(joined.packed(slot, tasks)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert first.cancelled()
    packing.held.set()
    assert unpacked(await second) == noise(5000)
    assert packing.count == 1


async def test_packing_nobody_waits_for_any_more_serves_the_next(packing: Packing, tasks: Tasks) -> None:
    packing.held.clear()
    joined, slot = Joined([noise(5000)], None, None), asyncio.Semaphore(1)
    only = asyncio.create_task(joined.packed(slot, tasks))
    await asyncio.sleep(0.01)
    only.cancel()
    await asyncio.sleep(0.01)
    packing.held.set()
    assert unpacked(await joined.packed(slot, tasks)) == noise(5000)
    assert packing.count == 1


# -- what is kept -------------------------------------------------------------------------------


def kept_of(answers: JoinedAnswers, keys: range) -> list[int]:
    """List the keys of which there is an answer, without asking for it."""
    return [key for key in keys if key in answers._kept]


async def test_answer_that_is_kept_is_found_by_its_key_and_gives_way_to_the_next(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks)
    assert answers.get("key") is None
    one, other = Joined([b"1"], 1, None), Joined([b"2"], 2, None)
    answers.keep("key", one)
    assert answers.get("key") is one
    assert answers.get("other") is None
    answers.keep("key", other)
    assert answers.get("key") is other


async def test_answers_take_no_more_memory_than_allowed_and_the_oldest_goes_first(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=10_000)
    for key in range(5):
        answers.keep(key, Joined([noise(3000)], None, None))
    assert kept_of(answers, range(5)) == [2, 3, 4]


async def test_answer_somebody_asked_for_stays_longer(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=10_000)
    for key in range(3):
        answers.keep(key, Joined([noise(3000)], None, None))
    answers.get(0)
    answers.keep(3, Joined([noise(3000)], None, None))
    assert kept_of(answers, range(4)) == [0, 2, 3]


async def test_answer_kept_anew_is_the_newest(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=10_000)
    for key in (0, 1, 2, 0, 3):
        answers.keep(key, Joined([noise(3000)], None, None))
    assert kept_of(answers, range(4)) == [0, 2, 3]


async def test_exactly_what_is_allowed_is_kept_and_a_byte_more_is_not(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=6000)
    answers.keep(0, Joined([noise(3000)], None, None))
    answers.keep(1, Joined([noise(3000)], None, None))
    assert kept_of(answers, range(2)) == [0, 1]
    answers.keep(2, Joined([b"x"], None, None))
    assert kept_of(answers, range(3)) == [1, 2]


async def test_answer_larger_than_all_that_is_allowed_is_not_kept(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=1000)
    answers.keep(0, Joined([noise(1001)], None, None))
    assert answers.get(0) is None


async def test_what_packing_adds_counts_too(tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks, max_bytes=9000)
    parts = [noise(4000, salt) for salt in range(2)]
    for key, part in enumerate(parts):
        answers.keep(key, Joined([part], None, None))
    newest = answers.get(1)
    assert newest is not None
    assert unpacked(await answers.packed(newest)) == parts[1]
    assert kept_of(answers, range(2)) == [1]


async def test_one_answer_is_packed_at_a_time(packing: Packing, tasks: Tasks) -> None:
    answers = JoinedAnswers(tasks)
    every = [Joined([noise(3000, salt)], None, None) for salt in range(4)]
    found = await asyncio.gather(*(answers.packed(each) for each in every))
    assert [unpacked(each) for each in found] == [noise(3000, salt) for salt in range(4)]
    assert (packing.count, packing.most_at_once) == (4, 1)


async def test_packing_that_fails_costs_its_own_call_only_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = Tasks()
    answers = JoinedAnswers(tasks)
    bad, good = Joined([b"x" * 3000], None, None), Joined([b"y" * 3000], None, None)
    answers.keep("bad", bad)

    def fail(pieces: Pieces) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(module, "_pack", fail)
        with pytest.raises(MemoryError):
            await answers.packed(bad)
    answers.keep("good", good)
    assert gzip.decompress(await answers.packed(good)) == b"y" * 3000
    assert gzip.decompress(await answers.packed(bad)) == b"x" * 3000
    await tasks.cancel()


async def test_equal_answers_are_made_one_after_the_other_and_others_beside_them() -> None:
    answers, inside, most = JoinedAnswers(Tasks()), 0, 0

    async def make(key: str) -> None:
        nonlocal inside, most
        async with answers.making(key):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(make("a") for _ in range(5)))
    assert most == 1
    await asyncio.gather(*(make(str(number)) for number in range(5)))
    assert most == 5
    assert answers._making == {}


async def test_packing_nobody_waits_for_any_more_keeps_no_place_in_the_line(packing: Packing) -> None:
    answers = JoinedAnswers(Tasks())
    packing.held.clear()
    first, *gone, last = (
        asyncio.create_task(answers.pack_once(Pieces([noise(3000, salt)]))) for salt in range(7)
    )
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    packing.held.set()
    assert unpacked(await first) == noise(3000, 0)
    assert unpacked(await last) == noise(3000, 6)
    assert packing.count == 2
