"""Calls are equal only if their answers have one form; what is remembered is whole; both URL shapes."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from tests.support.cache_bench import MARKETS as CACHED_MARKETS
from tests.support.cache_bench import SYMBOL, TICKERS, bench, kline_target, small_exchange
from tests.support.client import Reply, call
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

Headers = tuple[tuple[str, str], ...]
DEPTH = "/api/v3/depth?symbol=BTCUSDT"
INFO = "/api/v3/exchangeInfo"
SBE: Headers = (("X-MBX-SBE", "3:1"), ("Accept", "application/sbe"))
SBE_OR_JSON: Headers = (("X-MBX-SBE", "3:1"), ("Accept", "application/sbe, application/json"))
ACCEPT_ONLY: Headers = (("Accept", "application/sbe, application/json;q=0.5"),)
MICRO: Headers = (("X-MBX-TIME-UNIT", "MICROSECOND"),)


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway that remembers every public answer for a minute and has no cache."""
    settings = {"cache_enabled": False, "get_memory_ms": 60_000}
    async with running(make_config(tmp_path, upstream.url, **settings)) as run:
        yield run


def kind(reply: Reply) -> str:
    return reply.header("x-resender-cache") or "sent"


def form_of(request: Request) -> bytes:
    """Describe the form Binance would answer in, as the headers that came tell."""
    accept = (request.header("accept") or "").lower()
    is_binary = "sbe" in accept and request.header("x-mbx-sbe")
    words = [
        f"sbe {request.header('x-mbx-sbe')}" if is_binary else "json",
        request.header("x-mbx-time-unit") or "ms",
        "gzip" if takes_gzip(request) else "plain",
    ]
    return orjson.dumps({"form": words})


def takes_gzip(request: Request) -> bool:
    accepted = ",".join(value for name, value in request.headers if name.lower() == "accept-encoding")
    return "gzip" in accepted.lower() and "gzip;q=0" not in accepted.replace(" ", "")


async def by_form(request: Request, peer: Peer) -> None:
    """Answer in the form that was asked for, and say which one it is."""
    body = form_of(request)
    headers = [("content-type", "application/json;charset=UTF-8")]
    if b"sbe" in body:
        headers = [("content-type", "application/sbe")]
    if takes_gzip(request):
        body = gzip.compress(body)
        headers.append(("content-encoding", "gzip"))
    await peer.send(response(body, headers=tuple(headers)))


class Held:
    """Answers by form, all of them only when the gate is open."""

    def __init__(self, upstream: RawUpstream) -> None:
        self.upstream = upstream
        self.gate = asyncio.Event()
        upstream.answer = self

    async def __call__(self, request: Request, peer: Peer) -> None:
        await self.gate.wait()
        await by_form(request, peer)


def content(reply: Reply) -> bytes:
    return gzip.decompress(reply.body) if reply.header("content-encoding") == "gzip" else reply.body


def alone(headers: Headers) -> bytes:
    """Return what a client with these headers would get from Binance itself."""
    lines = "".join(f"\r\n{name}: {value}" for name, value in headers)
    return form_of(Request(f"GET {DEPTH} HTTP/1.1{lines}".encode(), b"", 0))


UNEQUAL: dict[str, tuple[Headers, Headers]] = {
    "binary and JSON": (SBE, (("Accept", "application/json"),)),
    "binary or JSON, and JSON": (SBE_OR_JSON, ()),
    "binary or JSON, and the same with JSON only": (
        SBE_OR_JSON,
        (("X-MBX-SBE", "3:1"), ("Accept", "application/json")),
    ),
    "binary, and anything at all": (SBE, (("X-MBX-SBE", "3:1"), ("Accept", "*/*"))),
    "two versions of the binary form": (SBE, (("X-MBX-SBE", "3:0"), ("Accept", "application/sbe"))),
    "binary in another case": ((("X-MBX-SBE", "3:1"), ("Accept", "Application/SBE")), ()),
    "binary on a line of its own": (
        (("X-MBX-SBE", "3:1"), ("Accept", "application/json"), ("Accept", "application/sbe")),
        (("X-MBX-SBE", "3:1"), ("Accept", "application/json")),
    ),
    "micro- and milliseconds": (MICRO, ()),
    "packed and plain": ((("Accept-Encoding", "gzip"),), ()),
    "packed and refused": ((("Accept-Encoding", "gzip"),), (("Accept-Encoding", "gzip;q=0"),)),
    "packed on a line of its own": (
        (("Accept-Encoding", "gzip"), ("Accept-Encoding", "identity")),
        (("Accept-Encoding", "identity"),),
    ),
    "all of it": ((*SBE, *MICRO, ("Accept-Encoding", "gzip")), ()),
}
EQUAL: dict[str, tuple[Headers, Headers]] = {
    "anything and JSON": ((("Accept", "*/*"),), (("Accept", "application/json"),)),
    "nothing said and JSON": ((), (("Accept", "application/json, text/plain, */*"),)),
    "the same in another order": (
        (("Accept-Encoding", "gzip, deflate"),),
        (("Accept-Encoding", "deflate,gzip"),),
    ),
    "another program": ((("User-Agent", "a"),), (("User-Agent", "b"), ("Accept-Language", "de"))),
    "the same binary form": (SBE, SBE),
}


def both_orders(pairs: dict[str, tuple[Headers, Headers]]) -> list[object]:
    found = []
    for name, (one, other) in pairs.items():
        found += [pytest.param(one, other, id=name), pytest.param(other, one, id=f"{name}, reversed")]
    return found


@pytest.mark.parametrize(("first", "second"), both_orders(UNEQUAL))
async def test_answers_of_another_form_are_neither_shared_nor_joined(
    gateway: Running, upstream: RawUpstream, first: Headers, second: Headers
) -> None:
    upstream.answer = by_form
    replies = [await call(gateway.port, "GET", DEPTH, headers) for headers in (first, second)]
    assert [kind(reply) for reply in replies] == ["sent", "sent"]
    assert [content(reply) for reply in replies] == [alone(first), alone(second)]
    # Each is remembered for its own kind.
    again = [await call(gateway.port, "GET", DEPTH, headers) for headers in (second, first)]
    assert [content(reply) for reply in again] == [alone(second), alone(first)]

    held = Held(upstream)
    before = len(upstream.requests)
    other = f"{DEPTH}&limit=5"
    calls = [asyncio.create_task(call(gateway.port, "GET", other, headers)) for headers in (first, second)]
    await wait_until(lambda: len(upstream.requests) == before + 2)
    held.gate.set()
    replies = await asyncio.gather(*calls)
    assert [kind(reply) for reply in replies] == ["sent", "sent"]
    assert [content(reply) for reply in replies] == [alone(first), alone(second)]


@pytest.mark.parametrize(("first", "second"), both_orders(EQUAL))
async def test_answers_of_one_form_are_shared_and_joined(
    gateway: Running, upstream: RawUpstream, first: Headers, second: Headers
) -> None:
    held = Held(upstream)
    calls = [asyncio.create_task(call(gateway.port, "GET", DEPTH, headers)) for headers in (first, second)]
    await wait_until(lambda: upstream.requests and gateway.gateway.calls.in_flight == 2)
    held.gate.set()
    replies = await asyncio.gather(*calls)
    assert sorted(kind(reply) for reply in replies) == ["joined", "sent"]
    if "sbe" not in str(first):  # what is no JSON is not remembered
        replies.append(await call(gateway.port, "GET", DEPTH, second))
        assert kind(replies[-1]) == "shared"
    assert {content(reply) for reply in replies} == {alone(first)}
    assert len(upstream.requests) == 1


# --- what is remembered ------------------------------------------------------------------------

SYMBOLS = {"timezone": "UTC", "symbols": [{"symbol": "BTCUSDT", "status": "TRADING"}]}
WHOLE = orjson.dumps(SYMBOLS)


def large() -> bytes:
    """An exchangeInfo answer of several MB that stays large when it is packed."""
    chance = random.Random(7)
    rows = [{"symbol": f"S{n}USDT", "filters": chance.randbytes(60).hex()} for n in range(20_000)]
    return orjson.dumps({"symbols": rows})


LARGE = large()


def answering(body: bytes, *headers: tuple[str, str]) -> Callable[[Request, Peer], object]:
    down = dict((("content-type", "application/json;charset=UTF-8"), *headers))

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(body, headers=tuple(down.items())))

    return answer


GZIPPED = ("content-encoding", "gzip")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"<html>back soon</html>", (("content-type", "text/html"),), id="a page"),
        pytest.param(b"<html>back soon</html>", (), id="a page that calls itself JSON"),
        pytest.param(b"", (), id="nothing"),
        pytest.param(gzip.compress(b""), (GZIPPED,), id="nothing, packed"),
        pytest.param(b"{}", (), id="an empty object"),
        pytest.param(b"null", (), id="null"),
        pytest.param(b'{"code":0,"msg":"maintenance"}', (), id="no symbols"),
        pytest.param(gzip.compress(b'{"code":0}'), (GZIPPED,), id="no symbols, packed"),
        pytest.param(WHOLE[:-1], (), id="cut off"),
        pytest.param(WHOLE[:-2], (), id="cut off behind a brace"),
        pytest.param(gzip.compress(WHOLE)[:-4], (GZIPPED,), id="packed and cut off"),
        pytest.param(gzip.compress(LARGE)[:-9], (GZIPPED,), id="large, packed and cut off"),
        pytest.param(LARGE[: LARGE.index(b"}", 100_000) + 1], (), id="large and cut off behind a brace"),
        pytest.param(
            gzip.compress(LARGE[: LARGE.index(b"}", 500_000) + 1]),
            (GZIPPED,),
            id="large, cut off, then packed",
        ),
        pytest.param(b"no gzip at all", (GZIPPED,), id="packed it says"),
        pytest.param(WHOLE, (("content-encoding", "br"),), id="packed so that nobody here can read it"),
    ],
)
async def test_answer_that_is_not_whole_is_passed_on_and_not_remembered(
    gateway: Running, upstream: RawUpstream, body: bytes, headers: Headers
) -> None:
    upstream.answer = answering(body, *headers)  # type: ignore[assignment]
    up = (("Accept-Encoding", "gzip"),)
    for number in (1, 2):
        reply = await call(gateway.port, "GET", INFO, up)
        assert (reply.status, reply.body, reply.complete, kind(reply)) == (200, body, True, "sent")
        assert reply.header("content-encoding") == dict(headers).get("content-encoding")
        assert len(upstream.requests) == number
        await wait_until(lambda number=number: gateway.gateway.dispatch.shared_answers.unfit == number)
    # What comes next and is whole helps the third.
    upstream.answer = answering(WHOLE)  # type: ignore[assignment]
    assert (await call(gateway.port, "GET", INFO, up)).body == WHOLE
    assert kind(await call(gateway.port, "GET", INFO, up)) == "shared"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(WHOLE, (), id="plain"),
        pytest.param(b" \r\n" + WHOLE + b"\n", (), id="with white space around"),
        pytest.param(gzip.compress(WHOLE), (GZIPPED,), id="packed"),
        pytest.param(gzip.compress(WHOLE), (("Content-Encoding", "GZIP"),), id="packed, in capitals"),
        pytest.param(LARGE, (), id="several MB"),
        pytest.param(gzip.compress(LARGE), (GZIPPED,), id="several MB, packed"),
    ],
)
async def test_answer_that_is_whole_is_remembered(
    gateway: Running, upstream: RawUpstream, body: bytes, headers: Headers
) -> None:
    upstream.answer = answering(body, *headers)  # type: ignore[assignment]
    up = (("Accept-Encoding", "gzip"),)
    first = await call(gateway.port, "GET", INFO, up)
    await wait_until(lambda: gateway.gateway.dispatch.shared_answers._memory)
    second = await call(gateway.port, "GET", INFO, up)
    assert [kind(first), kind(second)] == ["sent", "shared"]
    assert first.body == second.body == body
    assert second.header("content-encoding") == first.header("content-encoding")
    assert int(second.header("x-resender-age") or -1) >= 0
    assert len(upstream.requests) == 1


# --- the weight of hits ------------------------------------------------------------------------


async def test_hits_have_the_weight_headers_of_their_market(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange()) as one:
        for market in CACHED_MARKETS:
            ticker = f"{TICKERS[market]}?symbol={SYMBOL[market]}"
            for target in (kline_target(market, SYMBOL[market], "1m"), ticker):
                hit = await one.until_hit(target)
                weights = [
                    (name, value) for name, value in hit.reply.headers if "used-weight" in name.lower()
                ]
                names = [name for name, _ in weights]
                assert len({value for _, value in weights}) == 1
                assert all(value.isdigit() for _, value in weights)
                if market is Market.SPOT:
                    assert names == ["x-mbx-used-weight", "x-mbx-used-weight-1m"]
                else:
                    assert names == ["x-mbx-used-weight-1m"]
                # As in an answer that is no hit.
                sent = await one.get(target, ("Cache-Control", "no-cache"))
                assert not sent.is_hit
                theirs = [name.lower() for name, _ in sent.reply.headers if "used-weight" in name.lower()]
                assert sorted(theirs) == names


# --- base URLs with a slash at their end -------------------------------------------------------

QUERY = "symbol=BTCUSDT&x=a%2fb//c&empty=&plus=1+1&signs=~!*"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/fapi//fapi/v1/time", "/fapi/v1/time"),
        ("/fapi///fapi/v1/time", "/fapi/v1/time"),
        ("//fapi/fapi/v1/time", "/fapi/v1/time"),
        ("//fapi//fapi/v1/time", "/fapi/v1/time"),
        ("/api//api/v3/time", "/api/v3/time"),
        ("/api//sapi/v1/system/status", "/sapi/v1/system/status"),
        ("/dapi//futures/data/basis", "/futures/data/basis"),
        ("//fapi/v1/time", "/fapi/v1/time"),
        ("///api/v3/time", "/api/v3/time"),
        ("//futures/data/basis", "/futures/data/basis"),
    ],
)
async def test_base_url_that_ends_in_a_slash_works(
    gateway: Running, upstream: RawUpstream, target: str, path: str
) -> None:
    for query in ("", f"?{QUERY}"):
        assert (await call(gateway.port, "GET", target + query)).status == 200
        assert upstream.requests[-1].target == (path + query).encode()
    post = await call(gateway.port, "POST", f"{target}?{QUERY}&signature=ab", (), b"a=1//2")
    assert post.status == 200
    assert upstream.requests[-1].target == f"{path}?{QUERY}&signature=ab".encode()
    assert upstream.requests[-1].body == b"a=1//2"


async def test_base_url_that_ends_in_a_slash_is_answered_from_memory_too(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange()) as one:
        target = kline_target(Market.UM, "BTCUSDT", "1m")
        await one.until_hit(target)
        for prefix in ("/fapi", "/fapi/", "/", "//fapi//"):
            hit = await one.get(prefix + target)
            assert hit.is_hit, prefix
            one.check(hit, Market.UM, "BTCUSDT", "1m")


# --- without the cache -------------------------------------------------------------------------


async def test_status_of_a_gateway_without_cache(gateway: Running, upstream: RawUpstream) -> None:
    assert (await call(gateway.port, "GET", DEPTH)).status == 200
    for headers in ((), (("Accept-Encoding", "gzip"),)):
        reply = await call(gateway.port, "GET", "/local/status", headers)
        assert reply.status == 200
        status = orjson.loads(content(reply))
        assert (status["series"], status["connections"], status["backfill"]) == ([], [], [])
        assert [row["pool"] for row in status["weights"]] == ["spot"]
    for path in ("/local/spot/klines?symbol=BTCUSDT&interval=1m", "/local/um/bookTicker"):
        reply = await call(gateway.port, "GET", path)
        assert (reply.status, reply.json()["code"]) == (404, -3)
        assert "switched off" in reply.json()["msg"]
