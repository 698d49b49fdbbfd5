"""Why a Redis cannot be used, in one clear line. No state; nothing here holds a password or a URL."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Mapping
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from resender.errors import RedisDown

OLDEST = 7
# Further apart, something is wrong with one of the clocks.
CLOCK_OFF_MS = 1000
READ_ONLY = "is a read-only replica: REDIS_URL must name the primary"


def words_of(error: BaseException, limit_s: float) -> str:
    """Say what became of an attempt to speak to Redis. Shape: goes on after "Redis at HOST:PORT "."""
    cause: BaseException | None = error
    while cause is not None:
        if (found := _words_of_one(cause, limit_s)) is not None:
            return found
        cause = cause.__cause__ or cause.__context__
    return f"cannot be used: {type(error).__name__}"


def _words_of_one(error: BaseException, limit_s: float) -> str | None:
    if isinstance(error, RedisDown):
        return str(error)
    if isinstance(error, AuthenticationError | AuthorizationError):
        text = str(error)
        if "called without any password" in text:
            return "asks for no password, but REDIS_URL has one"
        if "required" in text or text.startswith("NOAUTH"):
            return "asks for a password; REDIS_URL needs one (redis://:password@host)"
        return "refuses the user or password of REDIS_URL"
    if isinstance(error, NoPermissionError):
        return f"does not let this user do what is needed: {_one_line(error)}"
    if isinstance(error, ReadOnlyError):
        return READ_ONLY
    if isinstance(error, BusyLoadingError):
        return "is still loading its data"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted: {getattr(error, 'verify_message', '')}"
    if isinstance(error, ssl.SSLError):
        return f"does not speak TLS as expected: {error.reason}"
    if isinstance(error, RedisTimeoutError | TimeoutError | asyncio.TimeoutError):
        return f"does not answer within {limit_s:g} s"
    if isinstance(error, ResponseError):
        return f"refuses a command: {_one_line(error)}"
    if isinstance(error, OSError):
        if error.errno in errno.errorcode:
            return f"cannot be reached: {os.strerror(error.errno or 0)}"
        if error.strerror:  # of a name that is not found
            return f"cannot be reached: {error.strerror}"
        if "Connect call failed" in str(error):  # a name with several addresses
            return f"cannot be reached: {os.strerror(errno.ECONNREFUSED)}"
    if isinstance(error, RedisError) and "closed" in str(error).lower():
        return "has closed the connection"
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def refusal(server: Mapping[str, Any], replication: Mapping[str, Any]) -> str | None:
    """Tell why a server that answers cannot be used. Shape: the sections of `INFO`."""
    version = str(server.get("redis_version", ""))
    first = version.partition(".")[0]
    if not first.isdigit() or int(first) < OLDEST:
        return f"is version {version or 'unknown'}: {OLDEST} or newer is needed"
    if str(server.get("redis_mode", "standalone")) == "cluster":
        return "is a Redis Cluster: one plain server is needed"
    if str(replication.get("role", "master")) != "master":
        return READ_ONLY
    return None


def clock_words(offset_ms: float) -> str | None:
    """Tell that the clocks are apart. Units: milliseconds, positive where Redis is ahead."""
    if abs(offset_ms) <= CLOCK_OFF_MS:
        return None
    word = "ahead of" if offset_ms > 0 else "behind"
    return f"has a clock {abs(offset_ms) / 1000:.1f} s {word} this machine's: one of them is wrong; let NTP set both"
