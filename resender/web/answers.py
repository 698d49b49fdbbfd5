"""Writing our own answers, names of headers, a client's address: for the hot path and the handlers.

It decides nothing. It holds no state.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from tornado import httputil

from resender.core.binance.headers import Pairs
from resender.errors import AnswerError, MethodNotAllowed
from resender.services import Services

ERROR_HEADER = "X-Resender-Error"
CACHE_HEADER = "X-Resender-Cache"
AGE_HEADER = "X-Resender-Age"
MISSING_HEADER = "X-Resender-Missing"
EGRESS_HEADER = "X-Resender-Egress"
CLOSE_HEADER = "X-Resender-Close"
PENDING_HEADER = "X-Resender-Pending"
SYMBOLS_HEADER = "X-Resender-Symbols"
JSON_TYPE = "application/json"
# What Binance sends with every JSON answer, and what an array of numbers has.
JSON_ANSWER = "application/json;charset=UTF-8"
NPY_ANSWER = "application/octet-stream"


def retry_after_s(error: AnswerError) -> int | None:
    """Return after how many seconds trying again makes sense, None where nobody can tell."""
    if error.answer.name == "not_ready":
        return 1
    wait_s: int | None = getattr(error, "retry_after_s", None)
    return wait_s


def write_error(connection: httputil.HTTPConnection, error: AnswerError, *, close: bool = False) -> int:
    """Write one of our own answers and finish it; return the bytes of its body."""
    answer = error.answer
    body = error.body()
    headers = httputil.HTTPHeaders()
    headers["Content-Type"] = JSON_TYPE
    headers[ERROR_HEADER] = answer.name
    headers["Date"] = formatdate(usegmt=True)
    headers["Content-Length"] = str(len(body))
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allow
    if (wait_s := retry_after_s(error)) is not None:
        headers["Retry-After"] = str(wait_s)
    if close:
        headers["Connection"] = "close"
    start = httputil.ResponseStartLine("HTTP/1.1", answer.status, answer.reason)
    is_head = getattr(connection, "_request_start_line").method == "HEAD"  # noqa: B009
    connection.write_headers(start, headers, b"" if is_head else body)
    connection.finish()
    return 0 if is_head else len(body)


def client_ip(services: Services, connection: Any, headers: httputil.HTTPHeaders) -> str:
    """Find the address of the client behind a Tornado connection."""
    peer = str(connection.context.remote_ip)
    if not services.access.proxies:
        # Nobody's header is believed: the usual case, kept short.
        return _plain(peer)
    return services.access.proxies.client_ip(
        peer, headers.get_list("X-Forwarded-For"), headers.get_list("X-Real-Ip")
    )


def _plain(peer: str) -> str:
    if peer.startswith("::ffff:") and "." in peer:
        return peer[7:]
    return peer.partition("%")[0] if "%" in peer else peer


class WireHeaders:
    """Response headers as pairs, with the part of the HTTPHeaders interface Tornado writes from.

    Unlike HTTPHeaders it keeps the upstream's spelling of names.
    """

    __slots__ = ("length", "pairs")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.length: str | None = None
        for name, value in pairs:
            if name.lower() == "content-length":
                self.length = value

    def __contains__(self, name: str) -> bool:
        return name == "Content-Length" and self.length is not None

    def __getitem__(self, name: str) -> str:
        if name == "Content-Length" and self.length is not None:
            return self.length
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        self.pairs.append((name, value))
        if name == "Content-Length":
            self.length = value

    def get_all(self) -> Pairs:
        return self.pairs
