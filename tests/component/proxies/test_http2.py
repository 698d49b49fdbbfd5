"""Clients that speak HTTP/2 with the proxy: many calls on one connection, each forwarded once."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.authority import ca_file
from tests.support.reverse_proxies import CLIENT, ReverseProxy, find_program
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

_REPORT = (
    '{"status":%{http_code},"version":"%{http_version}","size":%{size_download},"connects":%{num_connects}}\n'
)


@pytest.fixture(scope="module")
def curl() -> str:
    path = find_program("curl")
    features = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if "HTTP2" not in features:
        pytest.skip("this curl speaks no HTTP/2")
    return path


@dataclass
class Curl:
    """Runs curl. Shape: a result holds the status, HTTP version and size of each answer."""

    path: str
    front: ReverseProxy
    folder: Path

    async def run(self, *targets: str, options: tuple[str, ...] = ()) -> list[dict[str, object]]:
        words = [
            self.path,
            "--silent",
            "--show-error",
            "--http2",
            "--cacert",
            ca_file(),
            "--interface",
            CLIENT,
        ]
        words += ["--path-as-is", "--globoff", "--max-time", "30", "--write-out", _REPORT, *options]
        for number, target in enumerate(targets):
            words += ["--output", str(self.folder / f"body{number}"), self.front.url + target]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors
        return [json.loads(line) for line in out.decode().splitlines()]

    def body(self, number: int = 0) -> bytes:
        return (self.folder / f"body{number}").read_bytes()


@pytest.fixture
def client(curl: str, front: ReverseProxy, tmp_path: Path) -> Curl:
    return Curl(curl, front, tmp_path)


async def test_two_hundred_orders_on_one_http2_connection_arrive_once_each(
    client: Curl, upstream: RawUpstream
) -> None:
    targets = [f"/api/v3/order?symbol=BTCUSDT&signature=ab%2b&n={n}" for n in range(200)]
    results = await client.run(*targets, options=("--parallel", "--parallel-max", "50", "--data", "a=b"))
    assert Counter((one["status"], one["version"]) for one in results) == {(200, "2"): 200}
    assert sum(int(str(one["connects"])) for one in results) < 20, "that is hardly one connection"
    arrived = Counter(request.target.decode() for request in upstream.requests)
    assert arrived == Counter(targets)
    assert {request.body for request in upstream.requests} == {b"a=b"}
    assert {request.method for request in upstream.requests} == {"POST"}


async def test_target_and_headers_over_http2_arrive_as_they_are(client: Curl, upstream: RawUpstream) -> None:
    targets = [
        "/api/v3/order?symbol=BTCUSDT&signature=ab%2Bcd%2F%3D%3D",
        "/api/v3/order?signature=ab+cd/ef==&symbols=%5b%22A%22%2c%22B%22%5D",
        "/api/v3//x///y?a=1&&b=&a=2&",
        "/api/v3/x%2Fy%2f?s=%e5%b8%81",
    ]
    headers = ("--header", "X-MBX-APIKEY: kEy", "--header", "X-Forwarded-For: 203.0.113.7")
    results = await client.run(*targets, options=("--request", "DELETE", *headers))
    assert {(one["status"], one["version"]) for one in results} == {(200, "2")}
    assert [request.target.decode() for request in upstream.requests] == targets
    for request in upstream.requests:
        assert request.header("x-mbx-apikey") == "kEy"
        assert request.header("x-forwarded-for") is None
        assert request.method == "DELETE"


async def test_large_answers_over_http2_are_whole(client: Curl, upstream: RawUpstream) -> None:
    body = b"0123456789abcdef" * 400_000

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(body))

    upstream.answer = answer
    results = await client.run(*["/api/v3/exchangeInfo"] * 4, options=("--parallel",))
    assert [(one["status"], one["version"], one["size"]) for one in results] == [(200, "2", len(body))] * 4
    assert all(client.body(number) == body for number in range(4))


async def test_errors_of_the_gateway_and_of_the_exchange_pass_over_http2(
    client: Curl, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(b'{"code":-2010,"msg":"no"}', "400 Bad Request"))

    upstream.answer = answer
    results = await client.run("/api/v3/order", "/nothing/here")
    assert [(one["status"], one["version"]) for one in results] == [(400, "2"), (404, "2")]
    assert json.loads(client.body(0)) == {"code": -2010, "msg": "no"}
    assert json.loads(client.body(1))["code"] == -3


async def test_body_that_breaks_off_is_an_error_of_the_http2_stream(
    client: Curl, upstream: RawUpstream
) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await asyncio.sleep(0.05)
        peer.reset()

    upstream.answer = answer
    with pytest.raises(AssertionError, match="HTTP/2 stream"):
        await client.run("/api/v3/order", options=("--data", "a=b"))
    assert len(upstream.requests) == 1
