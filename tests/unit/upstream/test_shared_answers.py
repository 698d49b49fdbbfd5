"""Answers that several clients read, with answers made by hand."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest

from resender.errors import AnswerError, UpstreamLost
from resender.upstream.shared_answers import SharedAnswer, SharedAnswers


class Made:
    """An upstream answer whose pieces the test hands out."""

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.reason = "OK"
        self.headers = ((b"content-type", b"application/json"),)
        self.egress = "default"
        self.told: list[tuple[str, str]] = []
        self.pieces: asyncio.Queue[bytes | AnswerError] = asyncio.Queue()
        self.is_closed = False
        self.is_over = False

    def give(self, *pieces: bytes | AnswerError) -> Made:
        for piece in pieces:
            self.pieces.put_nowait(piece)
        return self

    async def next_chunk(self) -> bytes:
        piece = await self.pieces.get()
        if isinstance(piece, AnswerError):
            raise piece
        self.is_over = not piece
        return piece

    def at_end(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.is_closed = True


class Upstream:
    """Counts what is sent and answers when it is told to."""

    def __init__(self) -> None:
        self.sent = 0
        self.answers: asyncio.Queue[Made | AnswerError] = asyncio.Queue()

    async def send(self) -> Made:
        self.sent += 1
        answer = await self.answers.get()
        if isinstance(answer, AnswerError):
            raise answer
        return answer


class Time:
    now = 1000.0

    def mono(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def shared_answers(time: Time) -> SharedAnswers:
    return SharedAnswers(time.mono)


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


async def read(reading: SharedAnswer) -> bytes:
    body = b""
    while chunk := await reading.next_chunk():
        body += chunk
    assert reading.at_end()
    reading.close()
    return body


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_equal_calls_under_way_are_sent_once_and_all_get_the_answer(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    async def client() -> tuple[str, bytes]:
        reading = await shared_answers.get(("k",), upstream.send)
        return reading.kind, await read(reading)

    clients = [asyncio.ensure_future(client()) for _ in range(100)]
    await settle()
    made = Made().give(b"one", b"two", b"")
    upstream.answers.put_nowait(made)
    answers = await asyncio.gather(*clients)
    assert upstream.sent == 1
    assert sorted(answers) == [("", b"onetwo"), *[("joined", b"onetwo")] * 99]
    assert made.is_closed
    assert shared_answers.joined == 99


async def test_a_late_client_gets_the_pieces_that_have_passed(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    made = Made().give(b"first")
    upstream.answers.put_nowait(made)
    leader = await shared_answers.get(("k",), upstream.send)
    assert await leader.next_chunk() == b"first"
    late = await shared_answers.get(("k",), upstream.send)
    made.give(b"last", b"")
    assert await read(late) == b"firstlast"
    assert await leader.next_chunk() == b"last"
    assert upstream.sent == 1


async def test_after_the_end_a_call_is_sent_anew(shared_answers: SharedAnswers, upstream: Upstream) -> None:
    for _ in range(2):
        upstream.answers.put_nowait(Made().give(b"x", b""))
        assert await read(await shared_answers.get(("k",), upstream.send)) == b"x"
    assert upstream.sent == 2


async def test_an_error_is_shared(shared_answers: SharedAnswers, upstream: Upstream) -> None:
    clients = [asyncio.ensure_future(shared_answers.get(("k",), upstream.send)) for _ in range(5)]
    await settle()
    upstream.answers.put_nowait(UpstreamLost("gone"))
    results = await asyncio.gather(*clients, return_exceptions=True)
    assert [str(result) for result in results] == ["gone"] * 5
    assert upstream.sent == 1
    upstream.answers.put_nowait(Made().give(b"x", b""))
    assert await read(await shared_answers.get(("k",), upstream.send)) == b"x"


async def test_a_break_in_the_body_reaches_everybody(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    made = Made().give(b"half")
    upstream.answers.put_nowait(made)
    readings = [await shared_answers.get(("k",), upstream.send) for _ in range(3)]
    made.give(UpstreamLost("broke off"))
    for reading in readings:
        assert await reading.next_chunk() == b"half"
        with pytest.raises(UpstreamLost):
            await reading.next_chunk()
        assert not reading.at_end()
        reading.close()
    assert made.is_closed


async def test_a_client_that_leaves_while_it_reads_for_all_takes_nothing_away(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    made = Made()
    upstream.answers.put_nowait(made)
    leader = await shared_answers.get(("k",), upstream.send)
    other = await shared_answers.get(("k",), upstream.send)
    driving = asyncio.ensure_future(leader.next_chunk())
    waiting = asyncio.ensure_future(other.next_chunk())
    await settle()
    driving.cancel()
    await settle()
    leader.close()
    assert not made.is_closed
    made.give(b"all", b"")
    assert await waiting == b"all"
    assert await read(other) == b""
    assert made.is_closed


async def test_when_the_sender_goes_before_the_answer_another_one_sends(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    leader = asyncio.ensure_future(shared_answers.get(("k",), upstream.send))
    await settle()
    others = [asyncio.ensure_future(shared_answers.get(("k",), upstream.send)) for _ in range(3)]
    await settle()
    assert shared_answers.stays_for_others(("k",), leader)
    leader.cancel()
    await settle()
    upstream.answers.put_nowait(Made().give(b"x", b""))
    readings = await asyncio.gather(*others)
    assert [await read(reading) for reading in readings] == [b"x"] * 3
    assert upstream.sent == 2


async def test_a_slow_reader_holds_up_nobody(shared_answers: SharedAnswers, upstream: Upstream) -> None:
    made = Made().give(*[b"x" * 1000] * 50, b"")
    upstream.answers.put_nowait(made)
    slow = await shared_answers.get(("k",), upstream.send)
    fast = await shared_answers.get(("k",), upstream.send)
    assert len(await read(fast)) == 50_000
    assert len(await read(slow)) == 50_000


async def test_a_large_body_for_one_client_is_not_kept(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    piece = b"x" * (1 << 18)
    made = Made().give(*[piece] * 40, b"")
    upstream.answers.put_nowait(made)
    reading = await shared_answers.get(("k",), upstream.send)
    most = 0
    while await reading.next_chunk():
        most = max(most, sum(len(chunk) for chunk in reading._call.chunks))
    assert most <= 6 * len(piece)
    assert not shared_answers._shared
    reading.close()


# --- memory ------------------------------------------------------------------------------------


async def test_an_answer_serves_equal_calls_until_it_is_too_old(
    shared_answers: SharedAnswers, upstream: Upstream, time: Time
) -> None:
    upstream.answers.put_nowait(Made().give(b"old", b""))
    assert await read(await shared_answers.get(("k",), upstream.send, memory_s=10)) == b"old"
    time.now += 9.5
    again = await shared_answers.get(("k",), upstream.send, memory_s=10)
    assert (again.kind, again.age_ms, again.egress) == ("shared", 9500, "default")
    assert await read(again) == b"old"
    upstream.answers.put_nowait(Made().give(b"new", b""))
    time.now += 0.5
    late = await shared_answers.get(("k",), upstream.send, memory_s=10)
    assert (late.kind, await read(late)) == ("", b"new")
    assert upstream.sent == 2


async def test_a_client_that_wants_a_fresh_answer_gets_one_and_renews_the_memory(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    for body in (b"old", b"new"):
        upstream.answers.put_nowait(Made().give(body, b""))
        assert (
            await read(await shared_answers.get(("k",), upstream.send, memory_s=10, use_memory=False)) == body
        )
    assert await read(await shared_answers.get(("k",), upstream.send, memory_s=10)) == b"new"
    assert upstream.sent == 2


@pytest.mark.parametrize(
    "made", [lambda: Made(status=503).give(b"x", b""), lambda: Made().give(b"x", UpstreamLost("broke"))]
)
async def test_what_failed_is_not_remembered(shared_answers: SharedAnswers, upstream: Upstream, made) -> None:
    upstream.answers.put_nowait(made())
    reading = await shared_answers.get(("k",), upstream.send, memory_s=10)
    with pytest.raises(UpstreamLost) if reading.status == 200 else nullcontext():
        await read(reading)
    upstream.answers.put_nowait(Made().give(b"good", b""))
    assert await read(await shared_answers.get(("k",), upstream.send, memory_s=10)) == b"good"
    assert upstream.sent == 2


async def test_the_memory_of_all_answers_together_is_bounded(
    shared_answers: SharedAnswers, upstream: Upstream, time: Time
) -> None:
    body = b"x" * (4 << 20)
    for number in range(20):
        upstream.answers.put_nowait(Made().give(body, b""))
        await read(await shared_answers.get((str(number),), upstream.send, memory_s=100))
    assert shared_answers._memory_bytes <= 64 << 20
    upstream.answers.put_nowait(Made().give(b"again", b""))
    assert await read(await shared_answers.get(("0",), upstream.send, memory_s=100)) == b"again"
    assert (await shared_answers.get(("19",), upstream.send, memory_s=100)).kind == "shared"
    time.now += 100
    upstream.answers.put_nowait(Made().give(b"last", b""))
    await read(await shared_answers.get(("last",), upstream.send, memory_s=100))
    assert shared_answers._memory_bytes == 4


# --- leaving -------------------------------------------------------------------------------------


async def test_a_sender_goes_on_for_others_until_they_have_left_too(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    leader = asyncio.ensure_future(shared_answers.get(("k",), upstream.send))
    await settle()
    others = [asyncio.ensure_future(shared_answers.get(("k",), upstream.send)) for _ in range(2)]
    await settle()
    assert not shared_answers.stays_for_others(("k",), others[0])
    assert shared_answers.stays_for_others(("k",), leader)
    others[0].cancel()
    await settle()
    assert not leader.done()
    others[1].cancel()
    await settle()
    assert leader.cancelled()
    assert not shared_answers._shared


async def test_a_sender_does_not_go_on_for_nobody_and_not_for_those_who_can_read(
    shared_answers: SharedAnswers, upstream: Upstream
) -> None:
    leader = asyncio.ensure_future(shared_answers.get(("k",), upstream.send))
    await settle()
    assert not shared_answers.stays_for_others(("k",), leader)
    assert not shared_answers.stays_for_others(None, leader)
    made = Made()
    upstream.answers.put_nowait(made)
    reading = await leader
    other = await shared_answers.get(("k",), upstream.send)
    assert not shared_answers.stays_for_others(("k",), leader)
    reading.close()
    made.give(b"all", b"")
    assert await read(other) == b"all"
