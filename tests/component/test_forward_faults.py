"""What happens when the upstream, the network or the client misbehaves; nothing trades twice."""

from __future__ import annotations

import asyncio
import gzip
import logging
from pathlib import Path

import pytest

from resender.upstream.rest import RestResponse
from tests.support.client import build, call, exchange, parse
from tests.support.running import Captured, Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, reset, response

pytestmark = pytest.mark.component

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
TRADING = ["POST", "PUT", "DELETE"]


async def close(request: Request, peer: Peer) -> None:
    peer.close()


async def partial_status_line(request: Request, peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 2")
    peer.close()


async def not_http(request: Request, peer: Peer) -> None:
    await peer.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    peer.close()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [reset, close, partial_status_line, not_http])
async def test_call_lost_on_a_fresh_connection_is_sent_once(
    gateway: Running, upstream: RawUpstream, method: str, fault
) -> None:
    upstream.answer = fault
    reply = await call(gateway.port, method, "/api/v3/order?x=1")
    assert reply.status == 502
    assert reply.header("x-resender-error") == "lost"
    assert len(upstream.requests) == 1
    if method != "HEAD":
        assert reply.json()["code"] == -6
        assert ("execution status is unknown" in reply.json()["msg"]) is (method in TRADING)


@pytest.mark.parametrize("method", TRADING)
@pytest.mark.parametrize("fault", [reset, close, partial_status_line])
async def test_trading_call_lost_on_a_kept_connection_is_sent_once(
    gateway: Running, upstream: RawUpstream, method: str, fault
) -> None:
    assert (await call(gateway.port, "GET", "/api/v3/time")).status == 200
    upstream.answer = fault
    reply = await call(gateway.port, method, "/api/v3/order?x=1")
    assert reply.status == 502
    assert reply.json()["code"] == -6
    assert [r.method for r in upstream.requests] == ["GET", method]
    assert upstream.connections == 1, "the call did not use the kept connection"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("fault", [reset, close])
async def test_get_on_a_kept_connection_that_died_is_repeated_once_on_a_new_one(
    gateway: Running, upstream: RawUpstream, method: str, fault
) -> None:
    await call(gateway.port, "GET", "/api/v3/time")

    async def once(request: Request, peer: Peer) -> None:
        upstream.answer = answer_ok
        await fault(request, peer)

    upstream.answer = once
    reply = await call(gateway.port, method, "/api/v3/x")
    assert reply.status == 200
    assert [r.connection for r in upstream.requests] == [1, 1, 2]


async def test_get_is_never_sent_a_third_time(gateway: Running, upstream: RawUpstream) -> None:
    # Several kept connections, so that a careless repeat would take the next dead one.
    async def slow(request: Request, peer: Peer) -> None:
        await asyncio.sleep(0.05)
        await answer_ok(request, peer)

    upstream.answer = slow
    await asyncio.gather(*(call(gateway.port, "GET", f"/api/v3/x?n={n}") for n in range(5)))
    assert upstream.connections == 5
    upstream.answer = reset
    reply = await call(gateway.port, "GET", "/api/v3/x")
    assert reply.status == 502
    assert len(upstream.requests) == 5 + 2
    assert upstream.requests[-1].connection == 6


async def test_get_is_not_repeated_after_the_first_byte_of_an_answer(
    gateway: Running, upstream: RawUpstream
) -> None:
    await call(gateway.port, "GET", "/api/v3/time")
    upstream.answer = partial_status_line
    assert (await call(gateway.port, "GET", "/api/v3/x")).status == 502
    assert len(upstream.requests) == 2


async def test_idle_connection_closed_by_the_upstream_costs_nothing(
    gateway: Running, upstream: RawUpstream
) -> None:
    async def answer_and_close(request: Request, peer: Peer) -> None:
        await answer_ok(request, peer)
        peer.close()

    upstream.answer = answer_and_close
    for _ in range(5):
        assert (await call(gateway.port, "POST", "/api/v3/order")).status == 200
        await asyncio.sleep(0.02)
    assert len(upstream.requests) == 5


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("kind", ["length", "chunked", "until close", "headers only", "gzip"])
async def test_body_that_breaks_off_breaks_the_clients_connection(
    gateway: Running, upstream: RawUpstream, method: str, kind: str
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        if kind == "chunked":
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        elif kind == "until close":
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        elif kind == "headers only":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        elif kind == "gzip":
            packed = gzip.compress(b"hello" * 1000)
            await peer.send(response(packed, headers=(("content-encoding", "gzip"),))[:-5])
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(0.05)
        peer.reset()

    upstream.answer = answer
    reply = await call(gateway.port, method, "/api/v3/x")
    assert reply.status == 200, "the client must see that an answer began, or its library repeats the call"
    assert not reply.complete
    assert len(upstream.requests) == 1
    assert gateway.gateway.metrics.bodies_broken._value.get() == 1


async def test_body_that_breaks_off_resets_an_http_1_0_client(
    gateway: Running, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await asyncio.sleep(0.05)
        peer.reset()

    upstream.answer = answer
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(build("GET", "/api/v3/x", version="1.0"))
    # Without length or chunks only a reset tells the client that the body is not whole.
    with pytest.raises(ConnectionResetError):
        while await asyncio.wait_for(reader.read(65536), 10):
            pass
    writer.close()


async def test_silent_upstream_times_out(tmp_path: Path, upstream: RawUpstream) -> None:
    async def silent(request: Request, peer: Peer) -> None:
        await asyncio.sleep(30)

    upstream.answer = silent
    async with running(make_config(tmp_path, upstream.url, read_timeout_s=0.2)) as run:
        for method in ("GET", *TRADING):
            upstream.requests.clear()
            reply = await call(run.port, method, "/fapi/v1/order")
            assert reply.status == 504
            assert reply.json()["code"] == -7
            assert reply.header("x-resender-error") == "timeout"
            assert ("execution status is unknown" in reply.json()["msg"]) is (method in TRADING)
            assert len(upstream.requests) == 1


async def test_body_that_falls_silent_breaks_the_clients_connection(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async def stuck(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(30)

    upstream.answer = stuck
    async with running(make_config(tmp_path, upstream.url, read_timeout_s=0.2)) as run:
        reply = await call(run.port, "GET", "/fapi/v1/x")
    assert reply.status == 200
    assert not reply.complete


async def test_total_timeout_ends_a_trickling_answer(tmp_path: Path, upstream: RawUpstream) -> None:
    async def trickle(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"x")
            await asyncio.sleep(0.05)

    upstream.answer = trickle
    async with running(make_config(tmp_path, upstream.url, total_timeout_s=0.5)) as run:
        reply = await call(run.port, "GET", "/fapi/v1/x")
    assert reply.status == 200
    assert not reply.complete
    assert len(reply.body) < 1000


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_refused_connection_is_unreachable(tmp_path: Path, method: str) -> None:
    async with RawUpstream() as dead:
        url = dead.url
    async with running(make_config(tmp_path, url)) as run:
        reply = await call(run.port, method, "/api/v3/order")
    assert reply.status == 502
    assert reply.json()["code"] == -2
    assert reply.header("x-resender-error") == "unreachable"
    assert "execution status" not in reply.json()["msg"]


async def test_unknown_host_is_unreachable(tmp_path: Path) -> None:
    async with running(make_config(tmp_path, "https://no-such-host.invalid")) as run:
        reply = await call(run.port, "GET", "/api/v3/time")
    assert reply.status == 502
    assert reply.json()["code"] == -2
    assert "cannot be resolved" in reply.json()["msg"]


async def test_failed_tls_is_unreachable(tmp_path: Path) -> None:
    async with RawUpstream(tls=False) as upstream:  # that is what the test is about
        config = make_config(tmp_path, f"https://127.0.0.1:{upstream.port}", connect_timeout_s=0.3)
        async with running(config) as run:
            reply = await call(run.port, "POST", "/api/v3/order")
    assert reply.status == 502
    assert reply.json()["code"] == -2
    assert not upstream.requests


async def test_connection_that_is_never_accepted_is_unreachable(tmp_path: Path) -> None:
    # A full backlog leaves further connections waiting, as a firewall that drops packets does.
    import socket

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    port = listening.getsockname()[1]
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    await asyncio.sleep(0.05)
    try:
        config = make_config(tmp_path, f"https://127.0.0.1:{port}", connect_timeout_s=0.3)
        async with running(config) as run:
            reply = await call(run.port, "POST", "/api/v3/order")
        assert reply.status == 502
        assert reply.json()["code"] == -2
        assert "no connection within 0.3 s" in reply.json()["msg"]
    finally:
        for filler in fillers:
            filler.close()
        listening.close()


async def test_gateway_works_again_when_the_upstream_comes_back(tmp_path: Path) -> None:
    upstream = RawUpstream()
    async with upstream:
        async with running(make_config(tmp_path, upstream.url)) as run:
            assert (await call(run.port, "GET", "/api/v3/time")).status == 200
            await upstream.stop()
            assert (await call(run.port, "GET", "/api/v3/time")).status == 502
            async with RawUpstream(port=upstream.port):
                assert (await call(run.port, "POST", "/api/v3/order")).status == 200


async def test_calls_beyond_max_in_flight_are_refused_at_once(tmp_path: Path, upstream: RawUpstream) -> None:
    gate = asyncio.Event()

    async def wait(request: Request, peer: Peer) -> None:
        await gate.wait()
        await answer_ok(request, peer)

    upstream.answer = wait
    async with running(make_config(tmp_path, upstream.url, max_in_flight=3)) as run:
        held = [asyncio.create_task(call(run.port, "POST", "/api/v3/order")) for _ in range(3)]
        await wait_until(lambda: len(upstream.requests) == 3)
        reply = await call(run.port, "GET", "/api/v3/time")
        assert reply.status == 503
        assert reply.json()["code"] == -8
        assert reply.header("x-resender-error") == "busy"
        gate.set()
        assert [r.status for r in await asyncio.gather(*held)] == [200, 200, 200]
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200
        assert run.gateway.calls.in_flight == 0


async def _send_and_leave(port: int, method: str, upstream: RawUpstream) -> None:
    before = len(upstream.requests)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(build(method, "/api/v3/order?signature=abc", close=False))
    await writer.drain()
    await wait_until(lambda: len(upstream.requests) > before)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_client_that_leaves_cancels_its_get(
    gateway: Running, upstream: RawUpstream, method: str
) -> None:
    ended = asyncio.Event()

    async def wait(request: Request, peer: Peer) -> None:
        assert await peer.reader.read(1) == b""
        ended.set()

    upstream.answer = wait
    await _send_and_leave(gateway.port, method, upstream)
    await asyncio.wait_for(ended.wait(), 5)
    await wait_until(lambda: gateway.gateway.calls.in_flight == 0)
    assert gateway.gateway.metrics.clients_gone._value.get() == 1


@pytest.mark.parametrize("method", TRADING)
async def test_call_that_may_trade_is_finished_and_logged_when_its_client_leaves(
    gateway: Running, upstream: RawUpstream, method: str
) -> None:
    captured = Captured()
    logging.getLogger("resender").addHandler(captured)
    gate = asyncio.Event()

    async def wait(request: Request, peer: Peer) -> None:
        await gate.wait()
        await peer.send(response(b'{"orderId":1}' * 1000))

    upstream.answer = wait
    try:
        await _send_and_leave(gateway.port, method, upstream)
        await asyncio.sleep(0.1)
        assert gateway.gateway.calls.in_flight == 1, "the call was dropped with its client"
        gate.set()
        await wait_until(lambda: gateway.gateway.calls.in_flight == 0)
    finally:
        logging.getLogger("resender").removeHandler(captured)
    line = next(line for line in captured.lines if "went away" in line)
    assert f"{method} /api/v3/order" in line
    assert "status 200" in line
    assert "signature" not in line
    # The connection was read to its end and serves the next call.
    upstream.answer = answer_ok
    assert (await call(gateway.port, "GET", "/api/v3/time")).status == 200
    assert upstream.connections == 1


async def test_slow_client_holds_the_upstream_back(gateway: Running, upstream: RawUpstream) -> None:
    total = 64 << 20
    pushed = 0

    async def pour(request: Request, peer: Peer) -> None:
        nonlocal pushed
        await peer.send(f"HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n".encode())
        piece = b"x" * 65536
        while pushed < total:
            await peer.send(piece)
            pushed += len(piece)

    upstream.answer = pour
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=65536)
    writer.write(build("GET", "/api/v3/exchangeInfo"))
    await asyncio.sleep(1.0)
    stalled_at = pushed
    await asyncio.sleep(0.5)
    assert pushed == stalled_at, "nobody reads, and still the upstream can send"
    assert stalled_at < total // 2
    received = 0
    while data := await reader.read(1 << 20):
        received += len(data)
    assert received > total
    writer.close()
    await writer.wait_closed()


async def test_body_over_the_limit_is_refused_and_not_forwarded(
    gateway: Running, upstream: RawUpstream
) -> None:
    limit = gateway.gateway.config.max_body_bytes
    assert (await call(gateway.port, "POST", "/api/v3/x", body=b"x" * limit)).status == 200
    upstream.requests.clear()
    too_much = b"x" * (limit + 1)
    chunked = b"POST /api/v3/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(too_much), too_much)
    for reply in (
        await call(gateway.port, "POST", "/api/v3/x", body=too_much),
        parse(await exchange(gateway.port, chunked)),
        await call(gateway.port, "POST", "/healthz", body=too_much),
    ):
        assert reply.status == 413
        assert reply.json()["code"] == -5
        assert reply.header("x-resender-error") == "too_large"
    assert not upstream.requests


async def test_announced_huge_body_is_refused_without_being_read(gateway: Running) -> None:
    for length in (b"999999999999", b"9" * 5000):
        head = b"POST /api/v3/x HTTP/1.1\r\nHost: g\r\nContent-Length: " + length + b"\r\n\r\nx"
        reply = parse(await exchange(gateway.port, head))
        assert reply.status == 413
        assert reply.complete


@pytest.mark.parametrize(
    "raw",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /api/v3/time\r\n\r\n",
        b"GET /api/v3/time HTTP/9.9 x\r\n\r\n",
        b"GET /api/v3/ti me HTTP/1.1\r\nHost: g\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nContent-Length: abc\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nContent-Length: \xb2\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /x HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
        b"GET /api/v3/time HTTP/1.1\r\nHost: g\r\nBad Header: x\r\n\r\n",
        b"GET http://127.0.0.1:1/api/v3/time HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
        b"GET /api/v3/../../x HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    ],
)
async def test_malformed_request_is_a_json_400(gateway: Running, upstream: RawUpstream, raw: bytes) -> None:
    reply = parse(await exchange(gateway.port, raw))
    assert reply.status == 400
    assert reply.complete
    assert reply.json()["code"] == -4
    assert reply.header("x-resender-error") == "bad_request"
    assert reply.header("content-type") == "application/json"
    assert not upstream.requests


async def test_bug_of_ours_is_a_json_500_without_traceback(gateway: Running, monkeypatch, caplog) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("secret detail in /some/path.py")

    monkeypatch.setattr("resender.web.client.request.headers_up", explode)
    reply = await call(gateway.port, "GET", "/api/v3/time")
    assert reply.status == 500
    assert reply.json()["code"] == -9
    assert b"secret detail" not in reply.raw
    assert b"Traceback" not in reply.raw
    assert "secret detail" in caplog.text
    assert gateway.gateway.calls.in_flight == 0


async def test_bug_of_ours_in_the_middle_of_an_answer_is_no_second_answer(
    gateway: Running, upstream: RawUpstream, monkeypatch, caplog
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello")
        await asyncio.sleep(0.1)
        await peer.send(b"x" * 495)

    keep = RestResponse.next_chunk
    reads = 0

    async def fail_later(self: RestResponse) -> bytes:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise RuntimeError("boom")
        return await keep(self)

    monkeypatch.setattr(RestResponse, "next_chunk", fail_later)
    upstream.answer = answer
    reply = await call(gateway.port, "POST", "/api/v3/order")
    assert (reply.status, reply.body, reply.complete) == (200, b"hello", False)
    assert "boom" in caplog.text


async def test_calls_in_flight_are_finished_at_shutdown(tmp_path: Path, upstream: RawUpstream) -> None:
    gate = asyncio.Event()

    async def wait(request: Request, peer: Peer) -> None:
        await gate.wait()
        await answer_ok(request, peer)

    upstream.answer = wait
    async with running(make_config(tmp_path, upstream.url)) as run:
        held = asyncio.create_task(call(run.port, "POST", "/api/v3/order"))
        await wait_until(lambda: upstream.requests)
        asyncio.get_running_loop().call_later(0.2, gate.set)
    assert (await held).status == 200


async def test_new_call_on_a_kept_connection_is_refused_at_shutdown(
    gateway: Running, upstream: RawUpstream
) -> None:
    gateway.gateway.calls.is_open = False
    reply = await call(gateway.port, "POST", "/api/v3/order")
    assert reply.status == 503
    assert reply.json()["code"] == -8
    assert reply.header("connection") == "close"
    assert not upstream.requests


async def test_calls_that_do_not_end_are_cut_off_at_shutdown(tmp_path: Path, upstream: RawUpstream) -> None:
    async def never(request: Request, peer: Peer) -> None:
        await asyncio.sleep(30)

    upstream.answer = never
    async with running(make_config(tmp_path, upstream.url, shutdown_s=0.1)) as run:
        held = asyncio.create_task(call(run.port, "POST", "/api/v3/order"))
        await wait_until(lambda: upstream.requests)
    # A client that gets no answer at all might repeat the order by itself.
    reply = await held
    assert reply.status == 502
    assert reply.json()["code"] == -6
    assert "execution status is unknown" in reply.json()["msg"]


async def test_answers_that_do_not_end_are_broken_off_at_shutdown(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async def stuck(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(30)

    upstream.answer = stuck
    async with running(make_config(tmp_path, upstream.url, shutdown_s=0.2)) as run:
        held = asyncio.create_task(call(run.port, "POST", "/api/v3/order"))
        await wait_until(lambda: upstream.requests)
        await asyncio.sleep(0.05)
    reply = await held
    assert (reply.status, reply.body, reply.complete) == (200, b"hello", False)
