"""One client's call before it is sent: who is admitted, what is refused, and when the answer to that comes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders, RequestStartLine

from resender.core.binance.markets import Market
from resender.core.market.requests import Miss
from resender.errors import BodyTooLarge, EgressExhausted, Forbidden
from resender.market import Hit, Wanting
from resender.upstream import Call
from resender.upstream.shared_answers import SharedAnswers
from resender.web.client.request import RequestDelegate, has_page
from resender.web.connection import declared_length
from tests.unit.web.client.test_cached import FakeCache
from tests.unit.web.serving import FakeConnection, make_services

KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m"


class Inner:
    """The Tornado application's part of a request."""

    def __init__(self) -> None:
        self.data = b""
        self.calls: list[str] = []

    def start_request(self, server: object, connection: object) -> Inner:
        return self

    def headers_received(self, start: Any, headers: Any) -> None:
        self.calls.append("headers")

    def data_received(self, chunk: bytes) -> None:
        self.data += chunk

    def finish(self) -> None:
        self.calls.append("finish")

    def on_connection_close(self) -> None:
        self.calls.append("gone")


class Asked:
    """One request, as Tornado would hand it over."""

    def __init__(
        self, target: str = KLINES, method: str = "GET", body: bytes = b"", *, services: Any = None,
        ip: str = "127.0.0.1", is_whole: bool = True, **headers: str,
    ) -> None:  # fmt: skip
        self.services = services or make_services()
        self.connection = FakeConnection(method, ip)
        self.inner = Inner()
        self.delegate = RequestDelegate(
            self.services, cast(Any, self.inner), object(), cast(Any, self.connection)
        )
        self.sent: list[str] = []
        self.delegate._forward = self._forward  # type: ignore[method-assign]
        given = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
        if body:
            given["Content-Length"] = str(len(body))
        self.delegate.headers_received(RequestStartLine(method, target, "HTTP/1.1"), given)
        if is_whole and not self.connection.is_finished:
            if body:
                self.delegate.data_received(body)
            self.delegate.finish()

    async def _forward(self, target: str) -> None:
        self.sent.append(target)

    @property
    def error(self) -> str:
        return self.connection.headers.get("X-Resender-Error", "")

    @property
    def msg(self) -> str:
        return json.loads(self.connection.body)["msg"]


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "is_page"),
    [
        ("/", True), ("/healthz", True), ("/metrics", True), ("/admin", True), ("/admin/x", True),
        ("/administration", False), ("/healthz/", False), ("/api/v3/time", False), ("/local/status", False),
    ],
)  # fmt: skip
def test_only_pages_leave_the_hot_path(path: str, is_page: bool) -> None:
    assert has_page(path) is is_page


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("007", 7), ("", 0), ("x", 0), ("9" * 18, 10**18 - 1), ("9" * 5000, 1 << 62)],
)
def test_announced_length_is_read_whatever_it_is(text: str, length: int) -> None:
    assert declared_length(HTTPHeaders({"Content-Length": text})) == length


# --- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "method", "is_finished"),
    [
        (KLINES, "GET", False),
        ("/api/v3/order", "POST", True),
        ("/api/v3/order", "DELETE", True),
        ("/local/um/klines", "POST", False),
    ],
)
async def test_only_a_call_that_may_trade_is_finished_for_a_client_that_left(
    target: str, method: str, is_finished: bool
) -> None:
    asked = Asked(target, method, b"{}" if method == "POST" else b"", is_whole=False)
    asked.services.dispatch.shared_answers = SharedAnswers(time.monotonic)
    ended: list[bool] = []

    async def work(target: str) -> None:
        try:
            await asyncio.sleep(0.02)
            ended.append(True)
        except asyncio.CancelledError:
            ended.append(False)

    asked.delegate._forward = asked.delegate._serve_local = work  # type: ignore[method-assign]
    if method == "POST":
        asked.delegate.data_received(b"{}")
    asked.delegate.finish()
    await asyncio.sleep(0)
    asked.delegate._client_gone()
    await asked.services.calls.tasks.join(1)
    assert ended == [is_finished]


# --- admission ------------------------------------------------------------------------------------


async def test_call_of_a_known_address_is_sent_with_its_target_as_it_is() -> None:
    asked = Asked("/api/api/v3/order?x=%2C&y=~", "POST")
    await asked.services.calls.tasks.join(1)
    assert asked.sent == ["/api/v3/order?x=%2C&y=~"]
    assert asked.error == ""
    assert asked.services.calls.in_flight == 1


async def test_stranger_is_refused_by_headers_alone_and_noted_without_his_query() -> None:
    asked = Asked("/api/v3/time?signature=secret", ip="192.0.2.9")
    assert (asked.connection.status, asked.error) == (403, "forbidden")
    (row,) = asked.services.access.refused.items()
    assert (row.address, row.path, row.count) == ("192.0.2.9", "/api/v3/time", 1)
    assert asked.services.metrics.tally.errors == 1


@pytest.mark.parametrize(
    ("target", "method", "error"),
    [
        ("/nowhere/v3/time", "GET", "not_found"),
        ("http://api.binance.com/api/v3/time", "GET", "bad_request"),
        ("/api/v3/../time", "GET", "bad_request"),
        ("/api/v3/time", "BREW", "method_not_allowed"),
        ("/api/v3/time", "OPTIONS", "method_not_allowed"),
        ("/local/status", "POST", "method_not_allowed"),
    ],
)
async def test_call_that_goes_nowhere_is_refused(target: str, method: str, error: str) -> None:
    asked = Asked(target, method)
    assert asked.error == error
    assert asked.sent == []


@pytest.mark.parametrize(("size", "is_refused"), [(10, False), (11, True), (1 << 70, True)])
async def test_body_over_the_limit_that_is_announced_is_refused_by_its_headers_alone(
    size: int, is_refused: bool
) -> None:
    services = make_services(max_body_bytes=10)
    asked = Asked("/api/v3/order", "POST", services=services, is_whole=False, Content_Length=str(size))
    assert isinstance(asked.delegate.error, BodyTooLarge) is is_refused
    # What is worth reading is thrown away before the answer, so that the client gets to read that.
    assert asked.connection.is_finished is (size > 1 << 24)
    asked.delegate.data_received(b"x" * 10)
    assert asked.delegate.body == (b"" if is_refused else b"x" * 10)


async def test_client_that_asks_first_is_told_at_once_that_its_body_is_too_large() -> None:
    asked = Asked(
        "/api/v3/order", "POST", services=make_services(max_body_bytes=10), is_whole=False,
        Content_Length="11", Expect="100-continue",
    )  # fmt: skip
    assert (asked.connection.status, asked.error) == (413, "too_large")
    assert asked.connection.headers["Connection"] == "close"


async def test_body_over_the_limit_is_refused_even_if_its_length_was_not_announced() -> None:
    services = make_services(max_body_bytes=10)
    asked = Asked("/api/v3/order", "POST", b"x" * 11, services=services)
    assert (asked.connection.status, asked.msg) == (413, "The body is larger than 10 bytes.")


async def test_body_that_grows_over_the_limit_is_thrown_away() -> None:
    asked = Asked("/api/v3/order", "POST", services=make_services(max_body_bytes=10), is_whole=False)
    for _ in range(3):
        asked.delegate.data_received(b"xxxx")
    assert asked.delegate.body == b""
    asked.delegate.finish()
    assert asked.error == "too_large"


@pytest.mark.parametrize(
    ("headers", "is_early"),
    [
        ({"Content_Length": "100"}, False),
        ({"Content_Length": "100", "Expect": "100-continue"}, True),
        ({"Content_Length": str(1 << 20)}, True),
    ],
)
async def test_refused_stranger_may_send_a_small_body_before_he_gets_his_answer(
    headers: dict[str, str], is_early: bool
) -> None:
    asked = Asked("/api/v3/order", "POST", ip="192.0.2.9", is_whole=False, **headers)
    assert asked.connection.is_finished is is_early
    if is_early:
        assert asked.connection.headers["Connection"] == "close"
    else:
        assert isinstance(asked.delegate.error, Forbidden)


async def test_refused_body_that_never_ends_is_answered_in_the_end() -> None:
    asked = Asked("/nowhere", "POST", is_whole=False, Transfer_Encoding="chunked")
    for _ in range(17):
        asked.delegate.data_received(b"x" * (1 << 20))
        if asked.connection.is_finished:
            break
    assert asked.connection.headers["Connection"] == "close"


async def test_raw_bytes_are_encoded_unless_the_call_is_signed() -> None:
    asked = Asked("/api/v3/klines?symbol=\xe5\xb8\x81USDT")
    await asked.services.calls.tasks.join(1)
    assert asked.sent == ["/api/v3/klines?symbol=%E5%B8%81USDT"]
    signed = Asked("/api/v3/order?symbol=\xe5\xb8\x81USDT&signature=ab", "POST")
    assert signed.error == "bad_request"
    assert "before you sign" in signed.msg


async def test_gateway_that_stops_or_is_full_takes_no_call() -> None:
    stopping = make_services()
    stopping.calls.is_open = False
    asked = Asked(services=stopping)
    assert (asked.error, asked.connection.headers["Connection"]) == ("busy", "close")
    full = make_services(max_in_flight=1)
    full.calls.in_flight = 1
    asked = Asked(services=full)
    assert (asked.error, asked.sent) == ("busy", [])
    assert "Connection" not in asked.connection.headers
    assert full.calls.in_flight == 1


# --- sending ---------------------------------------------------------------------------------------


async def sent_so(
    target: str,
    method: str = "GET",
    body: bytes = b"",
    *,
    consent: dict[str, int] | None = None,
    **headers: str,
) -> tuple[Call, Any, dict[str, Any]]:
    """Return a call as it is sent, with which others it may share an answer, and how old that may be."""
    found: list[tuple[Call, Any, dict[str, Any]]] = []

    async def send(call: Call, key: Any, **options: Any) -> Any:
        found.append((call, key, options))
        raise EgressExhausted("no weight", 1)

    asked = Asked(target, method, is_whole=False, **headers)
    asked.services.consent = consent or {}
    asked.services.dispatch.send = send
    del asked.delegate._forward  # the real one
    if body:
        asked.delegate.data_received(body)
    asked.delegate.finish()
    await asked.services.calls.tasks.join(1)
    assert asked.error == "no_weight"
    return found[0]


async def sent(target: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[Call, Any]:
    """Return a call as it is sent, and with which others it may share an answer."""
    call, key, options = await sent_so(target, method, body, **headers)
    assert options == {"is_fresh": False, "max_age_s": None}, "nobody has said anything of an age"
    return call, key


PRICE = "/api/v3/ticker/price?symbol=BTCUSDT"
ACCOUNT = "/api/v3/account?timestamp=1"


async def test_public_call_is_shared_with_equal_ones_whoever_makes_them() -> None:
    call, key = await sent(PRICE)
    assert call.key is None
    assert key is not None
    assert (await sent(PRICE, User_Agent="another"))[1] == key
    assert (await sent(PRICE + "&x=1"))[1] != key


@pytest.mark.parametrize(
    ("target", "method", "body", "headers", "used"),
    [
        (f"{ACCOUNT}&signature=ab", "GET", b"", {}, ""),
        ("/api/v3/account?signature=ab&timestamp=1", "GET", b"", {}, ""),
        (ACCOUNT, "GET", b"x=1&signature=ab", {}, ""),
        (ACCOUNT, "GET", b"", {"X_MBX_APIKEY": "somebody"}, "somebody"),
        (ACCOUNT, "GET", b"", {"X_MBX_APIKEY": ""}, ""),
        (f"{ACCOUNT}&signature=ab", "GET", b"", {"X_MBX_APIKEY": "somebody"}, "somebody"),
        (PRICE, "GET", b"x=1", {}, None),
        (PRICE, "HEAD", b"", {}, None),
        ("/api/v3/order?symbol=BTCUSDT", "POST", b"", {}, None),
        ("/api/v3/order?symbol=BTCUSDT", "POST", b"signature=ab", {}, ""),
        ("/api/v3/order?symbol=BTCUSDT", "DELETE", b"", {}, None),
    ],
)
async def test_call_with_somebodys_key_signature_or_body_is_its_own(
    target: str, method: str, body: bytes, headers: dict[str, str], used: str | None
) -> None:
    call, key = await sent(target, method, body, **headers)
    assert (call.target, call.method, call.body, call.key, call.client) == (
        target,
        method,
        body,
        used,
        "127.0.0.1",
    )
    assert key is None


INFO = "/api/v3/exchangeInfo"
DAY = "/fapi/v1/ticker/24hr?symbol=BTCUSDT"


@pytest.mark.parametrize(
    ("target", "headers", "is_fresh", "max_age_s"),
    [
        (PRICE, {}, False, 1.5),
        (DAY, {}, False, None),
        (DAY, {"Cache_Control": "max-age=3"}, False, 3.0),
        (PRICE, {"Cache_Control": "max-age=3"}, False, 3.0),
        (PRICE, {"Cache_Control": "max-age=0"}, True, None),
        (PRICE, {"Cache_Control": "no-cache"}, True, None),
        ("/api/v3/time", {"Cache_Control": "max-age=3"}, False, None),
    ],
)
async def test_answer_may_be_as_old_as_somebody_consents_to(
    target: str, headers: dict[str, str], is_fresh: bool, max_age_s: float | None
) -> None:
    consent = {PRICE.partition("?")[0]: 1500}
    _, key, options = await sent_so(target, consent=consent, **headers)
    assert key is not None
    assert options == {"is_fresh": is_fresh, "max_age_s": max_age_s}


@pytest.mark.parametrize(
    ("method", "body", "headers"),
    [
        ("GET", b"", {"X_MBX_APIKEY": "somebody"}),
        ("GET", b"x=1", {}),
        ("HEAD", b"", {}),
        ("POST", b"", {}),
    ],
)
async def test_call_of_ones_own_is_answered_afresh_whatever_age_is_consented_to(
    method: str, body: bytes, headers: dict[str, str]
) -> None:
    consent = {INFO: 60_000}
    _, key, options = await sent_so(INFO, method, body, consent=consent, Cache_Control="max-age=9", **headers)
    assert key is None
    assert options == {"is_fresh": False, "max_age_s": None}


# --- pages ----------------------------------------------------------------------------------------


async def test_page_is_handed_to_the_application_with_its_body() -> None:
    asked = Asked("/admin/api/login?x=1", "POST", b"{}", ip="192.0.2.9")
    assert asked.inner.calls == ["headers", "finish"]
    assert asked.inner.data == b"{}"
    assert asked.connection.max_body > 1 << 60, "the limit is the handler's own"


async def test_page_without_a_body_takes_none() -> None:
    asked = Asked("/metrics", "GET", b"x" * 2000)
    assert asked.error == "too_large"
    assert asked.inner.calls == []


async def test_application_is_told_that_a_body_became_too_large() -> None:
    asked = Asked("/metrics", is_whole=False)
    asked.delegate.data_received(b"x" * 2000)
    assert asked.inner.calls == ["headers", "gone"]
    asked.delegate.finish()
    assert asked.error == "too_large"


# --- the cache ------------------------------------------------------------------------------------


async def test_hit_is_written_at_once_and_counts_as_no_call_in_flight() -> None:
    cache = FakeCache()
    asked = Asked(services=make_services(cache=cache))
    assert asked.connection.raw.endswith(b"\r\n\r\n[1]")
    assert asked.sent == []
    assert asked.services.calls.in_flight == 0
    assert asked.services.metrics.tally.calls == 1
    assert asked.services.savings.total == {("spot", "klines"): 2}


@pytest.mark.parametrize(
    ("target", "kind", "weight"),
    [
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=1000", "depth", 20),
        ("/api/v3/ticker/price?symbol=BTCUSDT", "trades", 2),
        ("/dapi/v1/aggTrades?symbol=BTCUSD_PERP", "aggTrades", 20),
    ],
)
async def test_weight_a_hit_has_saved_is_counted_by_its_kind(target: str, kind: str, weight: int) -> None:
    asked = Asked(target, services=make_services(cache=FakeCache()))
    assert asked.delegate.route is not None
    assert asked.services.savings.total == {(asked.delegate.route.market.value, kind): weight}


async def test_hit_for_a_client_that_has_left_saves_nothing() -> None:
    asked = Asked(services=make_services(cache=FakeCache()), is_whole=False)
    asked.delegate.is_gone = True
    asked.delegate.finish()
    assert asked.connection.raw == b""
    assert asked.services.savings.total == {}


@pytest.mark.parametrize(
    ("method", "body", "outcome", "miss"),
    [
        ("HEAD", b"", Hit(b"[]", None, 0), "method"),
        ("GET", b"x", Hit(b"[]", None, 0), "body"),
        ("GET", b"", Miss("gap"), "gap"),
    ],
)
async def test_call_the_cache_does_not_answer_is_sent_with_the_reason(
    method: str, body: bytes, outcome: Any, miss: str
) -> None:
    cache = FakeCache()
    cache.outcome = outcome
    asked = Asked(KLINES, method, body, services=make_services(cache=cache))
    await asked.services.calls.tasks.join(1)
    assert asked.sent == [KLINES]
    assert asked.delegate.miss == miss


# --- a worker that asks the one with the cache ---------------------------------------------------------


class FakeAsks(FakeCache):
    """Answers when the test says so."""

    def ask(self, path: str, query: str, *, packed: bool, max_age_ms: int = 0) -> Any:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return self.future


def asking(target: str = KLINES) -> tuple[Asked, FakeAsks]:
    services, asks = make_services(), FakeAsks()
    services.asks = asks
    return Asked(target, services=services), asks


async def test_hit_of_another_worker_is_written_when_it_comes_and_needs_no_task() -> None:
    asked, asks = asking()
    assert (asked.connection.raw, len(asked.services.calls.tasks)) == (b"", 0)
    assert asked.services.calls.asked == {asks.future}
    asks.future.set_result(Hit(b"[1]", None, 5))
    await asyncio.sleep(0)
    assert asked.connection.raw.endswith(b"\r\n\r\n[1]")
    assert asked.services.savings.total == {("spot", "klines"): 2}
    assert not asked.services.calls.asked
    assert asked.sent == []


async def test_miss_of_another_worker_is_forwarded_with_its_reason() -> None:
    asked, asks = asking()
    asks.future.set_result(Miss("collector not reached"))
    await asyncio.sleep(0)
    await asked.services.calls.tasks.join(1)
    assert (asked.sent, asked.delegate.miss) == ([KLINES], "collector not reached")


async def test_bug_at_the_moment_of_the_answer_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    asked, asks = asking()
    asks.future.set_exception(RuntimeError("a bug"))
    await asyncio.sleep(0)
    assert "failed" in caplog.text
    assert asked.connection.is_closed


async def test_stop_waits_for_what_another_worker_is_asked() -> None:
    asked, asks = asking()
    draining = asyncio.create_task(asked.services.calls.drain(5.0))
    await asyncio.sleep(0.01)
    assert not draining.done()
    asks.future.set_result(Miss("gap"))
    await draining
    assert asked.sent == [KLINES]


class Wanted:
    """A miss whose answer the cache would like to see, and what it gets to see."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.left = 0
        self.miss = Wanting("levels not known", self.taken.append, self._leave)

    def _leave(self) -> None:
        self.left += 1


class Answer:
    """An upstream's answer in one piece."""

    reason, egress, age_ms = "OK", "default", 0
    told = ()

    def __init__(self, body: bytes, status: int = 200, kind: str = "") -> None:
        self.status = status
        self.kind = kind
        self.body: bytes | None = body
        self.headers = ((b"Content-Length", str(len(body)).encode()),)
        self.closed = 0

    async def next_chunk(self) -> bytes:
        body, self.body = self.body or b"", None
        return body

    def at_end(self) -> bool:
        return self.body is None

    def close(self) -> None:
        self.closed += 1


async def forwarded(outcome: Any, answer: Answer | Exception) -> Asked:
    """Ask a cache that does not answer, and get an upstream's answer or failure instead."""

    async def send(call: Call, key: Any, **options: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache = FakeCache()
    cache.outcome = outcome
    asked = Asked(services=make_services(cache=cache), is_whole=False)
    asked.services.dispatch.send = send
    del asked.delegate._forward  # the real one
    asked.delegate.finish()
    await asked.services.calls.tasks.join(1)
    assert asked.services.calls.in_flight == 0
    return asked


async def soon(found: Any) -> Any:
    return found


@pytest.mark.parametrize("is_settled", [False, True])
async def test_answer_the_cache_would_like_to_see_is_handed_to_it_and_to_the_client(is_settled: bool) -> None:
    wanted, answer = Wanted(), Answer(b"[7]")
    asked = await forwarded(soon(wanted.miss) if is_settled else wanted.miss, answer)
    assert (wanted.taken, wanted.left) == ([b"[7]"], 0)
    assert asked.connection.raw.endswith(b"\r\n\r\n[7]")
    plain = await forwarded(Miss("levels not known"), Answer(b"[7]"))
    assert asked.connection.raw == plain.connection.raw
    assert b"X-Resender-Cache: miss; levels not known\r\n" in asked.connection.raw
    assert answer.closed == 1
    assert asked.services.savings.total == {}


@pytest.mark.parametrize("kind", ["joined", "shared"])
async def test_answer_that_others_had_asked_for_before_is_not_taken_for_one_of_now(kind: str) -> None:
    wanted, answer = Wanted(), Answer(b"[7]", kind=kind)
    asked = await forwarded(wanted.miss, answer)
    assert asked.connection.raw.endswith(b"\r\n\r\n[7]")
    assert (wanted.taken, wanted.left, answer.closed) == ([], 1, 1)


@pytest.mark.parametrize(
    "answer",
    [Answer(b"{}", 429), EgressExhausted("no weight", 1), RuntimeError("a bug")],
    ids=["429", "refused", "bug"],
)
async def test_cache_is_told_that_the_answer_it_wanted_does_not_come(answer: Any) -> None:
    wanted = Wanted()
    await forwarded(wanted.miss, answer)
    assert (wanted.taken, wanted.left) == ([], 1)


async def test_cache_that_is_waited_for_and_answers_after_all_wants_nothing() -> None:
    cache = FakeCache()
    cache.outcome = soon(Hit(b"[9]", None, 0))
    asked = Asked(services=make_services(cache=cache), is_whole=False)
    del asked.delegate._forward  # the real one
    asked.delegate.finish()
    await asked.services.calls.tasks.join(1)
    assert asked.connection.raw.endswith(b"\r\n\r\n[9]")
    assert asked.delegate.wanting is None
    assert asked.services.savings.total == {(Market.SPOT, "klines"): 2}


async def test_market_that_is_off_is_not_answered_from_memory() -> None:
    cache = FakeCache()
    asked = Asked(services=make_services(cache=cache, upstream_api="off"))
    await asked.services.calls.tasks.join(1)
    assert cache.asked == []
    assert asked.sent == [KLINES]


# --- the request log ------------------------------------------------------------------------------


async def test_refused_call_is_logged_without_its_query_and_the_caller_is_counted() -> None:
    services = make_services()
    services.store.log_enabled = True
    Asked("/nowhere/v3/x?signature=secret", services=services)
    (row,) = services.store.rows
    assert (row.ip, row.path, row.status, row.market) == ("127.0.0.1", "/nowhere/v3/x", 404, "")
    assert row.upstream_status is None
    assert row.error == "Unknown route."
    assert [entry for entry, _ in services.store.seen] == [1]


@pytest.mark.parametrize("ip", ["127.0.0.1", "192.0.2.9"])
@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/nowhere/v3/x?listenKey=secret", "/nowhere/v3/x"),
        ("/local/status/x?a=/secret", "/local/status/x"),
        ("/nowhere#secret?x", "/nowhere"),
        (f"/nowhere/{'A' * 64}", "/nowhere/***"),
    ],
)
async def test_path_of_a_refused_call_is_noted_without_what_may_be_secret(
    ip: str, target: str, path: str
) -> None:
    services = make_services()
    services.store.log_enabled = True
    Asked(target, "PUT", services=services, ip=ip)
    assert [row.path for row in services.store.rows] == [path]
    assert [row.path for row in services.access.refused.items()] == [path] * (ip == "192.0.2.9")


async def test_stranger_is_logged_and_counts_for_no_entry() -> None:
    services = make_services()
    services.store.log_enabled = True
    Asked(services=services, ip="192.0.2.9")
    assert [(row.ip, row.status) for row in services.store.rows] == [("192.0.2.9", 403)]
    assert services.store.seen == []
