"""A sandbox exchange and a gateway that watches accounts of it, over TLS, and a client that signs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from resender.account import WatchedAccount
from resender.api_keys import digest_of, hint_of
from resender.core.binance.markets import Market
from resender.gateway import Gateway
from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET, Sandbox, SandboxConfig, sign
from resender.store import Repository
from tests.support.client import Reply, call
from tests.support.running import Running, make_config, running

OPEN_ORDERS = {
    Market.SPOT: "/api/v3/openOrders",
    Market.UM: "/fapi/v1/openOrders",
    Market.CM: "/dapi/v1/openOrders",
}
ORDER = {Market.SPOT: "/api/v3/order", Market.UM: "/fapi/v1/order", Market.CM: "/dapi/v1/order"}


class AccountLab:
    """Both, and what a trader does."""

    def __init__(self, sandbox: Sandbox, run: Running) -> None:
        self.sandbox = sandbox
        self.run = run
        self.key, self.secret = API_KEY, API_SECRET

    @property
    def gateway(self) -> Gateway:
        return self.run.gateway

    async def add(self, market: str, mode: str, name: str = "one", **how: Any) -> WatchedAccount:
        """Have an account watched; of its key the digest is known."""
        own = mode == "secret"
        key = READ_KEY if own else self.key
        digest = how.pop("digest", digest_of(key))

        def work(repository: Repository) -> int:
            row = repository.account_add(
                name, market, mode, digest=digest, hint=hint_of(key) if digest else "",
                source="own" if own else "linked", **how,
            )  # fmt: skip
            if own:
                told = orjson.dumps({"key": READ_KEY, "secret": READ_SECRET}).decode()
                repository.account_seal(row.id, self.gateway.secret_box.seal(told, str(row.id)))
                repository.account_link(row.id, digest_of(self.key), hint_of(self.key))
            return row.id

        number = await self.gateway.store.account_change(work)
        account = self.gateway.accounts.find(number)
        assert account is not None
        return account

    async def signed(
        self, method: str, path: str, *, key: str = "", secret: str = "", **params: Any
    ) -> Reply:
        """Make one signed call through the gateway."""
        stamp = {"recvWindow": 5000, "timestamp": int(time.time() * 1000)}
        query = "&".join(f"{name}={value}" for name, value in {**params, **stamp}.items())
        target = f"{path}?{query}&signature={sign(secret or self.secret, query.encode())}"
        return await call(self.run.port, method, target, headers=[("X-MBX-APIKEY", key or self.key)])

    async def open_orders(self, market: Market, **params: Any) -> Reply:
        return await self.signed("GET", OPEN_ORDERS[market], **params)

    async def place(self, market: Market, symbol: str, **params: Any) -> dict[str, Any]:
        """Place an order that rests, unless told otherwise."""
        given = {
            "symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", **params,
        }  # fmt: skip
        reply = await self.signed("POST", ORDER[market], **given)
        assert reply.status == 200, reply.raw
        return reply.json()

    def truth(self, market: Market, symbol: str | None = None) -> bytes:
        """Return what the exchange would answer now."""
        return self.sandbox.exchange.open_orders_bytes(market, self.key, symbol)

    async def until_hit(self, market: Market, *, seconds: float = 15.0, **params: Any) -> Reply:
        """Ask for open orders as a bot does until they come out of memory."""
        end = time.monotonic() + seconds
        while True:
            reply = await self.open_orders(market, **params)
            assert reply.status == 200, reply.raw
            if is_hit(reply):
                return reply
            assert time.monotonic() < end, (
                reply.header("X-Resender-Cache"),
                self.gateway.accounts.all[0].state(),
            )
            await asyncio.sleep(0.2)


def is_hit(reply: Reply) -> bool:
    return reply.header("X-Resender-Cache") == "hit"


@asynccontextmanager
async def account_lab(
    folder: Path, *, sandbox: SandboxConfig | None = None, **settings: Any
) -> AsyncIterator[AccountLab]:
    """Run both; the market cache is off unless it is asked for."""
    config = sandbox or SandboxConfig(spot_symbols=4, um_symbols=4, cm_symbols=4)
    async with Sandbox(config) as exchange:
        settings.setdefault("cache_enabled", False)
        urls = {name.lower(): url for name, url in exchange.urls.items()}
        async with running(make_config(folder, **urls, **settings)) as run:
            yield AccountLab(exchange, run)
