"""A wrong certificate is told in one clear line, and a good one works without a restart."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from resender.doctor import Examination, examine, table
from resender.sandbox.authority import Certificate
from resender.upstream.tls import make_context
from tests.support.authority import AUTHORITY, Authority, client_context
from tests.support.client import call
from tests.support.handshake_breaker import PLAIN_TEXT
from tests.support.running import make_config, running
from tests.support.tls_calls import Orders, closing, server_context
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

HOST = "127.0.0.1"
DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def expired() -> Certificate:
    return AUTHORITY.issue(HOST, not_before=now() - 3 * DAY, not_after=now() - DAY)


def not_yet_valid() -> Certificate:
    return AUTHORITY.issue(HOST, not_before=now() + DAY, not_after=now() + 3 * DAY)


def for_another_name() -> Certificate:
    return AUTHORITY.issue("api.example.test")


def for_another_address() -> Certificate:
    return AUTHORITY.issue("127.0.0.77", "api.example.test")


def of_an_unknown_authority() -> Certificate:
    return Authority("Nobody knows it").issue(HOST, "localhost")


def self_signed() -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


# What is wrong, and the words that say so; nothing but an expired or early one is about the clock.
WRONG: dict[str, tuple[Callable[[], Certificate] | None, str, bool]] = {
    "expired": (expired, "its TLS certificate has expired", True),
    "not yet valid": (not_yet_valid, "its TLS certificate is not valid yet", True),
    "another name": (for_another_name, "its TLS certificate is for another name", False),
    "another address": (for_another_address, "its TLS certificate is for another name", False),
    "self-signed": (self_signed, "its TLS certificate is self-signed", False),
    "unknown authority": (
        of_an_unknown_authority,
        "its TLS certificate is signed by an authority this machine does not trust",
        False,
    ),
    "plain HTTP": (None, "it does not answer with TLS", False),
}


@asynccontextmanager
async def saying(data: bytes, port: int = 0) -> AsyncIterator[int]:
    """Run what answers the first bytes of every connection with these, whatever they are."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read(65536)
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def wrong_server(kind: str, port: int = 0) -> AsyncIterator[tuple[int, list[Request]]]:
    """Run a wrong server; yield its port and the requests that came."""
    make = WRONG[kind][0]
    if make is None:
        async with saying(PLAIN_TEXT, port) as found:
            yield found, []
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make().load_into(context)
    async with RawUpstream(answer=closing, port=port, context=context) as upstream:
        yield upstream.port, upstream.requests


@asynccontextmanager
async def good_server(port: int = 0) -> AsyncIterator[RawUpstream]:
    async with RawUpstream(answer=closing, port=port, context=server_context()) as upstream:
        yield upstream


def assert_is_about_the_clock(text: str, is_so: bool) -> None:
    assert ("clock" in text) is is_so, text


@pytest.mark.parametrize("kind", WRONG)
async def test_wrong_certificate_is_told_in_one_line_and_a_good_one_works_at_once(
    kind: str, tmp_path: Path
) -> None:
    _, words, is_clock = WRONG[kind]

    async def assert_told(port: int, method: str) -> None:
        reply = await call(port, method, "/api/v3/order")
        assert (reply.status, reply.header("x-resender-error")) == (502, "unreachable")
        assert reply.json()["code"] == -2
        msg = reply.json()["msg"]
        assert "\n" not in msg
        assert f"The upstream {HOST} cannot be reached: {words}" in msg
        assert_is_about_the_clock(msg, is_clock)

    async with wrong_server(kind) as (port, requests):
        pass
    async with running(make_config(tmp_path, f"https://{HOST}:{port}", cache_enabled=False)) as run:
        async with wrong_server(kind, port) as (_, requests):
            for method in ("POST", "DELETE", "GET"):
                await assert_told(run.port, method)
            assert not requests
        async with good_server(port) as good:
            orders = Orders(run.port, good)
            assert [r.status for r in await orders.send(["POST", "GET", "DELETE"] * 3)] == [200] * 9
            assert len(good.requests) == 9
        # The other way round: a session with the good one is no way around the check.
        async with wrong_server(kind, port) as (_, requests):
            await assert_told(run.port, "POST")
            assert not requests
        async with good_server(port):
            assert (await call(run.port, "POST", "/api/v3/order")).status == 200


async def _examine(tmp_path: Path, url: str) -> list[Examination]:
    config = make_config(tmp_path, url, connect_timeout_s=2.0, cache_enabled=False, max_stream_clients=0)
    return [result async for result in examine(config, ssl_context=client_context())]


@pytest.mark.parametrize("kind", WRONG)
async def test_doctor_tells_a_wrong_certificate_in_the_same_words(kind: str, tmp_path: Path) -> None:
    _, words, is_clock = WRONG[kind]
    async with wrong_server(kind) as (port, _):
        results = await _examine(tmp_path, f"https://{HOST}:{port}")
    assert results
    for result in results:
        assert not result.is_ok
        assert result.tcp_ms is not None
        assert result.tls_ms is None
        assert "\n" not in result.verdict
        assert words in result.verdict
        assert_is_about_the_clock(result.verdict, is_clock)
    assert len(table(results)) == 1 + len(results)


async def test_doctor_finds_nothing_wrong_with_a_good_certificate(tmp_path: Path) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        body = b"{}"
        if request.target.endswith(b"/time"):
            body = b'{"serverTime":%d}' % (time.time_ns() // 1_000_000)
        await peer.send(response(body))

    async with RawUpstream(answer=answer, context=server_context()) as upstream:
        results = await _examine(tmp_path, upstream.url)
    assert [result.verdict for result in results] == ["ok"] * len(results)
    assert all(result.tls_ms is not None for result in results)


@pytest.mark.parametrize(
    ("alert", "words"),
    [
        # Source: RFC 8446 section 6, protocol_version and handshake_failure; as sent by real servers.
        (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks no TLS version this machine accepts"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "the TLS handshake fail"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "it does not answer with TLS"),
    ],
    ids=["alert protocol_version", "alert handshake_failure", "another protocol"],
)
async def test_server_that_refuses_the_handshake_is_told(alert: bytes, words: str, tmp_path: Path) -> None:
    async with saying(alert) as port:
        async with running(make_config(tmp_path, f"https://{HOST}:{port}", cache_enabled=False)) as run:
            reply = await call(run.port, "POST", "/api/v3/order")
            assert (reply.status, reply.header("x-resender-error")) == (502, "unreachable")
            assert words in reply.json()["msg"]
        assert words in (await _examine(tmp_path, f"https://{HOST}:{port}"))[0].verdict


async def test_certificates_of_the_system_are_not_enough_for_a_private_authority(tmp_path: Path) -> None:
    async with good_server() as upstream:
        config = make_config(tmp_path, upstream.url, cache_enabled=False)
        async with running(config, ssl_context=make_context()) as run:
            reply = await call(run.port, "GET", "/api/v3/time")
    assert reply.status == 502
    assert "an authority this machine does not trust" in reply.json()["msg"]
