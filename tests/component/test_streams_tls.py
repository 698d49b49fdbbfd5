"""Streams over TLS: the certificate counts, frames arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.upstream.streams.pool import StreamPool
from resender.upstream.streams.session import StreamSession
from resender.upstream.tls import make_context
from tests.support.authority import AUTHORITY, Authority
from tests.support.running import wait_until
from tests.support.venue import BTC, QUICK, Seen, Venue

pytestmark = pytest.mark.component


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_stream_over_tls_needs_a_trusted_certificate(
    is_trusted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "ca.pem"
    (AUTHORITY if is_trusted else Authority()).write_ca(file)
    tasks = Tasks()
    async with Venue(context=AUTHORITY.server_context("localhost")) as venue:
        url = f"wss://localhost:{venue.port}"
        told: list[list[str]] = []
        pool = StreamPool(
            Market.SPOT, url, "", QUICK,
            on_frame=lambda name, data, raw: seen.frames.append((name, data)), on_live=told.append,
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
            await wait_until(lambda: "its TLS certificate is signed by an authority" in caplog.text)
            assert not told
        await pool.stop()
        assert not len(tasks)
