"""The answer that is written in one piece: which ones are, and the bytes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders

from resender.core.binance.headers import Pairs
from resender.core.binance.routing import resolve
from resender.web.answers import WireHeaders
from resender.web.client.relay import AnswerRelay
from tests.unit.web.serving import make_services

PLAIN: Pairs = [("x-mbx-used-weight-1m", "7"), ("Content-Length", "2")]


class Connection:
    """Remembers what is written."""

    keep_alive = "timeout=9"

    def __init__(self, is_kept: bool = True) -> None:
        self.written = b""
        self.is_finished = False
        self.is_kept = is_kept

    def write(self, data: bytes) -> None:
        self.written += data

    def finish(self) -> None:
        self.is_finished = True


def write(pairs: Pairs, *, reason: str = "OK", is_end: bool = True, **client: Any) -> tuple[bool, Connection]:
    connection = Connection(client.get("is_kept", True))
    relay = AnswerRelay(cast(Any, None), cast(Any, connection))
    relay.version = client.get("version", "HTTP/1.1")
    relay.headers = HTTPHeaders()
    relay.is_gone = client.get("is_gone", False)
    response = cast(Any, SimpleNamespace(status=200, reason=reason, at_end=lambda: is_end))
    return relay._write_whole(response, WireHeaders(list(pairs)), b"{}"), connection


def test_whole_answer_is_written_as_it_came() -> None:
    is_written, connection = write(PLAIN)
    assert is_written
    assert connection.written == (
        b"HTTP/1.1 200 OK\r\nx-mbx-used-weight-1m: 7\r\nContent-Length: 2\r\nKeep-Alive: timeout=9\r\n\r\n{}"
    )
    assert connection.is_finished


@pytest.mark.parametrize("evil", ["a\nSet-Cookie: x=1", "a\rb", "a\r\nb", "a\0b"])
@pytest.mark.parametrize("place", [0, 1])
def test_line_breaks_and_nul_in_a_header_are_never_written_past_tornado(evil: str, place: int) -> None:
    pair = ("x", evil) if place else (evil, "x")
    is_written, connection = write([*PLAIN, pair])
    assert not is_written
    assert connection.written == b""
    assert not connection.is_finished


@pytest.mark.parametrize(
    "odd",
    [
        {"is_end": False},
        {"reason": "höchst"},
        {"version": "HTTP/1.0"},
        {"is_kept": False},
        {"is_gone": True},
    ],
)
def test_what_is_no_ordinary_whole_answer_goes_the_long_way(odd: dict[str, Any]) -> None:
    is_written, connection = write(PLAIN, **odd)
    assert not is_written
    assert connection.written == b""


@pytest.mark.parametrize("length", ["1", "3", "02", "2, 2"])
def test_length_that_does_not_fit_the_body_is_not_written_as_whole(length: str) -> None:
    assert not write([("Content-Length", length)])[0]


@pytest.mark.parametrize(
    ("kind", "saved"),
    [("shared", {("spot", "shared"): 20}), ("joined", {}), ("", {})],
)
def test_answer_that_is_remembered_saves_the_weight_of_the_call(kind: str, saved: dict[Any, int]) -> None:
    services = make_services()
    relay = AnswerRelay(services, cast(Any, Connection()))
    relay.route = resolve("/api/v3/exchangeInfo")
    relay.miss = "gap"
    pairs: Pairs = []
    response = cast(Any, SimpleNamespace(status=200, kind=kind, age_ms=1234, egress="default", told=[]))
    relay._note(response, pairs)
    assert services.savings.total == saved
    told = [("X-Resender-Cache", kind or "miss; gap"), ("X-Resender-Egress", "default")]
    if kind == "shared":
        told.insert(1, ("X-Resender-Age", "1234"))
    assert pairs == told
