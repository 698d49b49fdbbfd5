"""Calls of the gateway's own paths: who may make them, by which method, and how the answer is written."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resender.market import Hit, Pieces
from resender.web.client import local_calls as module
from tests.unit.web.client.test_request import Asked
from tests.unit.web.serving import FakeConnection, make_services

LISTED = b'{"symbols":["BTCUSDT"],"interval":"1m"}'


class Pieced(FakeConnection):
    """A connection that is written to piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> Any:
        self.written.append(data)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


# --- admission ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "method"),
    [
        ("/local/status", "GET"),
        ("/local/um/klines?symbol=BTCUSDT&interval=1m", "GET"),
        ("/local/um/klines", "POST"),
        ("/local/um/klines", "PUT"),
        ("/local/nowhere", "GET"),
    ],
)
async def test_stranger_gets_nothing_of_the_gateways_own_paths(target: str, method: str) -> None:
    asked = Asked(target, method, ip="192.0.2.9")
    assert (asked.connection.status, asked.error) == (403, "forbidden")
    assert len(asked.services.calls.tasks) == asked.services.calls.in_flight == 0
    assert [row.address for row in asked.services.access.refused.items()] == ["192.0.2.9"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    ("target", "allow"),
    [
        ("/local/um/klines", "GET, POST"),
        ("/local/spot/klines?symbol=BTCUSDT", "GET, POST"),
        ("/local/um/bookTicker", "GET"),
        ("/local/status?path=/klines", "GET"),
    ],
)
async def test_method_a_local_path_does_not_take_is_refused_with_those_it_takes(
    method: str, target: str, allow: str
) -> None:
    asked = Asked(target, method)
    assert (asked.connection.status, asked.error) == (405, "method_not_allowed")
    assert asked.connection.headers["Allow"] == allow
    assert len(asked.services.calls.tasks) == 0


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["?symbol=BTCUSDT", "?limit=5&interval=1m", "?closed=true"])
async def test_local_post_has_its_parameters_in_the_body_alone(query: str) -> None:
    services = make_services(cache=SimpleNamespace(states={}))
    asked = Asked(f"/local/um/klines{query}", "POST", LISTED, services=services)
    await services.calls.tasks.join(1)
    assert (asked.connection.status, asked.error) == (400, "bad_request")
    assert "none in the query" in asked.msg
    assert services.calls.in_flight == 0


@pytest.mark.parametrize(
    ("method", "body", "posted"),
    [("GET", b"", None), ("GET", b"x", None), ("POST", b"", b""), ("POST", LISTED, LISTED)],
)
async def test_local_call_is_answered_by_its_path_query_and_posted_body(
    monkeypatch: pytest.MonkeyPatch, method: str, body: bytes, posted: bytes | None
) -> None:
    given: list[Any] = []

    async def answer(services: Any, path: str, query: str, *, packed: bool, body: bytes | None) -> Any:
        given.append((path, query, packed, body))
        return Hit(b"[1]", None, 5), [("X-Resender-Close", "7")]

    monkeypatch.setattr(module, "answer_local", answer)
    asked = Asked("/local/um/klines?a=b", method, body, Accept_Encoding="gzip")
    await asked.services.calls.tasks.join(1)
    assert given == [("/local/um/klines", "a=b", True, posted)]
    head, _, sent = asked.connection.raw.partition(b"\r\n\r\n")
    assert sent == b"[1]"
    assert b"\r\nX-Resender-Close: 7\r\n" in head
    assert asked.services.calls.in_flight == 0


async def test_large_answer_of_a_local_path_is_written_piece_by_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b"x" * 1_000_000

    async def answer(*args: Any, **options: Any) -> Any:
        extra = [("X-Resender-Symbols", "A"), ("X-Resender-Symbols", "B")]
        return Hit(b"", None, 5, Pieces([body]), content_type="application/octet-stream"), extra

    monkeypatch.setattr(module, "answer_local", answer)
    asked = Asked("/local/um/klines", is_whole=False)
    connection = Pieced()
    asked.delegate.connection = cast(Any, connection)
    asked.delegate.finish()
    await asked.services.calls.tasks.join(1)
    head, *pieces = connection.written
    assert b"\r\nContent-Length: 1000000\r\n" in head
    assert b"\r\nContent-Type: application/octet-stream\r\n" in head
    assert head.count(b"\r\nX-Resender-Symbols: ") == 2
    assert len(pieces) > 5
    assert b"".join(pieces) == body
    assert connection.is_finished
    assert asked.services.metrics.tally.calls == 1
