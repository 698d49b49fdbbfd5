"""What another node shows and what a node without market data passes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders

from resender.core.account.spec import AccountMarket
from resender.core.cluster.node_proof import NODE_HEADER, ProofReader, make_proof
from resender.errors import Denied, EgressAway
from resender.web.client.hop_calls import read_caller
from tests.unit.upstream.fakes import FakeAnswer
from tests.unit.web.client.test_local_calls import Asked
from tests.unit.web.serving import NOW_MS, FakeConnection, make_services

SECRET = "s" * 40


def shown(method: str = "GET", target: str = "/local/um/klines", body: bytes = b"", **more: Any) -> str:
    return make_proof(
        more.get("secret", SECRET), "me", NOW_MS, method, target, body, more.get("client", "127.0.0.1")
    )


def among_nodes(**settings: Any) -> Any:
    services = make_services(cache=SimpleNamespace(states={}), **settings)
    services.proofs = ProofReader(SECRET, "me")
    return services


def read(services: Any, value: str | None, target: str = "/x") -> tuple[str, Any]:
    headers = HTTPHeaders({"Accept": "*/*"} if value is None else {"Accept": "*/*", NODE_HEADER: value})
    found = read_caller(services, FakeConnection(ip="10.9.9.9"), headers, "GET", target)
    assert list(headers) == ["Accept"], "it goes no further"
    return found


def test_client_speaks_for_itself() -> None:
    assert read(among_nodes(), None) == ("10.9.9.9", None)


def test_node_speaks_for_its_client() -> None:
    address, hop = read(among_nodes(), shown(target="/x", client="10.0.0.1"), "/x")
    assert address == "10.0.0.1"
    assert hop is not None


def test_where_there_are_no_other_nodes_nobody_speaks_for_others() -> None:
    assert read(make_services(), shown(target="/x"), "/x") == ("10.9.9.9", None)


@pytest.mark.parametrize("value", ["", "garbage", shown(target="/y"), shown(target="/x", secret="t" * 40)])
def test_who_shows_nothing_good_is_refused_and_named(value: str) -> None:
    services = among_nodes()
    with pytest.raises(Denied, match="no request of another node"):
        read(services, value)


def test_node_that_is_no_front_serves_other_nodes_only() -> None:
    services = among_nodes(roles=("collector",))
    with pytest.raises(Denied, match="front"):
        read(services, None)
    assert read(services, shown(target="/x"), "/x")[0] == "127.0.0.1"


def test_body_has_to_be_the_one_the_node_sent() -> None:
    value = shown("POST", "/local/um/klines", b"{}")
    asked = Asked("/local/um/klines", "POST", b"[]", services=among_nodes(), Resender_Node=value)
    assert (asked.connection.status, asked.error) == (400, "bad_request")
    assert "nothing was sent on" in asked.msg


def test_stopping_is_told_to_another_node_in_a_word_it_knows() -> None:
    for headers, error in (({}, "busy"), ({"Resender_Node": shown()}, "egress_away")):
        services = among_nodes()
        services.calls.is_open = False
        asked = Asked("/local/um/klines", services=services, **headers)
        assert (asked.connection.status, asked.error) == (503, error)


class FakeHops:
    """The way to the other nodes; `home` answers local calls."""

    def __init__(self, answer: Any, *, is_front: bool = True, home: Any = "b") -> None:
        self.homes = SimpleNamespace(is_front=is_front)
        self.answer, self.home = answer, home
        self.asked: list[Any] = []
        self.sought: list[Any] = []

    def home_of_local(self, *sought: Any) -> Any:
        self.sought.append(sought)
        if isinstance(self.home, Exception):
            raise self.home
        return self.home

    async def pass_on(self, peer: Any, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ask_collector(self, *asked: Any) -> Any:
        return await self.pass_on("b", *asked)


async def front(
    answer: Any, target: str = "/local/um/klines?a=b", method: str = "GET", body: bytes = b"", *,
    is_front: bool = True, home: Any = "b", **headers: str,
) -> tuple[Asked, FakeHops]:  # fmt: skip
    services = among_nodes()
    hops = services.dispatch.hops = FakeHops(answer, is_front=is_front, home=home)
    asked = Asked(target, method, body, services=services, **headers)
    await cast(Any, services.calls.tasks).join(1)
    assert services.calls.in_flight == 0
    return asked, hops


async def test_front_has_local_calls_answered_by_a_node_with_market_data() -> None:
    answer = FakeAnswer(b"[1]", headers=[("Content-Type", "application/json"), ("Content-Length", "3")])
    asked, hops = await front(answer, X_Mbx_Apikey="k", Authorization="Bearer t", Cookie="c")
    ((method, target, headers, body, client),) = hops.asked
    assert (method, target, body, client) == ("GET", "/local/um/klines?a=b", b"", "127.0.0.1")
    sent = {name.lower(): value for name, value in headers}
    assert sent["x-mbx-apikey"] == "k"
    assert sent["authorization"] == "Bearer t"
    assert "cookie" not in sent
    assert asked.connection.raw.endswith(b"[1]") or asked.connection.body == b"[1]"
    assert answer.is_closed


async def test_front_says_so_where_nobody_has_market_data() -> None:
    asked, _ = await front(None, home=EgressAway("nobody"))
    assert (asked.connection.status, asked.error) == (503, "egress_away")


async def test_bug_is_no_silence() -> None:
    asked, _ = await front(ValueError("a bug"))
    assert asked.connection.status == 500


async def test_status_is_each_nodes_own() -> None:
    _, hops = await front(EgressAway("nobody"), "/local/status")
    assert hops.asked == []


POSTED = b'{"apiKey":"k","timestamp":1,"signature":"' + b"a" * 64 + b'"}'


@pytest.mark.parametrize(
    ("target", "method", "body", "headers", "sought"),
    [
        ("/local/um/openOrders", "GET", b"", {"X_Mbx_Apikey": "k"}, (AccountMarket.UM, "k", None)),
        (
            "/local/spot/account?account=one",
            "GET",
            b"",
            {"Authorization": "Bearer t"},
            (AccountMarket.SPOT, None, "one"),
        ),
        ("/local/spot/userDataStream", "POST", POSTED, {}, (AccountMarket.SPOT, "k", None)),
        ("/local/spot/userDataStream", "POST", b"odd", {}, (AccountMarket.SPOT, None, None)),
        ("/local/um/klines?account=x", "GET", b"", {"X_Mbx_Apikey": "k"}, (None, "k", None)),
    ],
)
async def test_local_call_goes_to_the_node_it_is_about(
    target: str, method: str, body: bytes, headers: dict[str, str], sought: Any
) -> None:
    _, hops = await front(EgressAway("x"), target, method, body, is_front=False, **headers)
    assert hops.sought == [sought]
    assert [asked[:2] for asked in hops.asked] == [(method, target)]


async def test_local_call_that_is_about_this_node_is_answered_here() -> None:
    asked, hops = await front(None, "/local/um/openOrders", is_front=False, home=None)
    assert (asked.connection.status, hops.asked) == (403, [])


async def test_call_of_another_node_is_not_passed_on() -> None:
    _, hops = await front(None, "/local/um/openOrders", Resender_Node=shown(target="/local/um/openOrders"))
    assert hops.sought == []


async def test_front_has_files_fetched_by_a_node_with_a_route() -> None:
    answer = FakeAnswer(b"zip", headers=[("Content-Length", "3")])
    _, hops = await front(answer, "/data.binance.vision/data/spot/x.zip", X_Mbx_Apikey="k")
    ((method, target, headers, body, client),) = hops.asked
    assert (method, target, body, client) == ("GET", "/data.binance.vision/data/spot/x.zip", b"", "127.0.0.1")
    assert not any(name.lower().startswith("x-") for name, _ in headers)
