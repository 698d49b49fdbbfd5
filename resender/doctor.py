"""Check each upstream the way a call would reach it, and say in plain words what is wrong.

It changes nothing and starts no service. `examine` yields one result after the other, for the
command line and for the admin page.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from resender import __version__
from resender.config import Config
from resender.core.markets import BY_MARKET, Market
from resender.errors import AnswerError
from resender.upstream.rest import RestClient, RestResponse, Timeouts
from resender.upstream.tls import make_context

# Binance refuses a timestamp more than a second ahead; recvWindow is 5 s by default.
# Source: spot rest-api.md of 2026-07-21.
_SKEW_WARNING_MS = 800
_BODY_LIMIT = 65536


@dataclass(slots=True)
class Examination:
    """What was found out about one upstream.

    Units: milliseconds; `skew_ms` is positive when this machine's clock is ahead. None means not measured.
    """

    market: Market
    url: str
    dns_ms: float | None = None
    tcp_ms: float | None = None
    tls_ms: float | None = None
    ping_ms: float | None = None
    skew_ms: float | None = None
    used_weight: str = ""
    status: int | None = None
    verdict: str = ""
    is_ok: bool = False


async def examine(config: Config) -> AsyncIterator[Examination]:
    """Examine the enabled upstreams in turn."""
    for market, url in config.upstreams.items():
        result = Examination(market, url)
        try:
            await _examine_one(config, result)
        except Exception as error:
            result.verdict = result.verdict or f"failed: {type(error).__name__}"
        yield result


async def _examine_one(config: Config, result: Examination) -> None:
    parts = urlsplit(result.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    wait_s = config.connect_timeout_s
    loop = asyncio.get_running_loop()

    started = time.perf_counter()
    try:
        found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), wait_s)
    except (OSError, asyncio.TimeoutError):
        result.verdict = f"the name {host} cannot be resolved: check this machine's DNS"
        return
    result.dns_ms = _ms_since(started)
    addresses = ", ".join(sorted({str(row[4][0]) for row in found})[:3])

    context = make_context() if parts.scheme == "https" else None
    started = time.perf_counter()
    try:
        await _open_and_close(host, port, None, wait_s)
    except (OSError, asyncio.TimeoutError):
        result.verdict = f"no TCP connection to {addresses} port {port}: blocked by a firewall or the network"
        return
    result.tcp_ms = _ms_since(started)
    if context is not None:
        started = time.perf_counter()
        try:
            await _open_and_close(host, port, context, wait_s)
        except ssl.SSLCertVerificationError as error:
            result.verdict = f"TLS certificate refused: {error.verify_message}; is the clock right?"
            return
        except (OSError, asyncio.TimeoutError):
            result.verdict = "the TLS handshake fails: the network filters it"
            return
        result.tls_ms = max(0.0, _ms_since(started) - result.tcp_ms)
    await _call(config, result, context)


async def _call(config: Config, result: Examination, context: ssl.SSLContext | None) -> None:
    facts = BY_MARKET[result.market]
    client = RestClient(
        result.url,
        Timeouts(config.connect_timeout_s, config.read_timeout_s, config.total_timeout_s),
        ssl_context=context,
    )
    headers = [("User-Agent", f"binance-resender/{__version__}"), ("Accept-Encoding", "identity")]
    await client.start()
    try:
        # The first call opens the connection, the second one shows what a warm call costs.
        for _ in range(2):
            started = time.perf_counter()
            response = await client.send("GET", facts.ping_path, headers, b"")
            body = await _read(response)
            result.ping_ms = _ms_since(started)
            result.status = response.status
            if response.status != 200:
                break
        weights = {name.lower(): value for name, value in response.headers}
        result.used_weight = weights.get(b"x-mbx-used-weight-1m", b"").decode("latin-1")
        retry_after = weights.get(b"retry-after", b"").decode("latin-1")
        _judge(result, body, retry_after)
        if result.is_ok and facts.time_path:
            before_ms = time.time() * 1000
            body = await _read(await client.send("GET", facts.time_path, headers, b""))
            after_ms = time.time() * 1000
            server_ms = orjson.loads(body)["serverTime"]
            result.skew_ms = (before_ms + after_ms) / 2 - server_ms
            if abs(result.skew_ms) > _SKEW_WARNING_MS:
                result.verdict = (
                    "ok, but this machine's clock is off: signed calls made here would fail with -1021"
                )
    except AnswerError as error:
        result.verdict = error.msg
    except (orjson.JSONDecodeError, KeyError, TypeError):
        result.verdict = "it answers, but not like Binance: is the URL right?"
        result.is_ok = False
    finally:
        await client.stop()


def _judge(result: Examination, body: bytes, retry_after: str) -> None:
    status = result.status
    result.is_ok = status == 200
    if status == 200:
        result.verdict = "ok"
    elif status == 451:
        result.verdict = "region block (451): Binance does not serve this machine's country, move the server"
    elif status == 418:
        result.verdict = f"banned (418): this address sent too much; it ends in {retry_after or '?'} s"
    elif status == 429:
        result.verdict = f"over the weight limit (429); try again in {retry_after or '?'} s"
    elif status == 403:
        result.verdict = "refused by Binance's firewall (403): too fast, or this network is not wanted"
    else:
        result.verdict = f"it answers with HTTP {status}: {body[:80].decode('utf-8', 'replace')}"


async def _read(response: RestResponse) -> bytes:
    try:
        body = b""
        while (chunk := await response.next_chunk()) and len(body) < _BODY_LIMIT:
            body += chunk
        return body
    finally:
        response.close()


async def _open_and_close(host: str, port: int, context: ssl.SSLContext | None, wait_s: float) -> None:
    _, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), wait_s)
    writer.close()
    with suppress(OSError, asyncio.TimeoutError):  # the other side need not say goodbye
        await asyncio.wait_for(writer.wait_closed(), 1)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


_COLUMNS = ("market", "upstream", "dns ms", "tcp ms", "tls ms", "ping ms", "clock ms", "weight", "verdict")


def table(results: Iterable[Examination]) -> list[str]:
    """Lay the results out as lines of text."""
    rows = [_COLUMNS]
    for r in results:
        rows.append(
            (
                r.market.value, r.url, _number(r.dns_ms), _number(r.tcp_ms), _number(r.tls_ms),
                _number(r.ping_ms), _number(r.skew_ms, sign=True), r.used_weight or "-", r.verdict,
            )
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS) - 1)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.0f}" if sign else f"{value:.1f}"
