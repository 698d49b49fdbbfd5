"""A key leaves through one way only, by its pin or by itself, and nobody gets to read it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.egress_lab import (
    KEYS,
    LIMIT_ORDER,
    WAYS,
    Lab,
    egress_of,
    exchange_config,
    lab,
)
from tests.support.running import Captured

pytestmark = pytest.mark.component

BIG = {"weight_limits": {"spot": 1_000_000, "futures": 1_000_000}}
ORDER = f"symbol=BTCUSDT&side=BUY&price=20000&{LIMIT_ORDER}"


@pytest.fixture
def logged() -> Iterator[Captured]:
    handler = Captured()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def egresses_of_keys(one: Lab, count: int) -> dict[str, str]:
    """Make signed calls of all kinds with each key; return the one way of each."""
    client = one.client()
    found: dict[str, str] = {}
    for key in KEYS[:count]:
        mark = one.mark()
        replies = [
            await client.signed("GET", "/api/v3/account", key=key),
            await client.signed("POST", "/api/v3/order", ORDER, key=key),
            await client.signed("POST", "/api/v3/order", ORDER, key=key, body=True),
            await client.signed("DELETE", "/api/v3/openOrders", "symbol=BTCUSDT", key=key),
            await client.get("/api/v3/historicalTrades?symbol=BTCUSDT&limit=5", ("X-MBX-APIKEY", key)),
            await client.call("POST", "/fapi/v1/listenKey", (("X-MBX-APIKEY", key),)),
        ]
        assert [reply.status for reply in replies] == [200] * len(replies)
        names = {egress_of(reply) for reply in replies}
        # The same on all markets, and what the exchange saw is what the client was told.
        assert len(names) == 1
        calls = [call for call in list(one.sandbox.calls)[mark:] if call.header("x-mbx-apikey") == key]
        assert len(calls) == len(replies)
        assert {call.peer for call in calls} == names
        found[key] = egress_of(replies[0])
    return found


async def test_a_key_keeps_its_address_and_keys_spread(tmp_path: Path) -> None:
    async with lab(tmp_path / "1", exchange_config(**BIG)) as one:
        first = await egresses_of_keys(one, 12)
        assert await egresses_of_keys(one, 12) == first
        assert set(first.values()) == set(WAYS)
    async with lab(tmp_path / "2", exchange_config(**BIG), egress=",".join(reversed(WAYS))) as one:
        assert await egresses_of_keys(one, 12) == first


async def test_pins_by_prefix_and_by_digest_bind_a_key(tmp_path: Path) -> None:
    digest = hashlib.sha256(KEYS[1].encode()).hexdigest()
    for egress in WAYS:
        pins = f"{KEYS[0][:8]}={egress},sha256:{digest}={egress}"
        async with lab(tmp_path / egress, exchange_config(**BIG), egress_pins=pins) as one:
            found = await egresses_of_keys(one, 2)
            assert set(found.values()) == {egress}


async def test_a_signature_without_a_key_is_never_spread(tmp_path: Path) -> None:
    async with lab(tmp_path, exchange_config(**BIG)) as one:
        client = one.client()
        names = {
            egress_of(await client.get(f"/api/v3/ticker/price?symbol=BTCUSDT&n={n}&signature=ab"))
            for n in range(9)
        }
        assert len(names) == 1


async def test_no_part_of_a_key_is_written_or_shown(tmp_path: Path, logged: Captured) -> None:
    digest = hashlib.sha256(KEYS[1].encode()).hexdigest()
    settings = {"egress_pins": f"{KEYS[0][:8]}={WAYS[0]},sha256:{digest}={WAYS[1]}"}
    async with lab(tmp_path, exchange_config(**BIG), **settings) as one:
        await one.gateway.store.set_log_enabled(True)
        await egresses_of_keys(one, 4)
        client = one.client()
        for key in KEYS[:4]:
            for path in (
                "/sapi/v1/account/apiRestrictions",
                "/sapi/v1/convert/tradeFlow",
                "/sapi/v1/margin/order",
            ):
                await client.signed("GET", path, key=key)
        one.sandbox.cut_off(WAYS[1])
        for key in KEYS[:4]:
            await client.signed("POST", "/api/v3/order", ORDER, key=key)
        one.sandbox.let_in(WAYS[1])
        one.sandbox.ban(WAYS[0], "spot", 50)
        for key in KEYS[:4]:
            await client.signed("POST", "/api/v3/order", ORDER, key=key)
        shown = [logged.text, str(one.gateway.status.weights()), str(one.gateway.status.clients())]
        for page in ("/metrics", "/", "/healthz", "/local/status"):
            shown.append((await one.get(page)).body.decode())
        await asyncio.sleep(0.3)
    for path in tmp_path.rglob("*.db"):
        with sqlite3.connect(path) as connection:
            shown.append("\n".join(connection.iterdump()))
    text = "\n".join(shown)
    assert "resender_egress_calls" in text
    assert "egress_closed" in text
    for key in KEYS[:4]:
        assert key[:8] not in text
        assert hashlib.sha256(key.encode()).hexdigest()[:10] not in text
