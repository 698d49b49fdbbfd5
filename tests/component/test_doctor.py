"""`run.py doctor` tells what is wrong with each upstream."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.core.binance.markets import MARKETS, Market
from resender.doctor import Examination, examine, table
from tests.support.running import make_config
from tests.support.upstream import RawUpstream, answering

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("trusted")]


async def examine_all(tmp_path: Path, url: str, **settings: object) -> list[Examination]:
    # Without the cache and clients no WebSockets are wanted; they have tests of their own.
    config = make_config(tmp_path, url, **{"cache_enabled": False, "max_stream_clients": 0, **settings})
    return [result async for result in examine(config)]


async def test_healthy_upstreams_are_ok_in_turn(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering(x_mbx_used_weight_1m="17")
    results = await examine_all(tmp_path, upstream.url)
    assert [r.market for r in results] == [facts.market for facts in MARKETS]
    for result in results:
        assert result.is_ok
        assert result.verdict == "ok"
        assert result.used_weight == "17"
        assert result.ping_ms is not None
        assert (result.skew_ms is None) is (result.market is Market.PM)
    lines = table(results)
    assert len(lines) == 6
    assert lines[0].split()[:2] == ["market", "upstream"]
    assert all(upstream.url in line for line in lines[1:])


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        ("451 Unavailable For Legal Reasons", b'{"code":0}', {}, "region block"),
        ("418 I'm a teapot", b"{}", {"retry_after": "55"}, "ends in 55 s"),
        ("429 Too Many Requests", b"{}", {"retry_after": "9"}, "try again in 9 s"),
        ("403 Forbidden", b"<html>", {}, "firewall"),
        ("502 Bad Gateway", b"<html>oops", {}, "HTTP 502"),
    ],
)
async def test_refusals_are_told_in_plain_words(
    tmp_path: Path, upstream: RawUpstream, status: str, body: bytes, headers: dict[str, str], words: str
) -> None:
    upstream.answer = answering(status, body, **headers)
    for result in await examine_all(tmp_path, upstream.url):
        assert not result.is_ok
        assert words in result.verdict


async def test_clock_that_is_off_is_a_warning(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering(server_ms=1_600_000_000_000)
    result = (await examine_all(tmp_path, upstream.url))[0]
    assert result.is_ok
    assert "clock is off" in result.verdict
    assert result.skew_ms is not None
    assert result.skew_ms > 1000


async def test_something_that_is_not_binance_is_noticed(tmp_path: Path, upstream: RawUpstream) -> None:
    result = (await examine_all(tmp_path, upstream.url))[0]
    assert not result.is_ok
    assert "not like Binance" in result.verdict


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://no-such-host.invalid", "cannot be resolved"),
        ("https://127.0.0.1:1", "was refused: nothing listens there"),
    ],
)
async def test_network_trouble_is_told_by_its_stage(tmp_path: Path, url: str, words: str) -> None:
    for result in await examine_all(tmp_path, url):
        assert not result.is_ok
        assert words in result.verdict


async def test_failed_tls_is_told(tmp_path: Path) -> None:
    async with RawUpstream(tls=False) as plain:  # that is what the test is about
        url = f"https://127.0.0.1:{plain.port}"
        result = (await examine_all(tmp_path, url, connect_timeout_s=0.3))[0]
    assert not result.is_ok
    assert "TLS" in result.verdict
    assert result.tcp_ms is not None


async def test_market_that_is_off_is_not_examined(tmp_path: Path, upstream: RawUpstream) -> None:
    upstream.answer = answering()
    results = await examine_all(tmp_path, upstream.url, upstream_papi="off", upstream_eapi="off")
    assert [r.market for r in results] == [Market.SPOT, Market.UM, Market.CM]
