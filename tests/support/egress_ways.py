"""What the tests of the egresses share: each kind of way as a fixture, and calls through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.egress.spec import DEFAULT_ROUTE, EgressSpec
from resender.upstream.connector import Timeouts
from resender.upstream.egresses import make_rest_client
from resender.upstream.rest import RestClient
from tests.support.authority import client_context
from tests.support.proxies import Proxy
from tests.support.running import make_config, running

QUICK = Timeouts(2.0, 2.0, 5.0)
LOCAL = ["default", "address"]
PROXIES = ["socks5", "socks5 login", "socks4", "http", "http login"]
TUNNELS = [*LOCAL, *PROXIES]
EVERY = [*TUNNELS, "resender"]
USER, PASSWORD, BAD_PASSWORD = "bot@desk", "s3cret:pass/word", "an0ther-word"


def make_proxy(kind: str) -> Proxy:
    scheme, _, login = kind.partition(" ")
    return Proxy(scheme, USER, PASSWORD) if login else Proxy(scheme)


def address(ip: str, name: str = "") -> EgressSpec:
    return EgressSpec(name or ip, "address", address=ip)


@asynccontextmanager
async def egress_of(
    kind: str, upstream_url: str, data_dir: Path
) -> AsyncIterator[tuple[EgressSpec, Proxy | None]]:
    """Open one kind of egress; the proxy behind it, if it has one."""
    if kind == "default":
        yield DEFAULT_ROUTE, None
    elif kind == "address":
        yield address("127.0.0.2"), None
    elif kind == "resender":
        async with running(make_config(data_dir, upstream_url, cache_enabled=False)) as inner:
            yield EgressSpec("inner", "resender", scheme="http", host="127.0.0.1", port=inner.port), None
    else:
        async with make_proxy(kind) as proxy:
            yield proxy.spec(), proxy


@asynccontextmanager
async def client_on(
    spec: EgressSpec, url: str, market: Market = Market.SPOT, timeouts: Timeouts = QUICK, **options: Any
) -> AsyncIterator[RestClient]:
    options.setdefault("ssl_context", client_context())
    client = make_rest_client(spec, market, url, timeouts, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@dataclass
class Got:
    """An answer read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


async def get(
    client: RestClient,
    method: str = "GET",
    target: str = "/api/v3/time",
    headers: Pairs | None = None,
    body: bytes = b"",
) -> Got:
    response = await client.send(method, target, headers or [("User-Agent", "t")], body)
    try:
        parts = [chunk async for chunk in response.chunks(1 << 24)]
    finally:
        response.close()
    down = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Got(response.status, down, b"".join(parts))
