"""Streams over TLS: the certificate counts, frames arrive."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from resender.aio import Clock, Tasks
from resender.core.markets import Market
from resender.upstream.stream import StreamSession
from resender.upstream.stream_pool import StreamPool
from resender.upstream.tls import make_context
from tests.component.test_streams import BTC, QUICK, Seen, Venue
from tests.support.running import wait_until

pytestmark = pytest.mark.component


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_stream_over_tls_needs_a_trusted_certificate(
    is_trusted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    file = tmp_path / "ca.pem"
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(str(file))
    tasks = Tasks()
    async with Venue() as venue:
        secure = await asyncio.get_running_loop().create_server(
            venue._server, "localhost", 0, ssl=server_context
        )
        url = f"wss://localhost:{secure.sockets[0].getsockname()[1]}"
        told: list[list[str]] = []
        pool = StreamPool(
            Market.SPOT, url, "", QUICK,
            on_frame=lambda name, data: seen.frames.append((name, data)), on_live=told.append,
            on_lost=lambda names: None, tasks=tasks, clock=Clock(),
            session_factory=lambda: StreamSession(url, 2.0, ssl_context=make_context(str(file))),
        )  # fmt: skip
        seen = Seen(pool, tasks)
        await pool.start()
        pool.want([BTC])
        if is_trusted:
            await wait_until(lambda: told)
            await venue.publish(BTC, {"u": 1})
            await wait_until(lambda: seen.frames)
        else:
            await wait_until(lambda: "its TLS certificate is not valid" in caplog.text)
            assert not told
        await pool.stop()
        assert not len(tasks)
        secure.close()
