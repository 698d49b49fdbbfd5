"""Check each upstream through each egress, and say in plain words what is wrong.

It changes nothing and starts no service. `examine` yields one result after the other, for the
command line and for the admin page.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from resender import __version__
from resender.aio import within
from resender.config import Config
from resender.core.binance.markets import BY_MARKET, STREAM_PATHS, WS_API_PATHS, Market
from resender.core.binance.stream_names import MINI_TICKERS, book_ticker_stream
from resender.core.egress.spec import EgressSpec
from resender.core.weights.ws_api import handshake_charge, method_charge
from resender.errors import AnswerError
from resender.upstream.connector import EgressUnusable, Timeouts, handshake_words
from resender.upstream.egresses import bind_problem, gateway_url, make_rest_client
from resender.upstream.rest import RestResponse
from resender.upstream.streams.probe import first_frame_ms, ping_ws_api
from resender.upstream.streams.session import StreamBroken
from resender.upstream.streams.spread import make_stream_session
from resender.upstream.tls import make_context

# Binance refuses a timestamp more than a second ahead; recvWindow is 5 s by default.
# Source: spot rest-api.md of 2026-07-21.
_SKEW_WARNING_MS = 800
_BODY_LIMIT = 65536
_STREAM_WAIT_S = 6.0
_BUSY_TICKER = {
    Market.SPOT: book_ticker_stream("BTCUSDT"),
    Market.UM: book_ticker_stream("BTCUSDT"),
    Market.CM: book_ticker_stream("BTCUSD_PERP"),
}


@dataclass(slots=True)
class Examination:
    """What was found out about one upstream through one egress.

    Shape: `url` is the upstream as configured, `egress` the name of the egress. DNS, TCP and TLS
        are measured only where this machine does them: a proxy does them by itself; of another
        Binance Resender they are those to it. A WebSocket API has a result of its own, with `ping_ms` alone.
    Units: milliseconds; `stream_ms` until the first frame of a stream came; `skew_ms` is positive
        when this machine's clock is ahead. None means not measured.
    """

    market: Market
    url: str
    egress: str = "default"
    dns_ms: float | None = None
    tcp_ms: float | None = None
    tls_ms: float | None = None
    ping_ms: float | None = None
    skew_ms: float | None = None
    stream_ms: float | None = None
    used_weight: str = ""
    status: int | None = None
    verdict: str = ""
    is_ok: bool = False


class _EgressFailed(Exception):
    """The egress itself cannot be used: its other upstreams need not be tried."""


async def examine(config: Config, *, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[Examination]:
    """Examine the enabled upstreams in turn, through one egress after the other.

    Shape: after a market that answers comes its WebSocket API, where clients are served one; without
        `ssl_context` the system's authorities are trusted.
    """
    for spec in config.egresses:
        fault = ""
        for market, url in config.upstreams.items():
            if not spec.serves(market):
                continue
            result = Examination(market, url, spec.name, verdict=fault)
            if not fault:
                try:
                    await _examine_one(config, spec, result, ssl_context)
                except _EgressFailed as error:
                    fault = result.verdict = str(error)
                except Exception as error:
                    result.verdict = result.verdict or f"failed: {type(error).__name__}"
            yield result
            # Where REST does not answer, that is what to mend first.
            if result.status == 200 and _has_ws_api(config, spec, market):
                result = Examination(market, _ws_api_url(config, market), spec.name)
                try:
                    await _examine_ws_api(config, spec, result, ssl_context)
                except Exception as error:
                    result.verdict = f"failed: {type(error).__name__}"
                yield result


async def _examine_one(
    config: Config, spec: EgressSpec, result: Examination, ssl_context: ssl.SSLContext | None
) -> None:
    source = spec.address
    if source and (problem := bind_problem(source)):
        raise _EgressFailed(f"{problem}: add it to a network interface or correct EGRESS")
    url = gateway_url(spec) if spec.kind == "resender" else result.url
    context = (ssl_context or make_context()) if url.startswith("https:") else None
    if spec.kind != "proxy" and not await _measure(url, source, context, config.connect_timeout_s, result):
        if spec.kind == "resender":
            raise _EgressFailed(result.verdict)
        return
    await _call(config, spec, result, context)
    if result.is_ok and config.cache_enabled and spec.has_streams and result.market in STREAM_PATHS:
        await _stream(config, spec, result, ssl_context or make_context())


async def _measure(
    url: str, source: str, context: ssl.SSLContext | None, wait_s: float, result: Examination
) -> bool:
    """Measure name, TCP and TLS; False with a verdict if one of them fails."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    family = socket.AF_UNSPEC if not source else socket.AF_INET6 if ":" in source else socket.AF_INET
    loop = asyncio.get_running_loop()

    started = time.perf_counter()
    try:
        found = await within(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family), wait_s)
    except (OSError, asyncio.TimeoutError):
        kind = {socket.AF_INET6: " to an IPv6 address", socket.AF_INET: " to an IPv4 address"}.get(family, "")
        result.verdict = f"the name {host} cannot be resolved{kind}: check this machine's DNS"
        return False
    result.dns_ms = _ms_since(started)
    addresses = ", ".join(sorted({str(row[4][0]) for row in found})[:3])
    # With a source address only one address is tried, so that its family fits.
    target = str(found[0][4][0]) if source else host

    started = time.perf_counter()
    try:
        await _open_and_close(target, port, source, None, "", wait_s)
    except ConnectionRefusedError:
        result.verdict = (
            f"the connection to {addresses} port {port} was refused: nothing listens there, or a firewall "
            "rejects it"
        )
        return False
    except (OSError, asyncio.TimeoutError):
        result.verdict = f"no TCP connection to {addresses} port {port}: blocked by a firewall or the network"
        return False
    result.tcp_ms = _ms_since(started)
    if context is None:
        return True
    started = time.perf_counter()
    try:
        await _open_and_close(target, port, source, context, host, wait_s)
    except ssl.SSLError as error:
        result.verdict = f"{host}: {handshake_words(error)}"
        return False
    except (OSError, asyncio.TimeoutError):
        result.verdict = "the TLS handshake is cut off or gets no answer: does the network filter it?"
        return False
    result.tls_ms = max(0.0, _ms_since(started) - result.tcp_ms)
    return True


async def _call(
    config: Config, spec: EgressSpec, result: Examination, context: ssl.SSLContext | None
) -> None:
    facts = BY_MARKET[result.market]
    client = make_rest_client(
        spec,
        result.market,
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
        down = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        result.used_weight = down.get(b"x-mbx-used-weight-1m", "")
        _judge(result, spec, body, down)
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
    except EgressUnusable as error:
        result.is_ok = False
        raise _EgressFailed(error.msg) from None
    except AnswerError as error:
        result.verdict = error.msg
        result.is_ok = False
    except (orjson.JSONDecodeError, KeyError, TypeError):
        result.verdict = "it answers, but not like Binance: is the URL right?"
        result.is_ok = False
    finally:
        await client.stop()


async def _stream(config: Config, spec: EgressSpec, result: Examination, context: ssl.SSLContext) -> None:
    """Open a stream as the market cache does, and wait for what comes each second."""
    market = result.market
    paths = STREAM_PATHS[market]
    base_url = {
        Market.SPOT: config.stream_spot,
        Market.UM: config.stream_um,
        Market.CM: config.stream_cm,
    }[market]
    session = make_stream_session(spec, base_url, config.connect_timeout_s, ssl_context=context)
    problem = ""
    await session.start()
    try:
        # Each URL path there is, by a stream that speaks at least once a second; the slowest counts.
        names = {paths["bookTicker"]: _BUSY_TICKER[market], paths["miniTicker"]: MINI_TICKERS}
        took_ms = [await first_frame_ms(session, path, name, _STREAM_WAIT_S) for path, name in names.items()]
        result.stream_ms = max(took_ms)
    except StreamBroken as error:
        problem = str(error)
    finally:
        await session.stop()
    if problem:
        result.is_ok = False
        result.verdict = (
            f"REST answers, but its streams do not ({problem}): calls are forwarded and none is answered "
            "from memory; CACHE_ENABLED=false if that is meant"
        )


def _has_ws_api(config: Config, spec: EgressSpec, market: Market) -> bool:
    return spec.has_streams and market in WS_API_PATHS and config.max_stream_clients > 0


def _ws_api_url(config: Config, market: Market) -> str:
    hosts = {Market.SPOT: config.ws_api_spot, Market.UM: config.ws_api_um, Market.CM: config.ws_api_cm}
    return hosts[market] + WS_API_PATHS[market]


async def _examine_ws_api(
    config: Config, spec: EgressSpec, result: Examination, ssl_context: ssl.SSLContext | None
) -> None:
    """Open the WebSocket API of a market as for a client, and ping it: nothing is placed or changed."""
    market, path = result.market, WS_API_PATHS[result.market]
    cost = handshake_charge(market).weight, method_charge(market, "ping", {}).weight
    session = make_stream_session(
        spec,
        result.url.removesuffix(path),
        config.connect_timeout_s,
        ssl_context=ssl_context or make_context(),
    )
    await session.start()
    try:
        pong = await ping_ws_api(session, path, _STREAM_WAIT_S)
        result.status, result.ping_ms, result.used_weight = pong.status, pong.took_ms, pong.used_weight
        result.is_ok = pong.status == 200
        result.verdict = f"ok: the handshake and a ping cost {cost[0]} + {cost[1]} of the weight"
        if not result.is_ok:
            result.verdict = f"the WebSocket API answers a ping with status {pong.status}"
    except StreamBroken as error:
        result.verdict = (
            f"REST answers, but the WebSocket API does not ({error}): clients that trade or hear of their "
            f"orders over {path} are refused"
        )
    finally:
        await session.stop()


def _judge(result: Examination, spec: EgressSpec, body: bytes, headers: dict[bytes, str]) -> None:
    status = result.status
    retry_after = headers.get(b"retry-after") or "?"
    error = headers.get(b"x-resender-error", "") if spec.kind == "resender" else ""
    whose = {"proxy": "the proxy", "resender": "that Binance Resender"}.get(spec.kind, "this machine")
    result.is_ok = status == 200
    if status == 200:
        result.verdict = "ok"
    elif error == "forbidden":
        raise _EgressFailed(
            f"that Binance Resender does not whitelist this machine ({_message(body)}): "
            "run `run.py whitelist add ADDRESS` there"
        )
    elif error:
        result.verdict = f"that Binance Resender answers {status} {error}: {_message(body)}"
    elif status == 451:
        where = "this machine's country" if whose == "this machine" else f"the country of {whose}"
        advice = "move the server" if whose == "this machine" else "use another one"
        result.verdict = f"region block (451): Binance does not serve {where}, {advice}"
    elif status == 418:
        result.verdict = f"banned (418): this address sent too much; it ends in {retry_after} s"
    elif status == 429:
        result.verdict = f"over the weight limit (429); try again in {retry_after} s"
    elif status == 403:
        result.verdict = "refused by Binance's firewall (403): too fast, or this network is not wanted"
    else:
        result.verdict = f"it answers with HTTP {status}: {body[:80].decode('utf-8', 'replace')}"


def _message(body: bytes) -> str:
    """Return the text of an answer of a Binance Resender, in one line."""
    try:
        text = str(orjson.loads(body)["msg"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = body.decode("utf-8", "replace")
    return " ".join(text.split())[:200].rstrip(".")


async def _read(response: RestResponse) -> bytes:
    try:
        body = b""
        while (chunk := await response.next_chunk()) and len(body) < _BODY_LIMIT:
            body += chunk
        return body
    finally:
        response.close()


async def _open_and_close(
    host: str, port: int, source: str, context: ssl.SSLContext | None, name: str, wait_s: float
) -> None:
    """Connect and hang up; `name` is the one the certificate is for."""
    options: dict[str, Any] = {"local_addr": (source, 0)} if source else {}
    if context is not None:
        options |= {"ssl": context, "server_hostname": name}
    _, writer = await within(asyncio.open_connection(host, port, **options), wait_s)
    writer.close()
    with suppress(OSError, asyncio.TimeoutError):  # the other side need not say goodbye
        await within(writer.wait_closed(), 1)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


_COLUMNS = (
    "market", "upstream", "egress", "dns ms", "tcp ms", "tls ms", "ping ms", "clock ms", "stream ms", "weight",
    "verdict",
)  # fmt: skip


def table(results: Iterable[Examination], translated: Callable[[str], str] = str) -> list[str]:
    """Lay the results out as lines of text, the verdict as it is translated."""
    rows = [_COLUMNS]
    for r in results:
        rows.append(
            (
                r.market.value, r.url, r.egress, _number(r.dns_ms), _number(r.tcp_ms), _number(r.tls_ms),
                _number(r.ping_ms), _number(r.skew_ms, sign=True), _number(r.stream_ms),
                r.used_weight or "-", translated(r.verdict),
            )
        )  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS) - 1)]
    return ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.0f}" if sign else f"{value:.1f}"
