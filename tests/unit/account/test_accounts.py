"""All accounts together: whose call is answered, what passing calls teach, which key becomes whose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import orjson
import pytest

from resender.account.accounts import Accounts
from resender.account.ports import AccountOptions
from resender.account.state import WAITING
from resender.account.watched import Answer, Lacking, WatchedAccount
from resender.aio import Clock, Tasks
from resender.api_keys import Signer, digest_of
from resender.core.account.calls import SignedRead
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market

NOW_MS = 1_796_000_000_000
KEY, OTHER_KEY = "k" * 60 + "abcd", "o" * 60 + "wxyz"
HOME, AWAY = "127.0.0.1", "192.0.2.9"
SECRET = "s3cr3t" * 10
SIGNED = f"timestamp={NOW_MS}&signature=" + "0" * 64
SPOT_ORDERS, UM_ORDERS = "/api/v3/openOrders", "/fapi/v1/openOrders"


def spec_of(
    number: int = 1,
    market: AccountMarket = AccountMarket.SPOT,
    mode: Mode = Mode.SIGNED,
    *,
    key: str | None = KEY,
    **more: Any,
) -> AccountSpec:
    keys = {} if key is None else {digest_of(key): key[-4:]}
    return AccountSpec(number, f"desk{number}", market, mode, keys, **more)


class World:
    def __init__(self, *specs: AccountSpec, **options: Any) -> None:
        self.mono = 1000.0
        self.bound: list[tuple[int, str, str]] = []
        self.binds = True
        self.saved: list[Any] = []
        self.tasks = Tasks()
        exchange_clock = ExchangeClock()
        exchange_clock.set(NOW_MS, self.mono, self.mono)
        self.accounts = Accounts(
            AccountOptions(**options),
            door=cast(Any, None),
            opener=cast(Any, None),
            clock=Clock(now_ms=lambda: NOW_MS, mono=lambda: self.mono),
            exchange_clock=exchange_clock,
            tasks=self.tasks,
            unseal=self._unseal,
            bind=self._bind,
            save=self._save,
        )
        self.accounts.set_accounts(specs)

    def _unseal(self, sealed: str, context: str) -> str:
        if sealed != f"sealed for {context}":
            raise ValueError("another one's")
        return orjson.dumps({"key": KEY, "secret": SECRET}).decode()

    async def _bind(self, number: int, digest: str, hint: str) -> bool:
        self.bound.append((number, digest, hint))
        return self.binds

    async def _save(self, text: str) -> None:
        self.saved.append(orjson.loads(text))

    def account(self, number: int = 1) -> WatchedAccount:
        found = self.accounts.find(number)
        assert found is not None
        return found

    def prove(self, number: int = 1) -> None:
        account = self.account(number)
        account.opened()
        account.proof.snapshot(None, self.mono)
        self.mono += 6
        account.heard()
        account.proof.snapshot(None, self.mono)

    def accept(self, key: str = KEY, address: str = HOME, **call: Any) -> None:
        self.answer(200, b"[]", key, address, **call)

    def answer(
        self, status: int, body: bytes, key: str = KEY, address: str = HOME,
        market: Market = Market.SPOT, method: str = "GET", path: str = SPOT_ORDERS,
    ) -> None:  # fmt: skip
        passing = self.accounts.watch(market, method, path, SIGNED, b"", key, address)
        assert passing is not None
        passing.answered(status, body)

    def ask(self, query: str = "", **call: Any) -> Any:
        wanted = {"market": Market.SPOT, "path": SPOT_ORDERS, "api_key": KEY, "address": HOME, **call}
        stamp = NOW_MS + int((self.mono - 1000) * 1000)
        query = query or f"timestamp={stamp}&recvWindow=30000&signature=" + "0" * 64
        return self.accounts.ask(
            wanted["market"], wanted["path"], query, wanted["api_key"], wanted["address"]
        )


def reason(found: Any) -> str:
    assert isinstance(found, Lacking)
    return found.reason


# --- ask ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        {"api_key": None},
        {"api_key": OTHER_KEY},
        {"path": "/api/v3/myTrades"},
        {"path": "/sapi/v1/margin/openOrders"},
        {"market": Market.UM, "path": UM_ORDERS},
    ],
)
def test_call_that_is_no_accounts_business_is_not_spoken_of(call: dict[str, Any]) -> None:
    world = World(spec_of())
    world.prove()
    world.accept()
    assert world.ask(**call) is None
    assert (world.account().hits, world.account().misses.total()) == (0, 0)


def test_only_who_binance_believed_lately_is_answered() -> None:
    world = World(spec_of(), proof_s=100.0)
    world.prove()
    assert reason(world.ask()) == "caller not proven"
    world.accept()
    found = world.ask()
    assert isinstance(found, Answer)
    assert found.body == b"[]"
    assert reason(world.ask(address=AWAY)) == "caller not proven"
    world.mono += 101
    world.account().heard()
    assert reason(world.ask()) == "caller not proven"
    assert (world.account().hits, dict(world.account().misses)) == (1, {"caller not proven": 3})


@pytest.mark.parametrize(
    ("code", "is_believed"), [(-2015, False), (-2014, False), (-1022, True), (-1021, True)]
)
def test_key_binance_refuses_is_believed_no_more(code: int, is_believed: bool) -> None:
    world = World(spec_of())
    world.prove()
    world.accept()
    world.answer(401, orjson.dumps({"code": code, "msg": "no"}), address=AWAY)
    assert isinstance(world.ask(), Answer) is is_believed


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (SIGNED + "&limit=5", "parameters"),
        (f"timestamp={NOW_MS}", "signature"),
        (f"timestamp={NOW_MS - 90_000}&signature=" + "0" * 64, "timestamp"),
        (f"timestamp={NOW_MS + 90_000}&signature=" + "0" * 64, "timestamp"),
    ],
)
def test_call_binance_might_refuse_is_sent_on(query: str, why: str) -> None:
    world = World(spec_of())
    world.prove()
    world.accept()
    assert reason(world.ask(query)) == why


@pytest.mark.parametrize(
    ("market", "path"), [(AccountMarket.SPOT, SPOT_ORDERS), (AccountMarket.UM, UM_ORDERS)]
)
def test_microseconds_are_taken_on_spot_alone(market: AccountMarket, path: str) -> None:
    mode = Mode.SIGNED if market is AccountMarket.SPOT else Mode.KEY
    world = World(spec_of(1, market, mode))
    world.prove()
    world.accept(market=market.host, path=path)
    query = f"timestamp={NOW_MS + 6000}000&recvWindow=30000&signature=" + "0" * 64
    found = world.ask(query, market=market.host, path=path)
    assert isinstance(found, Answer) is (market is AccountMarket.SPOT)


def test_key_of_its_own_is_checked_by_its_signature_from_any_address() -> None:
    world = World(spec_of(mode=Mode.SECRET, sealed="sealed for 1"))
    world.prove()
    world.accept()
    assert reason(world.ask()) == "signature", "that Binance took a call before is no signature"
    payload = f"recvWindow=30000&timestamp={NOW_MS + 6000}"
    good = f"{payload}&signature={Signer.parse(SECRET).sign(payload.encode())}"
    assert isinstance(world.ask(good, address=AWAY), Answer)


def test_secret_that_cannot_be_read_leaves_an_account_without_a_key() -> None:
    account = World(spec_of(mode=Mode.SECRET, sealed="sealed for 2")).account()
    assert (account.api_key, account.signer, account.is_own) == (None, None, False)


async def test_answer_that_may_come_is_waited_for_and_counted_then() -> None:
    world = World(spec_of(), wait_ms=20)
    world.prove()
    world.accept()
    account = world.account()
    lacks: list[Any] = [Lacking("own order not told yet", may_come=True), Answer(b"[]", 1)]

    def answer(read: SignedRead) -> Any:
        return lacks.pop(0)

    account.answer = answer  # type: ignore[method-assign]
    waiting = world.ask()
    assert (account.hits, account.misses.total()) == (0, 0)
    assert await waiting == Answer(b"[]", 1)
    assert (account.hits, account.misses.total()) == (1, 0)


# --- watch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", SPOT_ORDERS, None),
        ("GET", "/api/v3/depth", KEY),
        ("POST", "/api/v3/order/test", KEY),
        ("PUT", "/api/v3/listenKey", KEY),
    ],
)
def test_nothing_is_learned_from_calls_whose_signature_nobody_checks(
    method: str, path: str, key: str | None
) -> None:
    assert World(spec_of()).accounts.watch(Market.SPOT, method, path, "", b"", key, HOME) is None


def test_margin_and_spot_accounts_of_one_key_learn_each_their_own() -> None:
    world = World(spec_of(1), spec_of(2, AccountMarket.MARGIN))
    taken: list[tuple[int, str]] = []
    for number in (1, 2):
        account = world.account(number)
        account.take = (  # type: ignore[method-assign]
            lambda read, *_, number=number: taken.append((number, read.path))
        )
    for path in (SPOT_ORDERS, "/sapi/v1/margin/openOrders"):
        world.accept(path=path)
    assert taken == [(1, SPOT_ORDERS), (2, "/sapi/v1/margin/openOrders")]


# --- keys -----------------------------------------------------------------------------------------


def test_key_of_a_passing_call_opens_the_account_it_is_of() -> None:
    world = World(spec_of(1, AccountMarket.UM, Mode.KEY), spec_of(2, AccountMarket.SPOT))
    world.accept(market=Market.UM, path=UM_ORDERS)
    world.accept()
    assert world.account(1).api_key == KEY
    assert world.account(2).api_key is None, "one that is signed for takes none"


@pytest.mark.parametrize("binds", [True, False])
async def test_first_key_seen_becomes_that_of_an_account_without_one(binds: bool) -> None:
    world = World(spec_of(1, AccountMarket.UM, Mode.KEY, key=None))
    world.binds = binds
    world.accept(market=Market.UM, path=UM_ORDERS)
    await world.tasks.join(1)
    assert world.bound == [(1, digest_of(KEY), "abcd")]
    assert world.account().api_key == (KEY if binds else None)
    assert not world.accounts.seen


async def test_key_of_another_market_is_bound_to_nothing_and_shown_to_the_owner() -> None:
    world = World(spec_of(1, AccountMarket.UM, Mode.KEY, key=None), spec_of(2, key=None))
    world.accept()
    world.accept(address=AWAY)
    world.accept(OTHER_KEY)
    assert world.bound == []
    seen = list(world.accounts.seen.values())
    assert [(each.hint, each.address, each.calls) for each in seen] == [("abcd", AWAY, 2), ("wxyz", HOME, 1)]
    world.accounts.set_accounts([spec_of(2)])
    assert [each.hint for each in world.accounts.seen.values()] == ["wxyz"]
    await world.accounts.stop()


def test_account_of_a_key_is_shown_where_the_key_is_believed() -> None:
    world = World(spec_of(1), spec_of(2, AccountMarket.MARGIN))
    assert world.accounts.of_key(AccountMarket.SPOT, KEY, HOME) is None
    world.accept()
    assert world.accounts.of_key(AccountMarket.SPOT, KEY, HOME) is world.account(1)
    assert world.accounts.of_key(AccountMarket.MARGIN, KEY, HOME) is world.account(2)
    assert world.accounts.of_key(AccountMarket.UM, KEY, HOME) is None
    assert world.accounts.of_key(AccountMarket.SPOT, KEY, AWAY) is None


# --- set up ---------------------------------------------------------------------------------------


async def test_unchanged_accounts_go_on_and_others_begin_anew() -> None:
    world = World(spec_of(1), spec_of(2), max_accounts=3)
    first, second = world.account(1), world.account(2)
    second.api_key = KEY
    more = AccountSpec(
        1, "renamed", AccountMarket.SPOT, Mode.SIGNED, {digest_of(KEY): "", digest_of(OTHER_KEY): ""}
    )
    world.accounts.set_accounts([more, spec_of(2, AccountMarket.CM, Mode.KEY), spec_of(3), spec_of(4)])
    assert world.account(1) is first
    assert first.spec.name == "renamed"
    assert world.account(2) is not second
    assert second.api_key is None
    assert second.phase == WAITING
    assert [account.spec.id for account in world.accounts.all] == [1, 2, 3], "no more than max_accounts"
    await world.accounts.stop()


async def test_states_are_kept_at_most_every_two_seconds() -> None:
    world = World(spec_of())
    for _ in range(3):
        await world.accounts._save_states()
    assert len(world.saved) == 1
    told = world.saved[0]
    assert (told["at_ms"], told["accounts"]["1"]["state"], told["accounts"]["1"]["why"]) == (
        NOW_MS, "waiting", "no stream",
    )  # fmt: skip
    world.account().opening()
    world.mono += 2.5
    await world.accounts._save_states()
    assert [each["accounts"]["1"]["state"] for each in world.saved] == ["waiting", "opening"]


# --- subscribe ------------------------------------------------------------------------------------


class Stream:
    """Binance's word about subscriptions."""

    def __init__(self, *words: str | None) -> None:
        self.words = list(words)
        self.taken: list[dict[str, Any]] = []

    async def subscribe(self, params: dict[str, Any]) -> str | None:
        await asyncio.sleep(0)
        self.taken.append(params)
        return self.words.pop(0)


def streamed(world: World, words: Iterable[str | None], number: int = 1) -> Stream:
    stream = Stream(*words)
    world.accounts._kept[number].stream = cast(Any, stream)
    return stream


async def test_subscription_binance_takes_proves_its_caller_and_binds_the_key() -> None:
    world = World(spec_of(key=None))
    stream = streamed(world, ["Binance refused the subscription: no", None])
    signed = {"apiKey": KEY, "timestamp": 1, "signature": "x"}
    problem = await world.accounts.subscribe(AccountMarket.SPOT, signed, KEY, HOME)
    assert problem == "Binance refused the subscription: no"
    assert (world.bound, world.accounts.callers.is_believed(HOME, digest_of(KEY), world.mono)) == ([], False)
    assert await world.accounts.subscribe(AccountMarket.SPOT, signed, KEY, HOME) is None
    assert world.bound == [(1, digest_of(KEY), "abcd")]
    assert world.accounts.callers.is_believed(HOME, digest_of(KEY), world.mono)
    assert len(stream.taken) == 2


async def test_token_alone_proves_nobody() -> None:
    world = World(spec_of(1, AccountMarket.MARGIN))
    stream = streamed(world, [None])
    token = {"listenToken": "t"}
    problem = await world.accounts.subscribe(AccountMarket.MARGIN, token, KEY, HOME)
    assert problem is not None
    assert problem.startswith("a token does not show whose key it is")
    assert stream.taken == []
    world.accept(path="/sapi/v1/margin/openOrders")
    assert await world.accounts.subscribe(AccountMarket.MARGIN, token, KEY, HOME) is None
    assert world.bound == [], "the key was the account's before"


async def test_subscription_without_an_account_for_it_is_refused() -> None:
    world = World(spec_of(1, key=OTHER_KEY), spec_of(2, AccountMarket.UM, Mode.KEY, key=None))
    problem = await world.accounts.subscribe(AccountMarket.SPOT, {"apiKey": KEY}, KEY, HOME)
    assert problem is not None
    assert "has no such account" in problem


async def test_account_that_got_another_key_meanwhile_says_so() -> None:
    world = World(spec_of(key=None))
    streamed(world, [None])
    world.binds = False
    problem = await world.accounts.subscribe(AccountMarket.SPOT, {"apiKey": KEY}, KEY, HOME)
    assert problem == "the account got another key in the meantime"
