"""Opening one WebSocket: what is asked for, and the words and the blame when there is none."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSMsgType, web

from resender.core.egress.spec import EgressSpec
from resender.upstream.connector import EgressRoute
from resender.upstream.egresses import make_route
from resender.upstream.streams.session import StreamBroken, StreamSession
from tests.support.authority import AUTHORITY, client_context
from tests.support.ports import free_port
from tests.support.proxies import Proxy


class Exchange:
    """A WebSocket host; `status` is what it answers a handshake with, 101 for a proper one."""

    def __init__(self, status: int = 101, **headers: str) -> None:
        self.status = status
        self.answer_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.seen: list[web.Request] = []
        self.port = 0

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.status != 101:
            return web.Response(status=self.status, headers=self.answer_headers)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        async for _ in socket:
            pass
        return socket

    async def __aenter__(self) -> Exchange:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=AUTHORITY.server_context())
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()


@asynccontextmanager
async def session_to(port: int, egress: EgressRoute | None = None) -> AsyncIterator[StreamSession]:
    options = {} if egress is None else {"egress": egress}
    session = StreamSession(f"wss://127.0.0.1:{port}", 2.0, ssl_context=client_context(), **options)
    await session.start()
    try:
        yield session
    finally:
        await session.stop()


async def test_path_and_query_are_asked_for_as_given_and_nothing_is_compressed() -> None:
    async with Exchange() as exchange, session_to(exchange.port) as session:
        opened = await session.open("/market/stream?streams=a%2Cb", 1000)
        assert (await opened.ws.receive()).data == b"hello"
        assert not opened.transport.is_closing()
        await opened.ws.close()
    (request,) = exchange.seen
    assert request.raw_path == "/market/stream?streams=a%2Cb"
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert request.headers["User-Agent"].startswith("binance-resender/")


async def test_message_over_the_limit_ends_the_connection() -> None:
    async with Exchange() as exchange, session_to(exchange.port) as session:
        opened = await session.open("/stream", 3)
        assert (await opened.ws.receive()).type in (WSMsgType.ERROR, WSMsgType.CLOSED, WSMsgType.CLOSE)
        await opened.ws.close()


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [(429, "30", 30.0), (418, "99999", 3600.0), (503, "", 0.0), (429, "soon", 0.0), (429, "-5", 0.0)],
)
async def test_refused_handshake_tells_status_and_how_long_to_wait(
    status: int, retry_after: str, wait_s: float
) -> None:
    async with Exchange(status, Retry_After=retry_after) as exchange, session_to(exchange.port) as session:
        with pytest.raises(StreamBroken, match=f"127.0.0.1 answered the handshake with {status}") as caught:
            await session.open("/stream", 1000)
    assert caught.value.retry_after_s == wait_s
    assert not caught.value.is_whole
    assert len(exchange.seen) == 1


async def test_host_out_of_reach_is_no_fault_of_the_egress() -> None:
    async with session_to(free_port(), EgressRoute("home")) as session:
        with pytest.raises(StreamBroken, match="through home: it refused the connection") as caught:
            await session.open("/stream", 1000)
    assert not caught.value.is_whole


async def test_proxy_out_of_reach_is_a_fault_of_the_whole_egress() -> None:
    spec = EgressSpec("via", "proxy", scheme="socks5", host="127.0.0.1", port=free_port())
    async with session_to(1, make_route(spec)) as session:
        with pytest.raises(StreamBroken, match="the proxy refused the connection") as caught:
            await session.open("/stream", 1000)
    assert caught.value.is_whole


async def test_host_a_proxy_cannot_reach_is_no_fault_of_the_egress() -> None:
    async with Proxy("socks5", refuse=5) as proxy, session_to(1, make_route(proxy.spec())) as session:
        with pytest.raises(StreamBroken, match="the proxy says it refused") as caught:
            await session.open("/stream", 1000)
    assert not caught.value.is_whole


def test_tls_is_checked_where_no_context_is_given_and_not_asked_for_without_tls() -> None:
    secure = StreamSession("wss://stream.example", 1.0)
    assert isinstance(secure._ssl_context, ssl.SSLContext)
    assert secure._ssl_context.check_hostname
    assert StreamSession("ws://stream.example", 1.0)._ssl_context is None
