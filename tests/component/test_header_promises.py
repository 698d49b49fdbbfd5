"""Headers: bytes go up as they came, a client's address is exactly one, no page reads through."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.support.client import Reply, build, call, exchange, parse
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, response

pytestmark = pytest.mark.component

# --- bytes above 0x7f ------------------------------------------------------------------------------


def _with_header(name: bytes, value: bytes, method: bytes = b"GET") -> bytes:
    raw = build("GET", "/api/v3/order?symbol=BTCUSDT").replace(b"GET", method, 1)
    return raw.replace(b"\r\n\r\n", b"\r\n" + name + b": " + value + b"\r\n\r\n", 1)


@pytest.mark.parametrize("text", ["Büro 7", "ключ", "币安人生", "🚀 ok", "é"])
async def test_utf8_header_goes_up_as_the_same_bytes(
    gateway: Running, upstream: RawUpstream, text: str
) -> None:
    for name in (b"User-Agent", b"X-MBX-APIKEY", b"X-MBX-NEW", b"Accept-Language", b"X-SAPI-X"):
        reply = parse(await exchange(gateway.port, _with_header(name, text.encode())))
        assert reply.status == 200
        lines = upstream.requests[-1].head.split(b"\r\n")
        sent = [line for line in lines if line.lower().startswith(name.lower() + b":")]
        assert [line.partition(b":")[2].strip() for line in sent] == [text.encode()]


@pytest.mark.parametrize("value", ["Büro".encode("latin-1"), b"\xff\xfe", b"ok \xe4\xb8", b"\xed\xa0\x80"])
async def test_header_that_is_not_utf8_is_refused_when_it_would_go_up(
    gateway: Running, upstream: RawUpstream, value: bytes
) -> None:
    for name in (b"X-MBX-APIKEY", b"Content-Type"):
        reply = parse(await exchange(gateway.port, _with_header(name, value)))
        assert (reply.status, reply.header("x-resender-error")) == (400, "bad_request")
        assert name.decode().lower() in reply.json()["msg"].lower()
    assert not upstream.requests


async def test_name_of_a_client_that_is_not_utf8_costs_it_no_call(
    gateway: Running, upstream: RawUpstream
) -> None:
    reply = parse(await exchange(gateway.port, _with_header(b"User-Agent", "Büro/1".encode("latin-1"))))
    assert reply.status == 200
    assert upstream.requests[-1].header("user-agent") == "Bro/1"


@pytest.mark.parametrize("name", [b"Referer", b"Cookie", b"X-Client-Name", b"Authorization"])
async def test_header_that_is_not_utf8_and_goes_nowhere_does_no_harm(
    gateway: Running, upstream: RawUpstream, name: bytes
) -> None:
    reply = parse(await exchange(gateway.port, _with_header(name, "Büro".encode("latin-1"))))
    assert reply.status == 200
    assert "Büro".encode("latin-1") not in upstream.requests[-1].head


# --- whose call it is ------------------------------------------------------------------------------

CLIENT, CLIENT6 = "203.0.113.5", "2001:db8::5"
BEHIND_PROXY = {"whitelist": f"{CLIENT},{CLIENT6}", "trusted_proxies": "127.0.0.1", "cache_enabled": False}
READABLE = [
    CLIENT, f"{CLIENT}:80", f"{CLIENT}:65535", f" {CLIENT}\t", f'"{CLIENT}:80"', CLIENT6, f"[{CLIENT6}]",
    f"[{CLIENT6}]:443", f"::ffff:{CLIENT}", "2001:DB8:0:0::5", f"198.51.100.9, {CLIENT}", f"junk@x,{CLIENT}",
    f"{CLIENT}, 127.0.0.1",
]  # fmt: skip
ODD = [
    f"{CLIENT}:80@x", f"{CLIENT}@x", f"x@{CLIENT}", f"{CLIENT}:", f"{CLIENT}:x", f"{CLIENT}:80:90",
    f"{CLIENT}:123456", f"{CLIENT}:-1", f"{CLIENT}:+80", f"{CLIENT}:8 0", f"{CLIENT} 80", f"{CLIENT};x",
    f"{CLIENT}/32", f"http://{CLIENT}", f"{CLIENT}.", f".{CLIENT}", "203.0.28933", "3405803781", "0xcb007105",
    "203.0.113.05", "0313.0.113.5", f"[{CLIENT}", f"{CLIENT}]", f"[{CLIENT}]:80", f"[{CLIENT6}", f"{CLIENT6}]",
    f"[[{CLIENT6}]]", f"[{CLIENT6}]80", f"[{CLIENT6}]:", f"[{CLIENT6}]:80x", f"{CLIENT6}/128",
    f"::ffff:{CLIENT}:80", f"'{CLIENT}'", f'"{CLIENT}', f'"{CLIENT}"x', f'""{CLIENT}""', f"for={CLIENT}",
    "unknown", "_hidden", "", " ", "-", f"{CLIENT}:８０", "２０３.0.113.5", f"{CLIENT}\x0b", f"{CLIENT}\xa0",
    f"{CLIENT}%00", f"{CLIENT}%eth0", f"{CLIENT6}%eth0@x", f"{CLIENT}\\x", "localhost", "203.0.113", "203.0.113.5.6",
]  # fmt: skip


async def _come_from(port: int, name: str, value: str, path: str = "/api/v3/time") -> Reply:
    raw = build("GET", path)
    line = name.encode() + b": " + value.encode("utf-8") + b"\r\n\r\n"
    return parse(await exchange(port, raw.replace(b"\r\n\r\n", b"\r\n" + line, 1)))


async def test_address_a_trusted_proxy_names_is_read_in_every_proper_spelling(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, upstream.url, **BEHIND_PROXY)) as run:
        for value in READABLE:
            assert (await _come_from(run.port, "X-Forwarded-For", value)).status == 200, value
            if "," not in value:
                assert (await _come_from(run.port, "X-Real-IP", value)).status == 200, value


@pytest.mark.parametrize("path", ["/api/v3/time", "/metrics", "/local/status"])
async def test_whatever_is_not_exactly_an_address_is_unknown_and_refused(
    upstream: RawUpstream, tmp_path: Path, path: str
) -> None:
    assert len(ODD) > 20
    async with running(make_config(tmp_path, upstream.url, **BEHIND_PROXY)) as run:
        wrong: list[str] = []
        for odd in ODD:
            for name, value in (
                ("X-Forwarded-For", odd),
                ("X-Forwarded-For", f"{CLIENT}, {odd}"),
                ("X-Forwarded-For", f"{odd}, 127.0.0.1"),
                ("X-Real-IP", odd),
            ):
                reply = await _come_from(run.port, name, value, path)
                is_refused = reply.status == 403 and reply.json()["msg"] == "Forbidden IP: unknown"
                # What no HTTP header may hold is refused sooner.
                if not is_refused and (reply.status, reply.header("connection")) != (400, "close"):
                    wrong.append(f"{name}: {value!r}: {reply.status} {reply.body.decode()[:80]}")
        assert not wrong, "\n".join(wrong)
    assert not upstream.requests


async def test_odd_address_is_no_way_around_the_whitelist_of_the_admin_pages(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    settings = BEHIND_PROXY | {"admin_whitelist": CLIENT}
    async with running(make_config(tmp_path, upstream.url, **settings)) as run:
        assert (await _come_from(run.port, "X-Forwarded-For", CLIENT, "/admin/login")).status == 200
        for odd in ODD:
            reply = await _come_from(run.port, "X-Forwarded-For", odd, "/admin/login")
            assert reply.status in (400, 403), odd


# --- pages of other sites --------------------------------------------------------------------------

CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("access-control-allow-credentials", "true"),
    ("ACCESS-CONTROL-ALLOW-METHODS", "GET, HEAD, OPTIONS"),
    ("Access-Control-Allow-Headers", "X-MBX-APIKEY"),
    ("Access-Control-Expose-Headers", "x-mbx-used-weight-1m"),
    ("Access-Control-Max-Age", "1728000"),
    ("Access-Control-Allow-Private-Network", "true"),
    ("Timing-Allow-Origin", "*"),
)
FROM_A_PAGE = (("Origin", "https://page.example"), ("Sec-Fetch-Site", "cross-site"))


def assert_no_page_may_read(reply: Reply) -> None:
    names = [name.lower() for name, _ in reply.headers]
    open_ = [n for n in names if n.startswith("access-control-") or n == "timing-allow-origin"]
    assert not open_, reply.raw


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "429 Too Many Requests", "503 Unavailable"])
async def test_cors_headers_of_the_upstream_do_not_pass(
    gateway: Running, upstream: RawUpstream, status: str
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        body = b"" if request.method == "HEAD" else b"{}"
        await peer.send(response(body, status, (*CORS, ("x-mbx-uuid", "u"))))

    upstream.answer = answer
    kinds = itertools.product(("GET", "HEAD", "POST", "DELETE"), ((), FROM_A_PAGE), ("1.1", "1.0"))
    for method, headers, version in kinds:
        reply = await call(gateway.port, method, "/sapi/v1/x", headers, version=version)
        assert reply.header("x-mbx-uuid") == "u" or reply.header("x-resender-error") == "no_weight"
        assert_no_page_may_read(reply)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_cors_headers_do_not_pass_with_a_shared_or_joined_answer(
    gateway: Running, upstream: RawUpstream, is_chunked: bool
) -> None:
    gate = asyncio.Event()
    head = "".join(f"{name}: {value}\r\n" for name, value in CORS).encode()

    async def answer(request: Request, peer: Peer) -> None:
        await gate.wait()
        if is_chunked:
            await peer.send(
                b"HTTP/1.1 200 OK\r\n" + head + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
            )
        else:
            await peer.send(response(b"{}", headers=CORS))

    upstream.answer = answer
    for target in ("/api/v3/depth?symbol=BTCUSDT", "/fapi/v1/exchangeInfo"):
        before = len(upstream.requests)
        gate.clear()
        calls = [asyncio.create_task(call(gateway.port, "GET", target, FROM_A_PAGE)) for _ in range(3)]
        await wait_until(lambda before=before: len(upstream.requests) > before)
        await wait_until(lambda: gateway.gateway.calls.in_flight == 3)
        gate.set()
        replies = [*await asyncio.gather(*calls), await call(gateway.port, "GET", target, FROM_A_PAGE)]
        kinds = {reply.header("x-resender-cache") for reply in replies}
        assert "joined" in kinds or "shared" in kinds, kinds
        for reply in replies:
            assert reply.status == 200
            assert_no_page_may_read(reply)


async def test_own_answers_let_no_page_read(upstream: RawUpstream, tmp_path: Path) -> None:
    targets = (
        "/", "/healthz", "/metrics", "/local/status", "/local/spot/klines?symbol=A&interval=1m", "/nothing",
        "/admin", "/admin/login", "/admin/api/me", "/api/v3/../x",
    )  # fmt: skip
    for whitelist in ("127.0.0.1", "203.0.113.5"):
        async with running(make_config(tmp_path, upstream.url, whitelist=whitelist)) as run:
            for target in targets:
                for method in ("GET", "POST", "OPTIONS"):
                    asked = (("Access-Control-Request-Method", "POST"), *FROM_A_PAGE)
                    assert_no_page_may_read(await call(run.port, method, target, asked))
            await upstream.stop()
            assert_no_page_may_read(await call(run.port, "GET", "/api/v3/time", FROM_A_PAGE))
        async with upstream:
            pass
    assert upstream.answer is answer_ok
