"""Why a Redis cannot be used, in words; the real server's errors are in test_redis_link.py."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from resender.cluster.redis_words import clock_words, refusal, words_of


def caused(cause: BaseException) -> RedisConnectionError:
    error = RedisConnectionError("Error connecting to redis://:secret@host")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncio.TimeoutError(), "does not answer within 1 s"),
        (caused(ConnectionRefusedError(111, "x")), "cannot be reached: Connection refused"),
        (
            caused(socket.gaierror(-2, "Name or service not known")),
            "cannot be reached: Name or service not known",
        ),
        (caused(OSError("Multiple exceptions: [Errno 111] Connect call failed ...")), "Connection refused"),
        (caused(ssl.SSLCertVerificationError(1, "x")), "has a certificate that is not trusted"),
        (BusyLoadingError("LOADING"), "is still loading its data"),
        (RedisConnectionError("Connection closed by server."), "has closed the connection"),
        (ResponseError("OOM command not\nallowed"), "refuses a command: OOM command not allowed"),
        (RedisError("secret"), "cannot be used: RedisError"),
    ],
)
def test_error_is_one_line_without_secrets(error: BaseException, words: str) -> None:
    found = words_of(error, 1.0)
    assert words in found
    assert "\n" not in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("server", "replication", "words"),
    [
        ({"redis_version": "7.0.15"}, {"role": "master"}, None),
        ({"redis_version": "10.1"}, {}, None),
        ({"redis_version": "6.2.14"}, {}, "is version 6.2.14: 7 or newer is needed"),
        ({}, {}, "is version unknown: 7 or newer is needed"),
        (
            {"redis_version": "7.4", "redis_mode": "cluster"},
            {},
            "is a Redis Cluster: one plain server is needed",
        ),
        (
            {"redis_version": "7.4"},
            {"role": "slave"},
            "is a read-only replica: REDIS_URL must name the primary",
        ),
    ],
)
def test_server_that_will_not_do_is_refused(
    server: dict[str, str], replication: dict[str, str], words: str | None
) -> None:
    assert refusal(server, replication) == words


def test_clock_is_said_only_when_it_is_off_by_more_than_a_second() -> None:
    assert clock_words(1000) is None
    assert clock_words(-1000) is None
    assert "5.2 s ahead of" in str(clock_words(5200))
    assert "1.1 s behind" in str(clock_words(-1100))
