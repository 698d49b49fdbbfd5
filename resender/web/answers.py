"""Writing our own answers and finding a client's address, for the hot path and the handlers.

It decides nothing. It holds no state.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from tornado import httputil

from resender.errors import AnswerError, EgressExhausted, MethodNotAllowed, TooManyLogins
from resender.gateway import Gateway

ERROR_HEADER = "X-Resender-Error"
JSON_TYPE = "application/json"


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
    if answer.name in ("busy", "not_ready"):
        headers["Retry-After"] = "1"
    elif isinstance(error, (EgressExhausted, TooManyLogins)):
        headers["Retry-After"] = str(error.retry_after_s)
    if close:
        headers["Connection"] = "close"
    start = httputil.ResponseStartLine("HTTP/1.1", answer.status, answer.reason)
    is_head = getattr(connection, "_request_start_line").method == "HEAD"  # noqa: B009
    connection.write_headers(start, headers, b"" if is_head else body)
    connection.finish()
    return 0 if is_head else len(body)


def client_ip(gateway: Gateway, connection: Any, headers: httputil.HTTPHeaders) -> str:
    """Find the address of the client behind a Tornado connection."""
    peer = str(connection.context.remote_ip)
    if not gateway.proxies:
        # Nobody's header is believed: the usual case, kept short.
        return _plain(peer)
    return gateway.client_ip(peer, headers.get_list("X-Forwarded-For"), headers.get_list("X-Real-Ip"))


def _plain(peer: str) -> str:
    if peer.startswith("::ffff:") and "." in peer:
        return peer[7:]
    return peer.partition("%")[0] if "%" in peer else peer
