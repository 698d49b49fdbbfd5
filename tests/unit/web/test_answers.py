"""Our own answers as they are written, and the address of a client."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders

from resender.errors import (
    AnswerError,
    BadRequest,
    Busy,
    EgressExhausted,
    MethodNotAllowed,
    NotReady,
    TooManyLogins,
)
from resender.web.answers import WireHeaders, client_ip, write_error
from tests.unit.web.serving import FakeConnection, make_services


def written(error: AnswerError, method: str = "GET", **options: bool) -> FakeConnection:
    connection = FakeConnection(method)
    count = write_error(cast(Any, connection), error, **options)
    assert connection.is_finished
    assert count == len(connection.body)
    return connection


def test_answer_has_the_one_shape_and_names_its_error() -> None:
    connection = written(BadRequest("Wrong.", {"field": "x"}))
    assert connection.status == 400
    assert json.loads(connection.body) == {"code": -4, "msg": "Wrong.", "data": {"field": "x"}}
    assert connection.headers["Content-Type"] == "application/json"
    assert connection.headers["X-Resender-Error"] == "bad_request"
    assert connection.headers["Content-Length"] == str(len(connection.body))
    assert connection.headers["Date"].endswith(" GMT")
    assert "Connection" not in connection.headers
    assert "Retry-After" not in connection.headers


def test_answer_to_head_has_the_length_of_its_body_and_no_body() -> None:
    connection = written(BadRequest("Wrong."), "HEAD")
    assert connection.body == b""
    assert connection.headers["Content-Length"] == str(len(BadRequest("Wrong.").body()))


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Busy("x"), "1"),
        (NotReady("x"), "1"),
        (EgressExhausted("x", 17), "17"),
        (EgressExhausted("x", 99, is_ban=True), "99"),
        (TooManyLogins(5), "5"),
    ],
)
def test_answer_that_will_change_says_when(error: AnswerError, wait: str) -> None:
    assert written(error).headers["Retry-After"] == wait


def test_method_that_is_not_allowed_comes_with_those_that_are() -> None:
    assert written(MethodNotAllowed("x", "GET")).headers["Allow"] == "GET"


def test_connection_that_ends_is_announced() -> None:
    assert written(Busy("x"), close=True).headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_address_of_the_peer_is_the_client_and_its_headers_are_not_believed(peer: str, ip: str) -> None:
    headers = HTTPHeaders({"X-Forwarded-For": "10.0.0.1", "X-Real-Ip": "10.0.0.1"})
    assert client_ip(make_services(), FakeConnection(ip=peer), headers) == ip


def test_trusted_proxy_speaks_for_its_client() -> None:
    services = make_services(trusted_proxies=("127.0.0.1",))
    headers = HTTPHeaders({"X-Forwarded-For": "192.0.2.9"})
    assert client_ip(services, FakeConnection(), headers) == "192.0.2.9"
    assert client_ip(services, FakeConnection(ip="192.0.2.3"), headers) == "192.0.2.3"


def test_headers_of_an_upstream_keep_their_spelling_order_and_repetitions() -> None:
    pairs = [("x-MBX-a", "1"), ("CONTENT-length", "5"), ("x-MBX-a", "2")]
    headers = WireHeaders(list(pairs))
    assert "Content-Length" in headers
    assert headers["Content-Length"] == "5"
    assert headers.get_all() == pairs
    assert "x-MBX-a" not in headers, "Tornado asks for no other"
    with pytest.raises(KeyError):
        headers["Connection"]


def test_length_that_is_set_is_known_from_then_on() -> None:
    headers = WireHeaders([("a", "b")])
    assert "Content-Length" not in headers
    headers["Content-Length"] = "2"
    headers["Keep-Alive"] = "timeout=1"
    assert headers.length == "2"
    assert headers.get_all() == [("a", "b"), ("Content-Length", "2"), ("Keep-Alive", "timeout=1")]
