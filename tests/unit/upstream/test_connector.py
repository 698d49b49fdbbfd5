"""Connections that report to the call they serve, and the words of connections that were not made."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from types import SimpleNamespace

import aiohttp
import pytest

from resender.upstream.connector import (
    Attempt,
    Connector,
    EgressFault,
    Timeouts,
    current_attempt,
    handshake_words,
    note_unexpected,
    why_not,
)
from tests.support.authority import client_context
from tests.support.upstream import RawUpstream

TIMEOUTS = Timeouts(connect_s=1.5, read_s=1.0, total_s=5.0)
KEY = SimpleNamespace(host="h", port=443, ssl=True, is_ssl=True)


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (certificate_error(10), "has expired"),
        (certificate_error(9), "not valid yet"),
        (certificate_error(18), "self-signed"),
        (certificate_error(20), "does not trust"),
        (certificate_error(62), "for another name"),
        (certificate_error(999), "its TLS certificate is not valid"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not answer with TLS"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "no TLS version this machine accepts"),
        (tls_error("SOMETHING_NEW"), "the TLS handshake failed"),
        (None, "the TLS handshake failed"),
    ],
)
def test_failed_handshake_is_told_in_words(error: Exception | None, words: str) -> None:
    assert words in handshake_words(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncio.TimeoutError(), "no connection within 1.5 s"),
        (EgressFault("the proxy is gone"), "the proxy is gone"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("secret")), "its name cannot be resolved"),
        (socket.gaierror(-2, "secret"), "its name cannot be resolved"),
        (aiohttp.ClientConnectorCertificateError(KEY, certificate_error(10)), "has expired"),
        (aiohttp.ClientConnectorError(KEY, tls_error("WRONG_VERSION_NUMBER")), "does not answer with TLS"),
        (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError("secret")), "it refused the connection"),
        (aiohttp.ClientConnectorError(KEY, ConnectionResetError("secret")), "it broke off the connection"),
        (aiohttp.ClientConnectorError(KEY, OSError(101, "secret")), "the connection failed"),
        (RuntimeError("secret"), "the connection failed"),
    ],
)
def test_connection_that_was_not_made_is_told_in_words_of_our_own(error: Exception, words: str) -> None:
    text = why_not(error, Attempt(), TIMEOUTS)
    assert words in text
    assert "secret" not in text


def test_timeout_names_what_was_waited_for() -> None:
    attempt = Attempt(waits_for="answer of the proxy")
    assert why_not(asyncio.TimeoutError(), attempt, TIMEOUTS) == "no answer of the proxy within 1.5 s"


def test_only_what_nobody_thought_of_is_logged_with_its_origin(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "resender.upstream"):
        for error in (aiohttp.ClientError("x"), OSError("x"), asyncio.TimeoutError()):
            note_unexpected("host", error)
        assert caplog.records == []
        note_unexpected("host", KeyError("a bug of ?signature=0123456789abcdef"))
    assert "unexpected failure of a call to host" in caplog.text
    assert "KeyError" in caplog.text
    assert "0123456789abcdef" not in caplog.text


async def test_attempt_learns_whether_its_connection_was_new_and_has_answered() -> None:
    async with RawUpstream() as upstream:
        async with aiohttp.ClientSession(connector=Connector(ssl=client_context())) as session:
            seen = []
            for must_be_new in (False, False, True):
                attempt = Attempt(must_be_new=must_be_new)
                current_attempt.set(attempt)
                async with session.get(f"{upstream.url}/x") as response:
                    await response.read()
                seen.append((attempt.connected, attempt.reused, attempt.answered))
        assert seen == [(True, False, True), (True, True, True), (True, False, True)]
        assert upstream.connections == 2


async def test_attempt_without_a_connection_says_so() -> None:
    async with aiohttp.ClientSession(connector=Connector()) as session:
        attempt = Attempt()
        current_attempt.set(attempt)
        with pytest.raises(aiohttp.ClientError):
            await session.get("https://127.0.0.1:1/")
    assert (attempt.connected, attempt.answered) == (False, False)
