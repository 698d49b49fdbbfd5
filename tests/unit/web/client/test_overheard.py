"""An answer that the cache takes a copy of: it is told once what came of it, and the client gets the same."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.errors import UpstreamLost
from resender.market import Wanting
from resender.web.client import overheard as module
from resender.web.client.overheard import Overheard

BODY = b'{"lastUpdateId":7,"bids":[],"asks":[]}'


class Response:
    """An upstream's answer in pieces, with the face of `RestResponse`.

    Shape: with `tells_end` the end is known with the last piece; an error in the place of a piece is raised.
    """

    def __init__(
        self,
        *pieces: bytes | BaseException,
        status: int = 200,
        encoding: bytes | None = None,
        tells_end: bool = True,
    ) -> None:
        self.pieces = list(pieces)
        self.tells_end = tells_end
        self.is_over = False
        self.closed = 0
        self.status = status
        self.reason = "Fine"
        self.headers: tuple[tuple[bytes, bytes], ...] = ((b"Content-Type", b"application/json"),)
        if encoding is not None:
            self.headers += ((b"Content-Encoding", encoding),)
        self.egress = "hk"
        self.told = [("X-Resender-Age", "3")]
        self.kind = "joined"
        self.age_ms = 40

    async def next_chunk(self) -> bytes:
        await asyncio.sleep(0)
        if not self.pieces:
            self.is_over = True
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def at_end(self) -> bool:
        return self.is_over or (self.tells_end and not self.pieces)

    def close(self) -> None:
        self.closed += 1


class Heard:
    """An answer that is overheard, and what the cache is told."""

    def __init__(self, response: Response) -> None:
        self.told: list[bytes | None] = []
        wanting = Wanting("not read yet", self.told.append, lambda: self.told.append(None))
        self.response = response
        self.answer = Overheard(cast(Any, response), wanting)

    async def read(self) -> list[bytes]:
        """Read as the relay does, which stops where it knows the end; return the pieces."""
        pieces = []
        while chunk := await self.answer.next_chunk():
            pieces.append(chunk)
            if self.answer.at_end():
                break
        return pieces


# --- the whole body -------------------------------------------------------------------------------


@pytest.mark.parametrize("tells_end", [True, False])
@pytest.mark.parametrize("pieces", [[BODY], [BODY[:5], BODY[5:9], BODY[9:]]], ids=len)
@pytest.mark.parametrize("encoding", [None, b"identity", b" Identity "])
async def test_body_is_taken_whole_and_once(
    pieces: list[bytes], encoding: bytes | None, tells_end: bool
) -> None:
    heard = Heard(Response(*pieces, encoding=encoding, tells_end=tells_end))
    assert await heard.read() == pieces, "the client's pieces are what came"
    assert heard.told == [BODY]
    assert await heard.answer.next_chunk() == b""
    heard.answer.close()
    assert heard.told == [BODY]
    assert heard.response.closed == 1


async def test_cache_has_the_body_before_the_client_has_its_last_piece() -> None:
    heard = Heard(Response(b"{", b"}"))
    assert await heard.answer.next_chunk() == b"{"
    assert heard.told == []
    assert await heard.answer.next_chunk() == b"}"
    assert heard.told == [b"{}"]


async def test_empty_body_is_taken_too() -> None:
    heard = Heard(Response())
    assert await heard.read() == []
    assert heard.told == [b""]


async def test_face_is_that_of_the_answer() -> None:
    heard = Heard(Response(BODY))
    answer, response = heard.answer, heard.response
    for name in ("status", "reason", "headers", "egress", "kind", "told", "age_ms"):
        assert getattr(answer, name) == getattr(response, name)
    assert not answer.at_end()
    await answer.next_chunk()
    assert answer.at_end()


@pytest.mark.parametrize("size", [10, 300_000])
async def test_compressed_body_is_unpacked_for_the_cache_only(size: int) -> None:
    # What cannot be compressed well, so that the long one is unpacked in a thread.
    plain = random.Random(7).randbytes(size)
    packed = gzip.compress(plain)
    assert (len(packed) > module._UNPACKED_AT_ONCE) is (size > 1000)
    pieces = [packed[:7], packed[7:]]
    for name in (b"gzip", b" GZIP"):
        heard = Heard(Response(*pieces, encoding=name))
        assert await heard.read() == pieces
        assert heard.told == [plain]


# --- no body for the cache ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"zstd", b"gzip, br", b"x-gzip", b""])
async def test_encoding_nothing_here_can_read_leaves_at_once(encoding: bytes) -> None:
    heard = Heard(Response(BODY[:5], BODY[5:], encoding=encoding))
    assert heard.told == [None]
    assert await heard.read() == [BODY[:5], BODY[5:]]
    heard.answer.close()
    assert heard.told == [None]


@pytest.mark.parametrize("status", [201, 204, 304, 400, 418, 429, 503])
@pytest.mark.parametrize("encoding", [None, b"gzip", b"br"])
async def test_answer_that_is_no_200_leaves_at_once(status: int, encoding: bytes | None) -> None:
    heard = Heard(Response(BODY, status=status, encoding=encoding))
    assert heard.told == [None]
    assert await heard.read() == [BODY]
    heard.answer.close()
    assert heard.told == [None]
    assert heard.response.closed == 1


async def test_body_that_is_too_large_leaves_and_goes_on_to_the_client() -> None:
    piece = b"x" * (1 << 20)
    for count, told in ((4, [piece * 4]), (5, [None])):
        heard = Heard(Response(*[piece] * count))
        assert await heard.read() == [piece] * count
        heard.answer.close()
        assert heard.told == told


async def test_what_was_kept_of_a_body_that_is_too_large_is_let_go_at_once() -> None:
    piece = b"x" * (1 << 20)
    heard = Heard(Response(*[piece] * 9))
    for _ in range(5):
        await heard.answer.next_chunk()
    assert heard.told == [None]
    assert heard.answer._chunks == []
    for _ in range(4):
        await heard.answer.next_chunk()
    assert heard.answer._chunks == []


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_answer_that_is_closed_before_its_end_leaves(read: int) -> None:
    heard = Heard(Response(b"{", b'"a":1', b"}"))
    for _ in range(read):
        await heard.answer.next_chunk()
    heard.answer.close()
    heard.answer.close()
    assert heard.told == [None]
    assert heard.response.closed == 2, "as often as it is asked to"


async def test_body_that_breaks_off_leaves_and_the_error_is_the_clients() -> None:
    heard = Heard(Response(b"{", UpstreamLost("broken"), b"}"))
    assert await heard.answer.next_chunk() == b"{"
    with pytest.raises(UpstreamLost, match="broken"):
        await heard.answer.next_chunk()
    heard.answer.close()
    assert heard.told == [None]


@pytest.mark.parametrize(
    "packed",
    [BODY, gzip.compress(BODY)[:-4], gzip.compress(BODY)[:-9] + b"x" * 9, b"\x1f\x8b" + b"x" * 70_000],
    ids=["plain", "cut off", "wrong sum", "long"],
)
async def test_what_cannot_be_unpacked_is_left_and_is_the_clients_to_judge(packed: bytes) -> None:
    heard = Heard(Response(packed, encoding=b"gzip"))
    assert await heard.read() == [packed]
    heard.answer.close()
    assert heard.told == [None]


async def test_client_that_leaves_while_a_long_body_is_unpacked_leaves_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = asyncio.Event()

    async def in_thread(work: Any, *args: Any) -> Any:
        begun.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio, "to_thread", in_thread)
    heard = Heard(Response(random.Random(7).randbytes(100_000), encoding=b"gzip"))
    reading = asyncio.create_task(heard.read())
    await begun.wait()
    assert heard.told == []
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    heard.answer.close()
    assert heard.told == [None]


# --- whatever comes -------------------------------------------------------------------------------


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=6),
    breaks_at=st.none() | st.integers(0, 6),
    stops_at=st.none() | st.integers(0, 7),
    status=st.sampled_from([200, 200, 200, 404]),
    encoding=st.sampled_from([None, None, b"identity", b"gzip", b"br"]),
    is_packed=st.booleans(),
    tells_end=st.booleans(),
    most=st.sampled_from([30, 1 << 20]),
)
def test_exactly_one_of_take_and_leave_is_called_and_the_client_gets_what_came(
    pieces: list[bytes],
    breaks_at: int | None,
    stops_at: int | None,
    status: int,
    encoding: bytes | None,
    is_packed: bool,
    tells_end: bool,
    most: int,
) -> None:
    plain = b"".join(pieces)
    if is_packed:
        packed = gzip.compress(plain, mtime=0)
        pieces = [packed[at : at + 9] for at in range(0, len(packed), 9)]
    size = sum(map(len, pieces))
    sent: list[bytes | BaseException] = list(pieces)
    if breaks_at is not None:
        sent.insert(breaks_at, UpstreamLost("broken"))

    def response() -> Response:
        return Response(*sent, status=status, encoding=encoding, tells_end=tells_end)

    async def read(answer: Any) -> tuple[list[bytes], bool, bool]:
        """Return what a client reads, whether it broke off, and whether it was read to the end."""
        got: list[bytes] = []
        try:
            while stops_at is None or len(got) < stops_at:
                chunk = await answer.next_chunk()
                if not chunk:
                    return got, False, True
                got.append(chunk)
                if answer.at_end():
                    return got, False, True
        except UpstreamLost:
            return got, True, False
        finally:
            answer.close()
        return got, False, False

    async def both() -> None:
        heard = Heard(response())
        found, plainly = await read(heard.answer), await read(response())
        assert found == plainly
        assert len(heard.told) == 1
        is_whole = found[2] and status == 200 and encoding != b"br" and size <= most
        if encoding == b"gzip":
            is_whole = is_whole and (is_packed or not size)
            assert heard.told == [plain if is_whole else None]
        else:
            assert heard.told == [b"".join(pieces) if is_whole else None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_BYTES", most)
        asyncio.run(both())
