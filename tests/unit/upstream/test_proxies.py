"""Handshakes with proxies: what is asked of them, and whose fault a refusal is, in words without secrets."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest

from resender.core.egress.spec import EgressSpec
from resender.upstream.connector import EgressFault
from resender.upstream.proxies import open_tunnel
from tests.support.ports import free_port
from tests.support.proxies import Proxy
from tests.support.upstream import RawUpstream

SECRET = "hush-hush-1"


async def tunnel(proxy: Proxy, port: int = 1, host: str = "127.0.0.1", **spec: str) -> None:
    (await open_tunnel(proxy.spec(**spec), host, port)).close()


async def fault(proxy: Proxy, **spec: str) -> EgressFault:
    """Return why there is no tunnel; no secret may be in it."""
    async with RawUpstream(tls=False) as upstream, proxy:
        with pytest.raises(EgressFault) as caught:
            await tunnel(proxy, upstream.port, **spec)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", ["http", "socks5", "socks4"])
async def test_proxy_is_asked_for_the_host_as_it_was_named(kind: str) -> None:
    names = {"api.example": "127.0.0.1"}
    async with RawUpstream(tls=False) as upstream, Proxy(kind, names=names) as proxy:
        await tunnel(proxy, upstream.port, "api.example")
        assert proxy.targets == [("api.example", upstream.port)]


async def test_http_proxy_gets_one_connect_with_the_login_and_nothing_else() -> None:
    async with RawUpstream(tls=False) as upstream:
        async with Proxy("http", username="user", password=SECRET) as proxy:
            await tunnel(proxy, upstream.port)
            (head,) = proxy.handshakes
    authority = f"127.0.0.1:{upstream.port}"
    login = base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert head.decode().split("\r\n")[:3] == [
        f"CONNECT {authority} HTTP/1.1",
        f"Host: {authority}",
        f"Proxy-Authorization: Basic {login}",
    ]


async def test_answer_of_an_http_proxy_may_come_in_pieces() -> None:
    async with RawUpstream(tls=False) as upstream, Proxy("http", pieces=True) as proxy:
        await tunnel(proxy, upstream.port)


@pytest.mark.parametrize(
    ("answer", "words", "is_whole"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants a user name and password", True),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "rules do not allow it (HTTP 403)", False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot or will not connect to it (HTTP 502)", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "(HTTP 100)", False),
        (b"HTTP/2 200\r\n\r\n", "something that is not HTTP", True),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "something that is not HTTP", True),
    ],
)
async def test_refusal_of_an_http_proxy_is_told_in_words(answer: bytes, words: str, is_whole: bool) -> None:
    found = await fault(Proxy("http", raw_answer=answer))
    assert words in found.reason
    assert found.is_whole is is_whole


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_wrong_login_is_a_fault_of_the_whole_egress(kind: str) -> None:
    found = await fault(Proxy(kind, username="user", password="right"), password=SECRET)
    assert found.reason == "the proxy wants another user name or password"
    assert found.is_whole


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("socks5", 2, "the proxy's rules do not allow it"),
        ("socks5", 4, "the host is unreachable, or cannot resolve its name"),
        ("socks5", 5, "it refused the connection"),
        ("socks4", 91, "cannot connect to it or refuses to"),
    ],
)
async def test_socks_reply_about_the_upstream_is_no_fault_of_the_egress(
    kind: str, code: int, words: str
) -> None:
    found = await fault(Proxy(kind, refuse=code))
    assert words in found.reason
    assert not found.is_whole


@pytest.mark.parametrize("kind", ["http", "socks5", "socks4"])
async def test_proxy_that_hangs_up_in_the_handshake_is_said_to_have_done_so(kind: str) -> None:
    found = await fault(Proxy(kind, drops=True))
    assert "closed the connection in the middle of the handshake" in found.reason
    assert found.is_whole


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_proxy_that_is_not_there_is_said_to_refuse(kind: str) -> None:
    spec = EgressSpec("via", "proxy", scheme=kind, host="127.0.0.1", port=free_port())
    with pytest.raises(EgressFault, match="the proxy refused the connection") as caught:
        await open_tunnel(spec, "127.0.0.1", 1)
    assert caught.value.is_whole


async def test_name_that_socks_cannot_carry_is_told() -> None:
    async with Proxy("socks5") as proxy:
        with suppress(EgressFault):  # whatever it says, it is none of Python's errors
            await tunnel(proxy, host="höst.example")
