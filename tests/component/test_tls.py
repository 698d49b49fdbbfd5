"""HTTPS upstreams: certificates are checked, sessions are resumed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resender.upstream.tls import make_context
from tests.support.authority import AUTHORITY, Authority
from tests.support.client import call
from tests.support.running import make_config, running
from tests.support.upstream import response

pytestmark = pytest.mark.component


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def tls_server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """A server that closes after each answer, so that every call needs a new connection."""
    context = AUTHORITY.server_context("localhost", "127.0.0.1")
    context.maximum_version = request.param

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(headers=(("connection", "close"),)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}", context
    server.close()


async def test_new_connections_resume_the_tls_session(
    tls_server: tuple[str, ssl.SSLContext], tmp_path: Path
) -> None:
    url, server = tls_server
    async with running(make_config(tmp_path, url)) as run:
        for _ in range(5):
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
    stats = server.session_stats()
    assert stats["accept"] == 5
    assert stats["hits"] == 4


async def test_certificate_of_a_stranger_is_refused(
    tls_server: tuple[str, ssl.SSLContext], tmp_path: Path
) -> None:
    url, _ = tls_server
    stranger = make_context(cadata=Authority().ca_pem.decode())
    async with running(make_config(tmp_path, url), ssl_context=stranger) as run:
        reply = await call(run.port, "POST", "/api/v3/order")
    assert reply.status == 502
    assert reply.json()["code"] == -2
    assert "certificate" in reply.json()["msg"]


def test_context_verifies_and_refuses_old_versions() -> None:
    context = make_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
