"""`/local/{market}/...` about accounts: who may see what, and what a subscription has to hold."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import orjson
import pytest

from resender.core.account.spec import AccountMarket
from resender.errors import AnswerError, BadRequest, Denied, NotReady, RouteError
from resender.web.client.local_accounts import Caller, answer_account, find_account, is_account_path, tell
from tests.unit.web.serving import NOW_MS, FakeStore

TOKEN = "t" * 40
KEY = "k" * 64
HOME = "127.0.0.1"
BY_KEY = Caller(HOME, KEY, None)
BY_TOKEN = Caller(HOME, None, f"Bearer {TOKEN}")
HMAC = "a1" * 32
ED25519 = "A" * 86 + "=="


class FakeAccount:
    age_ms = 40

    def __init__(self, name: str, market: AccountMarket) -> None:
        self.market = market
        self.spec = SimpleNamespace(name=name)
        self.asked: list[str | None] = []

    def state(self) -> dict[str, Any]:
        return {"state": "live", "why": ""}

    def open_orders(self, symbol: str | None) -> list[Any]:
        self.asked.append(symbol)
        return [{"orderId": 1}]

    def ended_orders(self, symbol: str | None) -> list[Any]:
        self.asked.append(symbol)
        return [{"orderId": 2}]

    def balances(self) -> list[Any]:
        return [{"asset": "BTC"}]

    def positions(self) -> list[Any]:
        return [{"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}]


class World:
    def __init__(self, *accounts: tuple[str, AccountMarket], expires_ms: int | None = None) -> None:
        self.all = [FakeAccount(name, market) for name, market in accounts]
        self.believed = True
        self.problem: str | None = None
        self.subscribed: list[tuple[Any, ...]] = []
        self.user = SimpleNamespace(enabled=True)
        self.row = SimpleNamespace(expires_ms=expires_ms)
        good = hashlib.sha256(TOKEN.encode()).hexdigest()
        self.store = FakeStore(token_find=lambda digest: (self.row, self.user) if digest == good else None)
        self.services = cast(
            Any,
            SimpleNamespace(accounts=self, store=self.store, clock=SimpleNamespace(now_ms=lambda: NOW_MS)),
        )

    def of_key(self, market: AccountMarket, key: str, address: str) -> FakeAccount | None:
        if not self.believed or (key, address) != (KEY, HOME):
            return None
        return next((account for account in self.all if account.market is market), None)

    async def subscribe(self, *call: Any) -> str | None:
        self.subscribed.append(call)
        return self.problem

    async def get(self, path: str, query: str = "", caller: Caller = BY_KEY) -> Any:
        hit = await answer_account(self.services, caller, path, query, None)
        return orjson.loads(hit.body)

    async def post(self, given: Any, market: str = "spot", caller: Caller = BY_KEY, query: str = "") -> Any:
        body = given if isinstance(given, bytes) else orjson.dumps(given)
        path = f"/local/{market}/userDataStream"
        return orjson.loads((await answer_account(self.services, caller, path, query, body)).body)


def spot_world(**more: Any) -> World:
    return World(("desk", AccountMarket.SPOT), ("lent", AccountMarket.MARGIN), **more)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/local/spot/openOrders", True),
        ("/local/pm/positions", True),
        ("/local/margin/userDataStream", True),
        ("/local/spot/klines", False),
        ("/local/status", False),
        ("/local/spot/openOrders/", False),
        ("/local/xx/account", False),
    ],
)
def test_paths_about_accounts_are_told_from_others(path: str, is_one: bool) -> None:
    assert is_account_path(path) is is_one


# --- who may see what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "caller",
    [Caller(HOME, None, None), Caller("192.0.2.9", KEY, None), Caller(HOME, "other", None)],
    ids=["nothing shown", "another address", "another key"],
)
async def test_who_shows_no_key_that_is_believed_is_denied(caller: Caller) -> None:
    with pytest.raises(Denied) as refused:
        await find_account(spot_world().services, caller, AccountMarket.SPOT, None)
    assert refused.value.answer.status == 403
    assert KEY not in refused.value.msg


async def test_key_shows_its_own_account_whatever_name_is_asked_for() -> None:
    world = spot_world()
    assert (await world.get("/local/spot/account", "account=lent"))["account"] == "desk"
    with pytest.raises(Denied):
        await world.get("/local/um/account")


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer " + "x" * 40,
        "Basic " + TOKEN,
        "Bearer " + TOKEN[:10],
        "Bearer " + TOKEN * 6,
        "Bearer",
        "",
        TOKEN,
    ],
)
async def test_token_nobody_knows_is_denied_even_beside_a_good_key(shown: str) -> None:
    with pytest.raises(Denied, match="not known"):
        await find_account(spot_world().services, Caller(HOME, KEY, shown), AccountMarket.SPOT, None)


@pytest.mark.parametrize(("enabled", "expires_ms"), [(False, None), (True, NOW_MS), (True, NOW_MS - 1)])
async def test_token_of_yesterday_is_denied(enabled: bool, expires_ms: int | None) -> None:
    world = spot_world(expires_ms=expires_ms)
    world.user.enabled = enabled
    with pytest.raises(Denied, match="not valid any more"):
        await world.get("/local/spot/account", caller=BY_TOKEN)


async def test_token_sees_every_account_and_has_to_name_one_of_several() -> None:
    world = World(("desk", AccountMarket.UM), ("Other", AccountMarket.UM), expires_ms=NOW_MS + 1)
    with pytest.raises(BadRequest, match="account="):
        await world.get("/local/um/account", caller=BY_TOKEN)
    told = await world.get("/local/um/account", "account=OTHER", Caller(HOME, None, f"bearer  {TOKEN} "))
    assert told["account"] == "Other"
    for path, query in (("/local/um/account", "account=third"), ("/local/cm/account", "")):
        with pytest.raises(RouteError) as missing:
            await world.get(path, query, BY_TOKEN)
        assert missing.value.answer.status == 404


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "orders", "parts"),
    [
        ("openOrders", 1, {"orders"}),
        ("orders", 2, {"orders"}),
        ("balances", 0, {"balances"}),
        ("positions", 0, {"positions"}),
        ("account", 1, {"orders", "balances", "positions"}),
    ],
)
def test_each_path_tells_its_part_and_the_state(what: str, orders: int, parts: set[str]) -> None:
    told = tell(cast(Any, FakeAccount("desk", AccountMarket.UM)), what, None)
    assert (told["market"], told["account"], told["state"]) == ("um", "desk", "live")
    assert told.keys() - {"market", "account", "state", "why"} == parts
    assert len(told.get("orders", [])) == orders


async def test_symbol_is_taken_in_any_case_and_narrows_what_is_told() -> None:
    world = World(("desk", AccountMarket.UM))
    told = await world.get("/local/um/account", "symbol=ethusdt")
    assert told["positions"] == [{"symbol": "ETHUSDT"}]
    assert world.all[0].asked == ["ETHUSDT"]


@pytest.mark.parametrize("query", ["symbol=", "symbol=A&symbol=B", "=1", "limit=5", "account"])
async def test_parameters_that_are_none_are_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        await spot_world().get("/local/spot/openOrders", query)


async def test_only_the_stream_is_posted() -> None:
    with pytest.raises(BadRequest, match="posted"):
        await answer_account(spot_world().services, BY_KEY, "/local/spot/openOrders", "", b"{}")


# --- subscriptions --------------------------------------------------------------------------------


def signed(**more: Any) -> dict[str, Any]:
    return {"apiKey": KEY, "timestamp": NOW_MS, "signature": HMAC, **more}


async def test_what_a_client_signed_is_handed_on_with_numbers_as_numbers() -> None:
    world = spot_world()
    assert await world.post(signed()) == {"market": "spot", "subscribed": True}
    await world.post(urlencode(signed(recvWindow=5000)).encode())
    assert world.subscribed == [
        (AccountMarket.SPOT, signed(), KEY, HOME),
        (AccountMarket.SPOT, signed(recvWindow=5000), KEY, HOME),
    ]


async def test_why_binance_does_not_take_it_is_told() -> None:
    world = spot_world()
    world.problem = "no answer in time"
    with pytest.raises(NotReady, match="Not subscribed: no answer in time"):
        await world.post(signed())


@pytest.mark.parametrize("signature", [ED25519, ED25519.rstrip("="), "A" * 86 + "="])
@pytest.mark.parametrize("is_form", [True, False])
async def test_signature_of_the_length_of_ed25519_could_trade_and_is_refused(
    signature: str, is_form: bool
) -> None:
    world = spot_world()
    given = signed(signature=signature)
    with pytest.raises(BadRequest, match="Ed25519") as refused:
        await world.post(urlencode(given).encode() if is_form else given)
    assert world.subscribed == []
    assert signature not in refused.value.msg


async def test_rsa_signature_is_no_ed25519_one() -> None:
    world = spot_world()
    await world.post(signed(signature="A" * 342 + "=="))
    assert len(world.subscribed) == 1


async def test_margin_takes_a_token_and_spot_a_signature() -> None:
    world = spot_world()
    await world.post({"listenToken": "abc"}, "margin")
    assert world.subscribed == [(AccountMarket.MARGIN, {"listenToken": "abc"}, KEY, HOME)]
    for given, market in ((signed(), "margin"), ({"listenToken": "abc"}, "spot")):
        with pytest.raises(BadRequest, match="margin with a listenToken"):
            await world.post(given, market)
    with pytest.raises(BadRequest, match="apiKey"):
        await world.post({"listenToken": "abc"}, "margin", Caller(HOME, None, None))
    with pytest.raises(BadRequest, match="alone"):
        await world.post({"listenToken": "abc", "apiKey": KEY}, "margin")
    assert len(world.subscribed) == 1


@pytest.mark.parametrize(
    "given",
    [
        b"", b"{", b"[]", b"{}", b"a=1&a=2",
        signed(extra=1), {"apiKey": KEY, "timestamp": 1}, signed(timestamp="soon"), signed(timestamp=-1),
        signed(timestamp="1" * 18), signed(recvWindow="5.5"), signed(signature=None), signed(signature=["x"]),
        signed(signature="x" * 1001),
    ],
)  # fmt: skip
async def test_body_that_is_no_subscription_is_refused(given: Any) -> None:
    world = spot_world()
    with pytest.raises(BadRequest):
        await world.post(given)
    assert world.subscribed == []


@pytest.mark.parametrize(
    ("market", "query", "error"), [("um", "", RouteError), ("spot", "symbol=A", BadRequest)]
)
async def test_subscription_elsewhere_or_in_the_query_is_refused(
    market: str, query: str, error: type[AnswerError]
) -> None:
    with pytest.raises(error):
        await spot_world().post(signed(), market, query=query)


async def test_state_of_the_stream_is_told_to_who_may_see_the_account() -> None:
    world = spot_world()
    told = await world.get("/local/spot/userDataStream")
    assert (told["account"], told["state"]) == ("desk", "live")
    world.believed = False
    with pytest.raises(Denied):
        await world.get("/local/spot/userDataStream")
