"""The WebSocket about an account: whose it is, and what its client is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from resender.core.account.spec import AccountMarket
from resender.core.binance.markets import Market
from resender.core.binance.stream_urls import StreamRoute
from resender.core.fanout.frames import text_frame
from resender.errors import BadRequest, Denied, RouteError
from resender.web.client.local_accounts import Caller
from resender.web.client.stream_account import listen_to_account, read_wanted_account
from tests.unit.web.serving import NOW_MS, FakeStore

HOME, KEY, TOKEN = "127.0.0.1", "k" * 64, "t" * 40
BY_KEY, BY_TOKEN = Caller(HOME, KEY, None), Caller(HOME, None, f"Bearer {TOKEN}")


class World:
    """Two futures accounts, one of them the key's, and a client's frames."""

    def __init__(self) -> None:
        self.all = [self._account("desk"), self._account("other")]
        self.pushed: list[tuple[object, bytes]] = []
        user, row = SimpleNamespace(enabled=True), SimpleNamespace(expires_ms=None)
        self.services = cast(
            Any,
            SimpleNamespace(
                accounts=self,
                fanout=SimpleNamespace(push=lambda client, frame: self.pushed.append((client, frame))),
                store=FakeStore(token_find=(row, user)),
                clock=SimpleNamespace(now_ms=lambda: NOW_MS),
            ),
        )

    @staticmethod
    def _account(name: str) -> Any:
        return SimpleNamespace(
            spec=SimpleNamespace(name=name), market=AccountMarket.UM, listeners=set(),
            snapshot=lambda: {"e": "snapshot", "account": name},
        )  # fmt: skip

    def of_key(self, market: AccountMarket, key: str, address: str) -> Any:
        return self.all[0] if (market, key, address) == (AccountMarket.UM, KEY, HOME) else None

    async def wanted(self, query: str = "", caller: Caller = BY_KEY, market: str = "um") -> Any:
        route = StreamRoute(cast(Any, "account"), Market.UM, target=market, query=query)
        return await read_wanted_account(self.services, route, caller)


async def test_key_or_token_shows_whose_account_is_wanted() -> None:
    world = World()
    assert await world.wanted() is world.all[0]
    assert await world.wanted("account=Other", BY_TOKEN) is world.all[1]


@pytest.mark.parametrize("query", ["symbol=BTCUSDT", "account=desk&x=1", "account=a&account=b", "=1"])
async def test_account_is_the_only_parameter(query: str) -> None:
    with pytest.raises(BadRequest, match="only parameter"):
        await World().wanted(query)


@pytest.mark.parametrize(
    ("query", "caller", "market", "error"),
    [
        ("", Caller(HOME, None, None), "um", Denied),
        ("", Caller("192.0.2.9", KEY, None), "um", Denied),
        ("", BY_KEY, "margin", Denied),
        ("", BY_TOKEN, "um", BadRequest),
        ("account=third", BY_TOKEN, "um", RouteError),
    ],
)
async def test_who_may_not_listen_is_told_why(
    query: str, caller: Caller, market: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await World().wanted(query, caller, market)


def test_client_is_told_all_that_is_known_and_then_every_change() -> None:
    world, client = World(), cast(Any, object())
    account = world.all[0]
    listen_to_account(world.services, account, client)
    for listener in list(account.listeners):
        listener({"e": "order", "kind": "um"})
    told = [{"e": "snapshot", "account": "desk"}, {"e": "order", "kind": "um"}]
    assert world.pushed == [(client, text_frame(orjson.dumps(message))) for message in told]


def test_each_client_ends_its_own_listening_and_may_do_so_twice() -> None:
    world = World()
    account = world.all[0]
    ends = [listen_to_account(world.services, account, cast(Any, object())) for _ in range(2)]
    assert len(account.listeners) == 2
    ends[0]()
    ends[0]()
    assert len(account.listeners) == 1
    ends[1]()
    assert account.listeners == set()
