"""One POST to a host of the owner's: sent once, byte for byte, and answered in short; no failure tells its address."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from typing import Any

import pytest

from resender.core.egress.spec import EgressSpec
from resender.upstream import NotPosted, post, posting
from tests.support.authority import Authority, client_context
from tests.support.ports import free_port
from tests.support.proxies import Proxy
from tests.support.running import wait_until
from tests.support.upstream import Answer, Peer, RawUpstream, Request, reset, response

MARK = "MaRk7Q"
PATH = f"/services/{MARK}/in?key={MARK}"
HEADERS = {"Content-Type": "application/json; charset=utf-8", "X-Own": "1"}


async def send(
    server: RawUpstream | str, path: str = PATH, egress: EgressSpec | None = None, longest_s: float = 5.0
) -> tuple[int, bytes]:
    url = server if isinstance(server, str) else server.url
    return await post(
        url + path, HEADERS, b'{"a":1}', egress=egress, ssl_context=client_context(), longest_s=longest_s
    )


def saying(data: bytes, *, closes: bool = False) -> Answer:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(data)
        if closes:
            peer.close()

    return answer


async def mute(request: Request, peer: Peer) -> None:
    await asyncio.sleep(60)


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (PATH, PATH),
        ("/a?timestamp=1&sign=a%2Fb%2B%3D", "/a?timestamp=1&sign=a%2Fb%2B%3D"),
        ("/a%2Fb/../c;d//e?x=~%20+", "/a%2Fb/../c;d//e?x=~%20+"),
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/a#fragment", "/a"),
    ],
)
async def test_request_is_written_byte_for_byte(path: str, target: str) -> None:
    async with RawUpstream() as server:
        assert await send(server, path) == (200, b'{"ok":true}')
        (request,) = server.requests
        assert request.line == b"POST %s HTTP/1.1" % target.encode()
        assert request.body == b'{"a":1}'
        headers = dict(request.headers)
        assert headers["Host"] == f"127.0.0.1:{server.port}"
        assert HEADERS.items() <= headers.items()
        assert headers["Accept-Encoding"] == "identity"
        assert not {"cookie", "authorization", "x-mbx-apikey"} & {name.lower() for name in headers}


async def test_plain_http_is_possible_within_ones_own_network() -> None:
    async with RawUpstream(tls=False) as server:
        assert server.url.startswith("http://")
        assert (await send(server))[0] == 200


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://hooks.example/a", "https://hooks.example"),
        ("https://Hooks.Example:8443/a", "https://hooks.example:8443"),
        ("http://[2001:db8::1]:80/a", "http://[2001:db8::1]:80"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
async def test_host_is_taken_out_of_the_address(url: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def refuse(base_url: str, *args: Any, **options: Any) -> Any:
        seen.append(base_url)
        raise ZeroDivisionError

    monkeypatch.setattr(posting, "RestClient", refuse)
    with pytest.raises(ZeroDivisionError):
        await send(url, "")
    assert seen == [base]


async def test_it_leaves_by_the_egress_of_choice() -> None:
    peers: list[str] = []

    async def answer(request: Request, peer: Peer) -> None:
        peers.append(peer.writer.get_extra_info("peername")[0])
        await peer.send(response())

    async with RawUpstream(answer) as server, Proxy("http", "user", "word") as proxy:
        await send(server)
        await send(server, egress=EgressSpec("own", "default"))
        await send(server, egress=EgressSpec("second", "address", address="127.0.0.2"))
        assert proxy.targets == []
        await send(server, egress=proxy.spec())
        assert proxy.targets == [("127.0.0.1", server.port)]
    assert peers == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1"]


async def test_no_connection_is_kept() -> None:
    ended: list[int] = []

    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response())
        assert not await peer.reader.read(1)
        ended.append(peer.number)
        peer.close()

    async with RawUpstream(answer) as server:
        for _ in range(3):
            await send(server)
        await wait_until(lambda: ended == [1, 2, 3])


# --- what is answered -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (response(b"", "204 No Content"), 204, b""),
        (response(b"no_service", "404 Not Found"), 404, b"no_service"),
        (response(b"x" * 50_000, "500 Error"), 500, b"x" * 50_000),
    ],
)
async def test_status_and_body_come_back(data: bytes, status: int, body: bytes) -> None:
    async with RawUpstream(saying(data)) as server:
        assert await send(server) == (status, body)


async def test_answer_that_comes_packed_all_the_same_is_unpacked() -> None:
    packed = response(gzip.compress(b"unpacked", mtime=0), headers=(("content-encoding", "gzip"),))
    async with RawUpstream(saying(packed)) as server:
        assert await send(server) == (200, b"unpacked")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with RawUpstream() as other:
        moved = response(b"", f"{status} Moved", (("location", f"{other.url}/x"),))
        async with RawUpstream(saying(moved)) as server:
            assert (await send(server))[0] == status
        assert other.requests == []


async def test_answer_without_end_is_given_up_early() -> None:
    async def endless(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x" * 65_536)

    async with RawUpstream(endless) as server:
        with pytest.raises(NotPosted, match="sent more than 65536 bytes"):
            await send(server)


# --- failures -------------------------------------------------------------------------------------


async def failure(caplog: pytest.LogCaptureFixture, server: RawUpstream | str, **options: Any) -> str:
    """Return the words of a failure, in which and in whose log no address is."""
    caplog.set_level(logging.DEBUG)
    begun = time.monotonic()
    with pytest.raises(NotPosted) as caught:
        await send(server, **options)
    assert time.monotonic() - begun < 4
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.__suppress_context__
    ours = "".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
    assert MARK not in text + ours + repr(caught.value.__cause__)
    return text


async def test_host_that_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    text = await failure(caplog, f"https://127.0.0.1:{free_port()}")
    assert "cannot be reached" in text
    assert "refused the connection" in text


async def test_name_that_is_none_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot be" in await failure(caplog, "https://a..b")


async def test_certificate_of_a_stranger_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with RawUpstream(context=Authority().server_context()) as server:
        assert "an authority this machine does not trust" in await failure(caplog, server)
        assert server.requests == []


async def test_host_without_tls_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        assert "it does not answer with TLS" in await failure(caplog, f"https://127.0.0.1:{port}")
    finally:
        server.close()


async def test_host_that_does_not_shake_hands_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with RawUpstream(tls=False) as server:
        text = await failure(caplog, server.url.replace("http:", "https:"), longest_s=0.6)
    assert "no connection within 0.3 s" in text


async def test_host_that_says_nothing_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async with RawUpstream(mute) as server:
        text = await failure(caplog, server, longest_s=0.3)
    assert "in time" in text


async def test_host_that_drips_its_answer_is_given_up_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def drip(request: Request, peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.05)

    async with RawUpstream(drip) as server:
        await failure(caplog, server, longest_s=0.4)


@pytest.mark.parametrize(
    "answer",
    [
        reset,
        saying(b"", closes=True),
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", closes=True),
    ],
    ids=["reset", "closed", "half"],
)
async def test_line_that_breaks_off_is_told_and_nothing_is_sent_again(
    caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    async with RawUpstream(answer) as server:
        await failure(caplog, server)
        assert len(server.requests) == 1


async def test_answer_that_is_no_http_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with RawUpstream(saying(b"SSH-2.0-OpenSSH\r\n\r\n", closes=True)) as server:
        assert "not HTTP" in await failure(caplog, server)


@pytest.mark.parametrize("answer", [reset, mute], ids=["reset", "mute"])
async def test_words_are_not_those_of_an_order(caplog: pytest.LogCaptureFixture, answer: Answer) -> None:
    async with RawUpstream(answer) as server:
        assert "order" not in await failure(caplog, server, longest_s=0.3)


async def test_proxy_that_is_down_is_told_and_its_login_is_not(caplog: pytest.LogCaptureFixture) -> None:
    spec = EgressSpec(
        "via", "proxy", scheme="socks5", host="127.0.0.1", port=free_port(), username="u", password=MARK
    )
    text = await failure(caplog, "https://hooks.example", egress=spec)
    assert "through via" in text
    assert "the proxy refused the connection" in text


async def test_address_the_machine_lacks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    text = await failure(
        caplog, "https://127.0.0.1:9", egress=EgressSpec("lost", "address", address="192.0.2.7")
    )
    assert "cannot bind 192.0.2.7" in text


async def test_request_that_is_cancelled_leaves_nothing_behind() -> None:
    async with RawUpstream(mute) as server:
        task = asyncio.get_running_loop().create_task(send(server))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
