"""Every error of the gateway: the tree of exceptions and the table of our own answers.

It is not the place for Binance's errors: a Binance 4xx or 5xx is data and passes through.
It holds no state.

    ResenderError
    ├── ConfigError            a setting is wrong: the program exits with 2
    ├── StartError             the program cannot start and will not by itself: it exits with 2
    ├── StartLater             the program cannot start yet: it exits with 1
    ├── StoreError             the database cannot be used: exit with 1 at start, a metric while running
    │   └── StoreUnfit         it is not this program's, or newer: it exits with 2
    └── AnswerError            becomes one of our own answers, see ANSWERS
        ├── Forbidden          403  -1
        ├── UpstreamUnreachable 502 -2   nothing was sent
        ├── RouteError         404  -3 / MethodNotAllowed 405 -3
        ├── BadRequest         400  -4
        ├── BodyTooLarge       413  -5
        ├── UpstreamLost       502  -6   sent, outcome unknown
        ├── UpstreamTimeout    504  -7   sent, outcome unknown
        ├── Busy               503  -8
        ├── InternalError      500  -9
        ├── EgressAway         503  -15  the egress of a key is on a node that is not there, nothing was sent
        ├── NotReady           503  -10  a local endpoint that cannot answer yet
        ├── Unauthorized       401  -11  the admin API without a log-in
        ├── Denied             403  -12  logged in, but not allowed
        ├── Conflict           409  -13  there is such an entry already
        ├── TooManyLogins      429  -14  wait before the next try
        └── EgressExhausted    429 or 418, -1003  refused here for weight or a ban, nothing was sent
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ResenderError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(ResenderError):
    """A setting cannot be used; the text names it."""


class StartError(ResenderError):
    """The program cannot start for a reason outside its settings, such as a port in use."""


class StartLater(ResenderError):
    """The program cannot start now, but may later: an address that is not up yet."""


class RedisDown(ResenderError):
    """Redis does not answer: nothing is shared with other nodes now."""


class StoreError(ResenderError):
    """The database cannot be used; the text is one line for the user."""


class StoreUnfit(StoreError):
    """The database will never fit this program: newer, or somebody else's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the table of our own answers: HTTP status, `code` and `X-Resender-Error`."""

    status: int
    code: int
    name: str
    reason: str


# binance-interface (api/client.py) repeats a call up to 50 times, orders included, on the codes
# -1001 -1003 -1004 -1007 -1008 -1016, so no row may use one of them. The one exception is a call
# refused for weight or a ban before anything was sent: -1003 with Retry-After, which every client
# library understands and which is safe to repeat.
RETRIED_BY_CLIENTS = frozenset({-1001, -1003, -1004, -1007, -1008, -1016})

ANSWERS: dict[str, Answer] = {
    answer.name: answer
    for answer in (
        Answer(403, -1, "forbidden", "Forbidden"),
        Answer(502, -2, "unreachable", "Bad Gateway"),
        Answer(404, -3, "not_found", "Not Found"),
        Answer(405, -3, "method_not_allowed", "Method Not Allowed"),
        Answer(400, -4, "bad_request", "Bad Request"),
        Answer(413, -5, "too_large", "Content Too Large"),
        Answer(414, -5, "uri_too_long", "URI Too Long"),
        Answer(431, -5, "headers_too_large", "Request Header Fields Too Large"),
        Answer(502, -6, "lost", "Bad Gateway"),
        Answer(504, -7, "timeout", "Gateway Timeout"),
        Answer(503, -8, "busy", "Service Unavailable"),
        Answer(500, -9, "internal", "Internal Server Error"),
        Answer(503, -10, "not_ready", "Service Unavailable"),
        Answer(401, -11, "unauthorized", "Unauthorized"),
        Answer(403, -12, "denied", "Forbidden"),
        Answer(409, -13, "conflict", "Conflict"),
        Answer(429, -14, "too_many_logins", "Too Many Requests"),
        Answer(503, -15, "egress_away", "Service Unavailable"),
        Answer(429, -1003, "no_weight", "Too Many Requests"),
        Answer(418, -1003, "banned", "I'm a teapot"),
    )
}

OUTCOME_UNKNOWN = (
    "The execution status is unknown: check the order before you repeat the call, it may have been executed."
)


class AnswerError(ResenderError):
    """Becomes the answer `ANSWERS[name]` with `msg` as its text.

    Shape: `data` is what a program may want to know, such as the `field` of a form that is wrong.
    """

    name = "internal"

    def __init__(self, msg: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.data = dict(data or {})

    @property
    def answer(self) -> Answer:
        return ANSWERS[self.name]

    def body(self) -> bytes:
        return error_body(self.answer.code, self.msg, self.data)


class Forbidden(AnswerError):
    name = "forbidden"

    def __init__(self, ip: str) -> None:
        hint = f"Let it in on the server with the command `whitelist add {ip}`, or on the page Whitelist."
        if ip == "unknown":
            hint = "The trusted proxy in front names no readable address of the client."
        elif ip.startswith("127.") or ip == "::1":
            hint += " Behind a reverse proxy set TRUSTED_PROXIES instead."
        super().__init__(f"Forbidden IP: {ip}", {"hint": hint})


class UpstreamUnreachable(AnswerError):
    """DNS, TCP or TLS failed: nothing was sent."""

    name = "unreachable"


class RouteError(AnswerError):
    name = "not_found"


class MethodNotAllowed(AnswerError):
    """`allow` lists the methods there are, for the header of that name."""

    name = "method_not_allowed"

    def __init__(self, msg: str, allow: str = "GET, HEAD, POST, PUT, DELETE") -> None:
        super().__init__(msg)
        self.allow = allow


class BadRequest(AnswerError):
    name = "bad_request"


class BodyTooLarge(AnswerError):
    name = "too_large"


class UpstreamLost(AnswerError):
    """The connection ended after the request was sent and before an answer began."""

    name = "lost"


class UpstreamTimeout(AnswerError):
    """The request was sent and no answer came in time."""

    name = "timeout"


class Busy(AnswerError):
    """`retry_after_s` tells when trying again makes sense."""

    name = "busy"

    def __init__(self, msg: str, data: Mapping[str, Any] | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(msg, data)
        self.retry_after_s = retry_after_s


class NotReady(AnswerError):
    """A local endpoint cannot prove its answer yet; nothing is ever sent upstream for it."""

    name = "not_ready"


class Unauthorized(AnswerError):
    name = "unauthorized"

    def __init__(self, msg: str = "Log in first.", data: Mapping[str, Any] | None = None) -> None:
        super().__init__(msg, data)


class Denied(AnswerError):
    """Logged in, but this may not be done: foreign origin, read-only token, forced password change."""

    name = "denied"


class EgressAway(AnswerError):
    """The node whose egress an API key is bound to is not there: nothing was sent."""

    name = "egress_away"


class Conflict(AnswerError):
    name = "conflict"


class TooManyLogins(AnswerError):
    """`retry_after_s` tells when the next try will be looked at."""

    name = "too_many_logins"

    def __init__(self, retry_after_s: int) -> None:
        msg = f"Too many failed log-ins; try again in {retry_after_s} s."
        super().__init__(msg, {"reason": "throttled", "seconds": retry_after_s})
        self.retry_after_s = retry_after_s


class EgressExhausted(AnswerError):
    """Refused here before anything was sent: no weight left this minute, or a ban lasts.

    Shape: `msg` in Binance's wording; `retry_after_s` whole seconds, at least 1.
    """

    # It was one of the gateway's own reads, which may use less than the clients.
    is_own = False

    def __init__(self, msg: str, retry_after_s: int, *, is_ban: bool = False) -> None:
        super().__init__(msg)
        self.name = "banned" if is_ban else "no_weight"
        self.retry_after_s = retry_after_s


class InternalError(AnswerError):
    name = "internal"

    def __init__(self, msg: str = "Internal error of the gateway; its log tells more.") -> None:
        super().__init__(msg)


def error_body(code: int, msg: str, data: Mapping[str, Any] | None = None) -> bytes:
    """Build the one shape of our own answers.

    Shape: `{"code":-3,"msg":"...","data":{}}`, UTF-8.
    """
    return json.dumps(
        {"code": code, "msg": msg, "data": dict(data or {})}, ensure_ascii=False, separators=(",", ":")
    ).encode("utf-8", "backslashreplace")
