"""The probe of one stream, on sockets made of Python objects: what it waits for, what it says, that it closes."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import WSMessage, WSMsgType

from resender.upstream.streams.probe import first_frame_ms
from resender.upstream.streams.session import StreamBroken
from tests.support.running import wait_until
from tests.unit.upstream.fakes import settle
from tests.unit.upstream.streams.test_link import FakeSession

FRAME = b'{"stream":"btcusdt@bookTicker","data":{"u":1}}'


class Session(FakeSession):
    """Each socket has these messages waiting; `ends` with the connection, `fails` when it is written to."""

    def __init__(self, *messages: WSMessage, fails: bool = False) -> None:
        super().__init__()
        self.messages = messages
        self.fails = fails

    async def open(self, target: str, max_message_bytes: int) -> Any:
        socket = await super().open(target, max_message_bytes)
        ws = self.opened[-1]
        ws.error = ConnectionResetError() if self.fails else None
        for message in self.messages:
            ws.received.put_nowait(message)
        return socket


def text(data: bytes) -> WSMessage:
    return WSMessage(WSMsgType.TEXT, data, None)


async def probe(session: Session, wait_s: float = 2.0) -> float:
    return await first_frame_ms(session, "/public", "btcusdt@bookTicker", wait_s)  # type: ignore[arg-type]


def assert_closed(session: Session) -> None:
    (ws,) = session.opened
    assert ws.is_closed
    assert ws.transport.is_aborted
    assert ws._response.is_closed


async def test_first_data_frame_ends_the_probe_and_answers_and_pings_do_not() -> None:
    session = Session(WSMessage(WSMsgType.PING, b"1", None), text(b'{"result":null,"id":1}'), text(FRAME))
    assert await probe(session) >= 0
    (ws,) = session.opened
    assert session.targets == ["/public/stream"]
    assert ws.sent[0][0] is WSMsgType.TEXT
    assert orjson.loads(ws.sent[0][1]) == {"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1}
    assert_closed(session)


async def test_silence_is_told_with_its_length() -> None:
    session = Session()
    with pytest.raises(StreamBroken, match=r"connected, but nothing came within 0\.05 s"):
        await probe(session, 0.05)
    assert_closed(session)


@pytest.mark.parametrize("kind", [WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR])
async def test_connection_that_is_closed_is_told(kind: WSMsgType) -> None:
    session = Session(WSMessage(kind, None, None))
    with pytest.raises(StreamBroken, match="closed at once"):
        await probe(session)
    assert_closed(session)


async def test_connection_that_breaks_off_is_told() -> None:
    session = Session(fails=True)
    with pytest.raises(StreamBroken, match="broke off"):
        await probe(session)
    assert_closed(session)


async def test_probe_that_is_given_up_leaves_nothing_open() -> None:
    session = Session()
    task = asyncio.ensure_future(probe(session, 60))
    await wait_until(lambda: session.opened and session.opened[0].received.empty())
    await wait_until(lambda: session.opened[0].sent)
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_closed(session)
