"""Signed calls: answered out of an account's memory, or watched on their way without a change."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders

from resender.account import Answer, Lacking
from resender.core.binance.markets import Market
from resender.core.binance.routing import resolve
from resender.core.market.requests import Miss
from resender.errors import BadRequest, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.market import Hit
from resender.web.client.overheard import Overheard
from resender.web.client.signed_calls import SignedCalls

ORDERS = "/api/v3/openOrders?timestamp=1&signature=aa"
KEYED = {"X-MBX-APIKEY": "key"}


class FakePassing:
    def __init__(self, *, wants_body: bool = True) -> None:
        self.wants_body = wants_body
        self.told: list[Any] = []

    def wants(self, status: int) -> bool:
        return self.wants_body or status in (400, 401)

    def answered(self, status: int, body: bytes) -> None:
        self.told.append((status, body))

    def unanswered(self, *, is_sent: bool) -> None:
        self.told.append(is_sent)


class FakeAccounts:
    def __init__(self, found: Any = None, passing: FakePassing | None = None) -> None:
        self.found = found
        self.passing = passing
        self.asked: list[tuple[Any, ...]] = []
        self.watched: list[tuple[Any, ...]] = []

    def ask(self, *call: Any) -> Any:
        self.asked.append(call)
        return self.found

    def watch(self, *call: Any) -> Any:
        self.watched.append(call)
        return self.passing


class Response:
    """An upstream's answer in one piece."""

    def __init__(self, status: int = 200, body: bytes = b"[]") -> None:
        self.status = status
        self.reason = "Fine"
        self.headers = ((b"Content-Type", b"application/json"),)
        self.egress, self.kind, self.age_ms = "hk", "", 0
        self.told: list[tuple[str, str]] = []
        self.body = body

    async def next_chunk(self) -> bytes:
        body, self.body = self.body, b""
        return body

    def at_end(self) -> bool:
        return not self.body

    def close(self) -> None: ...


def call_of(
    accounts: FakeAccounts, target: str = ORDERS, method: str = "GET", body: bytes = b"", **headers: str
) -> Any:
    call: Any = SignedCalls.__new__(SignedCalls)
    call.services = SimpleNamespace(accounts=accounts)
    call.route = resolve(target)
    call.method, call.body, call.ip = method, body, "127.0.0.1"
    call.headers = HTTPHeaders(
        {**KEYED, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )
    call.miss, call.outcome, call.hits = None, None, []
    call._write_hit = call.hits.append
    return call


# --- answers out of memory ------------------------------------------------------------------------


def test_answer_that_is_there_is_written_at_once() -> None:
    accounts = FakeAccounts(Answer(b"[7]", 40))
    call = call_of(accounts)
    assert call._answer_from_account()
    assert call.hits == [Hit(b"[7]", None, 40)]
    assert accounts.asked == [
        (Market.SPOT, "/api/v3/openOrders", "timestamp=1&signature=aa", "key", "127.0.0.1")
    ]


def test_why_there_is_no_answer_is_remembered() -> None:
    call = call_of(FakeAccounts(Lacking("stream silent")))
    assert not call._answer_from_account()
    assert (call.hits, call.miss, call.outcome) == ([], "stream silent", None)
    nobody = call_of(FakeAccounts(None))
    assert not nobody._answer_from_account()
    assert (nobody.miss, nobody.outcome) == (None, None)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (Answer(b"[7]", 5), Hit(b"[7]", None, 5)),
        (Lacking("own order not told yet"), Miss("own order not told yet")),
    ],
)
async def test_answer_that_may_come_is_an_outcome_to_wait_for(found: Any, outcome: Any) -> None:
    async def come() -> Any:
        await asyncio.sleep(0)
        return found

    call = call_of(FakeAccounts(come()))
    assert not call._answer_from_account()
    assert call.hits == []
    assert await call.outcome == outcome


@pytest.mark.parametrize(
    "call",
    [
        {"method": "POST"},
        {"method": "DELETE"},
        {"body": b"symbol=BTCUSDT"},
        {"Cache_Control": "no-cache"},
        {"X_MBX_TIME_UNIT": "MICROSECOND"},
        {"Accept": "application/sbe"},
    ],
)
def test_call_that_wants_binances_own_word_is_not_asked_for(call: dict[str, Any]) -> None:
    accounts = FakeAccounts(Answer(b"[]", 0))
    assert not call_of(accounts, **call)._answer_from_account()
    assert accounts.asked == []


def test_call_without_a_key_or_a_route_is_no_accounts() -> None:
    accounts = FakeAccounts(Answer(b"[]", 0))
    call = call_of(accounts)
    del call.headers["X-MBX-APIKEY"]
    assert not call._answer_from_account()
    call._watch_call(call.route, ORDERS)
    lost = call_of(accounts)
    lost.route = None
    assert not lost._answer_from_account()
    assert accounts.asked == accounts.watched == []


# --- learning from what passes --------------------------------------------------------------------


def test_call_is_watched_as_it_is_sent() -> None:
    accounts = FakeAccounts(passing=FakePassing())
    call = call_of(accounts, "/api/v3/order", "POST", b"side=BUY")
    call._watch_call(call.route, "/api/v3/order?symbol=A%20B")
    assert accounts.watched == [
        (Market.SPOT, "POST", "/api/v3/order", "symbol=A%20B", b"side=BUY", "key", "127.0.0.1")
    ]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [("gzip, deflate, br", "gzip"), ("br, GZIP;q=0.5", "gzip"), ("br", "identity"), ("identity", "identity")],
)
def test_only_packing_that_can_be_read_is_asked_for(wanted: str, sent: str) -> None:
    call = call_of(FakeAccounts())
    headers = [("Accept", "*/*"), ("accept-Encoding", wanted)]
    assert call._readable(headers) == headers, "nobody listens"
    call._passing = FakePassing(wants_body=False)
    assert call._readable(headers) == headers, "nobody wants the body"
    call._passing = FakePassing()
    assert call._readable(headers) == [("Accept", "*/*"), ("accept-Encoding", sent)]


async def test_account_has_the_body_before_the_client_has_it() -> None:
    call = call_of(FakeAccounts())
    call._passing = passing = FakePassing()
    heard = call._overhear(cast(Any, Response(400, b'{"code":-2010}')))
    assert isinstance(heard, Overheard)
    assert passing.told == []
    assert await heard.next_chunk() == b'{"code":-2010}'
    assert passing.told == [(400, b'{"code":-2010}')]


async def test_answer_that_breaks_off_is_an_unknown_outcome() -> None:
    call = call_of(FakeAccounts())
    call._passing = passing = FakePassing()
    call._overhear(cast(Any, Response())).close()
    assert passing.told == [True]


def test_answer_whose_body_nobody_wants_is_the_same_object() -> None:
    call = call_of(FakeAccounts())
    response = cast(Any, Response())
    assert call._overhear(response) is response
    call._passing = passing = FakePassing(wants_body=False)
    assert call._overhear(response) is response
    assert passing.told == [(200, b"")]


@pytest.mark.parametrize(
    ("error", "is_sent"),
    [
        (None, True),
        (UpstreamLost("gone"), True),
        (UpstreamTimeout("late"), True),
        (UpstreamUnreachable("no way"), False),
        (BadRequest("no"), False),
    ],
)
def test_call_without_an_answer_may_have_been_sent_or_not(error: Any, is_sent: bool) -> None:
    call = call_of(FakeAccounts())
    call._note_no_answer(error)
    call._passing = passing = FakePassing()
    call._note_no_answer(error)
    assert passing.told == [is_sent]
