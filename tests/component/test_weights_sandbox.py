"""The weight table against what the sandbox really charges, endpoint by endpoint.

`metered`: a running sandbox with limits nothing here reaches, and a session to call it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from resender.core.binance.markets import BY_PREFIX
from resender.core.weights.table import charge
from resender.sandbox import Sandbox, SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.model import Route, Table
from resender.sandbox.params import read_params
from resender.sandbox.routes_futures import futures_table
from resender.sandbox.routes_other import options_table, pm_table, sapi_table
from resender.sandbox.routes_spot import spot_table
from resender.sandbox.weights import POOL_OF_HOST
from tests.support.authority import connector

pytestmark = pytest.mark.component
PEER = "127.0.0.1"
SETTING = {
    "api": "UPSTREAM_API",
    "fapi": "UPSTREAM_FAPI",
    "dapi": "UPSTREAM_DAPI",
    "eapi": "UPSTREAM_EAPI",
    "papi": "UPSTREAM_PAPI",
}


def routes() -> dict[tuple[str, str, str], Route]:
    """List every endpoint of the sandbox by host, method and path."""
    exchange = Exchange(SandboxConfig(spot_symbols=1, um_symbols=1, cm_symbols=1))
    tables: dict[str, Table] = {
        "api": spot_table(exchange) | sapi_table(exchange),
        "fapi": futures_table(exchange, "fapi"),
        "dapi": futures_table(exchange, "dapi"),
        "eapi": options_table(exchange),
        "papi": pm_table(exchange),
    }
    return {(host, *key): route for host, table in tables.items() for key, route in table.items()}


ROUTES = routes()
QUERIES = [
    "",
    "symbol=BTCUSDT",
    "symbol=",
    "pair=BTCUSD",
    *(
        f"symbol=BTCUSDT&interval=1m&limit={n}"
        for n in (1, 50, 99, 100, 101, 499, 500, 501, 1000, 1001, 1500)
    ),
    "symbol=BTCUSDT&limit=5000",
    "symbol=BTCUSDT&limit=0",
    "symbol=BTCUSDT&limit=x",
    "l%69mit=5000",
    "%73ymbol=BTCUSDT",
    "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D",
    "symbols=[" + ",".join(f"%22S{n}%22" for n in range(21)) + "]",
    "symbols=[" + ",".join(f"%22S{n}%22" for n in range(101)) + "]",
    "symbol=BTCUSDT&timestamp=1&signature=ab%2Bcd%3D%3D",
]


@pytest.fixture
async def metered() -> AsyncIterator[tuple[Sandbox, aiohttp.ClientSession]]:
    limits = dict.fromkeys(("spot", "futures", "options", "pm", "sapi"), 10**12)
    config = SandboxConfig(
        clock_ms=lambda: 1_791_374_430_500,  # one minute that does not end
        weight_limits=limits,
        spot_symbols=2,
        um_symbols=2,
        cm_symbols=2,
    )
    async with Sandbox(config) as sandbox, aiohttp.ClientSession(connector=connector()) as session:
        yield sandbox, session


async def test_no_endpoint_of_the_sandbox_costs_more_than_the_table_says(
    metered: tuple[Sandbox, aiohttp.ClientSession],
) -> None:
    sandbox, session = metered
    too_low = []
    for host, method, path in ROUTES:
        pool = "sapi" if path.startswith("/sapi/") else POOL_OF_HOST[host]
        for query in QUERIES:
            before = sandbox.weight(PEER, pool)
            url = URL(f"{sandbox.urls[SETTING[host]]}{path}?{query}", encoded=True)
            async with session.request(method, url) as response:
                await response.read()
                assert response.status not in (418, 429)
            spent = sandbox.weight(PEER, pool) - before
            charged = charge(BY_PREFIX[host].market, method, path, query)
            if charged.weight < spent:
                too_low.append((method, path, query, charged.weight, spent))
    assert too_low == []


async def test_parameters_in_a_body_are_weighed_too(
    metered: tuple[Sandbox, aiohttp.ClientSession],
) -> None:
    sandbox, session = metered
    for host, method, path in ROUTES:
        if method == "GET":
            continue
        pool = POOL_OF_HOST[host]
        body = b"symbol=BTCUSDT&computeCommissionRates=true"
        before = sandbox.weight(PEER, pool)
        url = URL(f"{sandbox.urls[SETTING[host]]}{path}", encoded=True)
        async with session.request(method, url, data=body) as response:
            await response.read()
        spent = sandbox.weight(PEER, pool) - before
        market = BY_PREFIX[host].market
        assert charge(market, method, path, "", True).weight >= spent
        assert charge(market, method, path, "", True, body).weight >= spent


def test_every_endpoint_of_the_sandbox_is_in_the_table() -> None:
    from resender.core.weights.table import table_lines

    known = {(method, path) for method, path, *_ in table_lines()}
    assert [key for key in ROUTES if key[1:] not in known] == []


def test_public_paths_need_neither_key_nor_signature_at_the_sandbox() -> None:
    for (host, method, path), route in ROUTES.items():
        if charge(BY_PREFIX[host].market, method, path, "").is_public:
            assert route.security == "none", path


PIECES = [
    "symbol=BTCUSDT", "symbol=", "symbol", "%73ymbol=X", "symbols=", "symbols=[%22A%22]", 'symbols=["A","B"]',
    'symbols=[' + ",".join(f'"S{n}"' for n in range(21)) + "]", "limit=", "limit=5", "limit=1000", "limit=5000",
    "limit=0", "limit=0005000", "l%69mit=5000", "limit=%35%30%30%30", "limit=+5000", "limit=99999999", "limit=-1",
    "limit=1e3", "LIMIT=5", "pair=A", "timestamp=1", "signature=a%2Bb", "", "=", "%", "%zz",
]  # fmt: skip


@settings(max_examples=600)
@given(
    st.sampled_from([key for key, route in ROUTES.items() if not isinstance(route.weight, int)]),
    st.lists(st.sampled_from(PIECES), max_size=5).map("&".join),
)
def test_no_query_makes_the_table_cheaper_than_the_sandbox(key: tuple[str, str, str], query: str) -> None:
    host, method, path = key
    weight = ROUTES[key].weight
    assert not isinstance(weight, int)
    params, _ = read_params(query, "", host == "api")
    assert charge(BY_PREFIX[host].market, method, path, query).weight >= weight(params)
