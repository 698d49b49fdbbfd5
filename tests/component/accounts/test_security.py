"""Whose calls are answered out of memory: what another client, a stolen key or a copied signature gets, and what not.

The victim trades from 127.0.0.1; 127.0.0.2 is another whitelisted client, 127.0.0.3 is none.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from resender.account.key_check import quoted
from resender.api_keys import Signer, digest_of, hint_of
from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET, Fault, SandboxConfig, sign
from resender.store import Repository
from tests.support.account_judge import Trader
from tests.support.account_lab import OPEN_ORDERS, AccountLab, account_lab, is_hit
from tests.support.client import Reply, build, parse

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
VICTIM, OTHER, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
HIT = "hit"
FAKE = "0123456789abcdef" * 4
OPEN = OPEN_ORDERS[UM]
GENEROUS = {"weight_limit_spot": 60_000, "weight_limit_futures": 60_000}
LIMITS = {"spot": 60_000, "futures": 60_000}


def now_ms() -> int:
    return int(time.time() * 1000)


async def knock(
    lab: AccountLab,
    source: str,
    target: str,
    *headers: tuple[str, str],
    method: str = "GET",
    body: bytes = b"",
) -> Reply:
    """Make one call from an address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.run.port, local_addr=(source, 0))
    try:
        writer.write(build(method, target, headers, body))
        return parse(await asyncio.wait_for(reader.read(), 20), is_head=method == "HEAD")
    finally:
        writer.close()


def key_of(key: str = API_KEY) -> tuple[str, str]:
    return ("X-MBX-APIKEY", key)


def signed(path: str, secret: str = API_SECRET, *, at_ms: int | None = None, **params: Any) -> str:
    """Return a target as a client signs it."""
    stamp = {"recvWindow": 5000, "timestamp": now_ms() if at_ms is None else at_ms}
    query = "&".join(f"{name}={value}" for name, value in {**stamp, **params}.items())
    return f"{path}?{query}&signature={sign(secret, query.encode())}"


def unsigned(path: str, **params: Any) -> str:
    """Return a target of who does not have the secret."""
    query = "&".join(f"{name}={value}" for name, value in {"timestamp": now_ms(), **params}.items())
    return f"{path}?{query}&signature={FAKE}"


async def ears(lab: AccountLab, source: str, path: str, **headers: str) -> tuple[int, Any]:
    """Open a WebSocket; return the status of the handshake and the first message, if there is one."""
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            async with session.ws_connect(lab.run.url + path, headers=headers) as socket:
                return 101, orjson.loads((await socket.receive(timeout=5)).data)
        except aiohttp.WSServerHandshakeError as error:
            return error.status, None


@asynccontextmanager
async def live(
    folder: Path, market: Market = UM, mode: str = "key", **settings: Any
) -> AsyncIterator[AccountLab]:
    """Run an account with a resting order whose owner gets it out of memory."""
    config = SandboxConfig(spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits=LIMITS)
    settings = {"whitelist": f"{VICTIM},{OTHER}", **GENEROUS, **settings}
    async with account_lab(folder, sandbox=config, **settings) as lab:
        await lab.add(market.value, mode)
        await rest(lab, market)
        await lab.until_hit(market)
        yield lab


async def rest(lab: AccountLab, market: Market) -> int:
    symbol = "BTCUSD_PERP" if market is CM else "BTCUSDT"
    quantity = "1" if market is CM else "0.02"
    placed = await lab.place(market, symbol, quantity=quantity, price=Trader(lab, market).price(symbol))
    return int(placed["orderId"])


async def is_forwarded(
    lab: AccountLab,
    source: str,
    target: str,
    *headers: tuple[str, str],
    method: str = "GET",
    body: bytes = b"",
) -> Reply:
    """Make a call that must reach the exchange, and tell nothing out of memory."""
    path = target.partition("?")[0]
    before = lab.sandbox.count(method, path)
    reply = await knock(lab, source, target, *headers, method=method, body=body)
    assert reply.header("X-Resender-Cache") != HIT, (target, headers)
    assert lab.sandbox.count(method, path) == before + 1, (target, headers, reply.raw)
    return reply


# --- another client --------------------------------------------------------------------------------


async def test_another_client_that_shows_the_key_alone_gets_nothing_out_of_memory(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        key = key_of()
        # The victim is believed, and goes on to be.
        assert is_hit(await knock(lab, VICTIM, signed(OPEN), key))
        for target in (
            unsigned(OPEN), f"{OPEN}?timestamp={now_ms()}", OPEN, f"{OPEN}?signature={FAKE}",
            signed(OPEN, "x" * 64), signed(OPEN, at_ms=now_ms() - 6000), signed(OPEN, at_ms=now_ms() + 1500),
            unsigned(OPEN, symbol="BTCUSDT"), unsigned("/fapi/v1/openAlgoOrders"),
            unsigned("/fapi/v1/order", symbol="BTCUSDT", orderId=1),
            unsigned("/fapi/v1/openOrder", symbol="BTCUSDT", orderId=1),
        ):  # fmt: skip
            reply = await is_forwarded(lab, OTHER, target, key)
            assert reply.status >= 400, (target, reply.raw)
        for headers in (
            [("x-mbx-apikey", API_KEY)],
            [("X-Mbx-ApiKey", f"  {API_KEY}\t")],
            [key, key],
            [key, ("x-mbx-apikey", READ_KEY)],
            [key_of(READ_KEY), key],
            [key_of(API_KEY.lower())],
            [key_of(f"{API_KEY},")],
            [],
        ):
            reply = await is_forwarded(lab, OTHER, unsigned(OPEN), *headers)
            assert reply.status >= 400, (headers, reply.raw)
        for path in ("openOrders", "orders", "balances", "positions", "account", "openOrders?symbol=BTCUSDT"):
            reply = await knock(lab, OTHER, f"/local/um/{path}", key)
            assert (reply.status, b"BTCUSDT" in reply.body) == (403, False), reply.raw
            assert (await knock(lab, VICTIM, f"/local/um/{path}", key)).status == 200
        assert (await ears(lab, OTHER, "/local/um/account", **{"X-MBX-APIKEY": API_KEY}))[0] == 403
        assert (await ears(lab, OTHER, "/local/um/account"))[0] == 403
        status, told = await ears(lab, VICTIM, "/local/um/account", **{"X-MBX-APIKEY": API_KEY})
        assert (status, told["e"], len(told["orders"])) == (101, "snapshot", 1)
        assert is_hit(await knock(lab, VICTIM, signed(OPEN), key))


async def test_nothing_binance_takes_without_looking_at_the_signature_proves_a_caller(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        key = key_of()
        symbol = {"symbol": "BTCUSDT"}
        taken = [
            ("GET", unsigned("/fapi/v1/time")),
            ("GET", unsigned("/fapi/v1/ping")),
            ("GET", unsigned("/fapi/v1/exchangeInfo")),
            ("GET", unsigned("/fapi/v1/depth", **symbol, limit=5)),
            ("GET", unsigned("/fapi/v1/klines", **symbol, interval="1m", limit=2)),
            ("GET", unsigned("/fapi/v1/ticker/bookTicker", **symbol)),
            ("POST", unsigned("/fapi/v1/listenKey")),
            ("PUT", "/fapi/v1/listenKey"),
            ("GET", unsigned("/api/v3/time")),
            ("GET", unsigned("/api/v3/depth", **symbol, limit=5)),
            ("POST", "/sapi/v1/userListenToken"),
        ]
        passed = 0
        for method, target in taken:
            reply = await knock(lab, OTHER, target, key, method=method)
            passed += reply.status == 200
            reply = await is_forwarded(lab, OTHER, unsigned(OPEN), key)
            assert reply.status == 400, (target, reply.raw)
            assert (await knock(lab, OTHER, "/local/um/openOrders", key)).status == 403, target
        assert passed >= 7, "most of them are taken, whatever the signature is"
        assert lab.gateway.accounts.callers.addresses(digest_of(API_KEY), time.monotonic()) == [VICTIM]


async def test_own_good_calls_prove_nothing_about_another_key(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        lab.sandbox.accounts.add("AnotherKey", "AnotherSecret")
        own, key = key_of("AnotherKey"), key_of()
        assert (await knock(lab, OTHER, signed(OPEN, "AnotherSecret"), own)).status == 200
        reply = await is_forwarded(lab, OTHER, signed(OPEN, "AnotherSecret"), key)
        assert reply.json()["code"] == -1022
        # Two keys on one call: whichever Binance looks at, it is a proof of neither.
        for headers in ([own, key], [key, own]):
            await is_forwarded(lab, OTHER, signed(OPEN, "AnotherSecret"), *headers)
            await is_forwarded(lab, OTHER, unsigned(OPEN), key)
        # From the right address with a wrong key.
        reply = await is_forwarded(lab, VICTIM, signed(OPEN), key_of("SandboxApiKey" + "1" * 51))
        assert reply.status == 401
        assert (await knock(lab, VICTIM, "/local/um/openOrders", key_of("Nobody" + "1" * 51))).status == 403
        assert is_hit(await knock(lab, VICTIM, signed(OPEN), key))


async def test_strangers_get_nothing_anywhere(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        seen = len(lab.sandbox.calls)
        for target in (signed(OPEN), "/local/um/openOrders", "/local/um/account", "/local/status",
                       "/local/spot/userDataStream", "/metrics"):  # fmt: skip
            reply = await knock(lab, STRANGER, target, key_of())
            assert reply.status == 403, (target, reply.raw)
            assert b"BTCUSDT" not in reply.raw
        body = b"apiKey=x&timestamp=1&signature=" + FAKE.encode()
        reply = await knock(lab, STRANGER, "/local/spot/userDataStream", method="POST", body=body)
        assert reply.status == 403
        for path in ("/local/um/account", "/ws-api/v3", "/ws-fapi/v1"):
            assert (await ears(lab, STRANGER, path, **{"X-MBX-APIKEY": API_KEY}))[0] == 403
        assert not [call for call in list(lab.sandbox.calls)[seen:] if call.header("X-MBX-APIKEY")]


async def test_clients_behind_a_trusted_proxy_are_told_apart(tmp_path: Path) -> None:
    settings = {"trusted_proxies": VICTIM, "whitelist": f"{VICTIM},10.0.0.1,10.0.0.2"}
    async with live(tmp_path, **settings) as lab:
        key = key_of()

        def client(address: str) -> tuple[str, str]:
            return ("X-Forwarded-For", address)

        assert not is_hit(await knock(lab, VICTIM, signed(OPEN), key, client("10.0.0.1")))
        assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key, client("10.0.0.1")))
        await is_forwarded(lab, VICTIM, unsigned(OPEN), key, client("10.0.0.2"))
        # Only what the proxy itself adds, last, is believed.
        await is_forwarded(lab, VICTIM, unsigned(OPEN), key, client("10.0.0.1, 10.0.0.2"))
        local = "/local/um/openOrders"
        assert (await knock(lab, VICTIM, local, key, client("10.0.0.2"))).status == 403
        assert (await knock(lab, VICTIM, local, key, client("10.0.0.1"))).status == 200
        # Who is no proxy is who it is.
        assert (await knock(lab, OTHER, local, key, client("10.0.0.1"))).status == 403


# --- the right client ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "path"),
    [
        (401, -2015, OPEN),
        (401, -2014, "/fapi/v1/allOrders"),
        (400, -2008, "/fapi/v2/account"),
        (400, -2015, "/fapi/v1/order"),
    ],
)
async def test_key_that_binance_refuses_is_believed_no_more(
    tmp_path: Path, status: int, code: int, path: str
) -> None:
    async with live(tmp_path) as lab:
        key = key_of()
        assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key)), "without a secret nobody can tell"
        # What says nothing about the key changes nothing.
        for other in (-1022, -1121, -2011):
            lab.sandbox.faults.add(
                Fault("status", match=path, status=status, body=orjson.dumps({"code": other, "msg": "x"}))
            )
            await knock(lab, VICTIM, signed(path, symbol="BTCUSDT"), key, ("Cache-Control", "no-cache"))
            assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key)), other
        fault = Fault("status", match=path, status=status, body=orjson.dumps({"code": code, "msg": "x"}))
        lab.sandbox.faults.add(fault)
        await knock(lab, VICTIM, signed(path, symbol="BTCUSDT"), key, ("Cache-Control", "no-cache"))
        assert fault.hits == 1
        await is_forwarded(lab, VICTIM, unsigned(OPEN), key)
        assert (await knock(lab, VICTIM, "/local/um/openOrders", key)).status == 403
        assert (await knock(lab, VICTIM, signed(OPEN), key)).status == 200
        assert is_hit(await knock(lab, VICTIM, signed(OPEN), key))


async def test_proof_of_a_caller_is_over_after_its_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(tmp_path, account_proof_hours=1) as lab:
        key, real = key_of(), time.monotonic()
        assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key))
        callers = lab.gateway.accounts.callers
        callers._pairs[VICTIM, digest_of(API_KEY)] = real - 3590
        assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key))
        callers._pairs[VICTIM, digest_of(API_KEY)] = real - 3601
        await is_forwarded(lab, VICTIM, unsigned(OPEN), key)
        assert (await knock(lab, VICTIM, "/local/um/openOrders", key)).status == 403


async def test_calls_that_are_odd_in_any_way_are_for_binance_to_judge(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        key, now = key_of(), now_ms
        for target in (
            signed(OPEN, at_ms=now() + 1500),
            signed(OPEN, at_ms=now() - 5500),
            signed(OPEN, recvWindow=60001),
            signed(OPEN, recvWindow=0),
            signed(OPEN, recvWindow=-1),
            signed(OPEN, recvWindow=""),
            signed(OPEN, at_ms=now() * 1000 + 2_000_000),
            signed(OPEN, x=1),
            signed(OPEN, symbol="btcusdt"),
            signed(OPEN, symbol=""),
            signed(OPEN) + "&symbol=BTCUSDT&symbol=ETHUSDT",
            signed(OPEN) + f"&timestamp={now()}",
            signed(OPEN) + f"&signature={FAKE}",
            signed(OPEN, orderId=1),
            signed("/fapi/v1/order", symbol="BTCUSDT", orderId=1, origClientOrderId="x"),
            f"{OPEN}?timestamp={now()}&signature=",
            f"{OPEN}?timestamp={now()}&signature={FAKE[:-1]}",
            f"{OPEN}?timestamp=1e12&signature={FAKE}",
        ):
            await is_forwarded(lab, VICTIM, target, key)
        await is_forwarded(lab, VICTIM, signed(OPEN), key, method="HEAD")
        body = b"symbol=ETHUSDT"
        headers = [key, ("Content-Length", str(len(body)))]
        await is_forwarded(lab, VICTIM, signed(OPEN), *headers[:1], body=body)
        await is_forwarded(lab, VICTIM, signed(OPEN), key, ("Cache-Control", "no-cache"))
        await is_forwarded(lab, VICTIM, signed(OPEN), key, ("X-MBX-TIME-UNIT", "MICROSECOND"))
        assert is_hit(await knock(lab, VICTIM, signed(OPEN), key))


async def test_microseconds_are_no_time_of_a_futures_call(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        await is_forwarded(lab, VICTIM, signed(OPEN, at_ms=now_ms() * 1000), key_of())


# --- signatures that can be checked ----------------------------------------------------------------


def ed25519() -> tuple[str, str]:
    """Make a pair of keys: private and public PEM."""
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return secret, public


def changed(text: str, place: int) -> str:
    """Return a text with another character at a place."""
    new = "B" if text[place] not in "bB" else "C"  # hexadecimal is read in both cases
    return text[:place] + new + text[place + 1 :]


async def check_in_full(lab: AccountLab, key: str, sign_it: Callable[[str], str]) -> None:
    """See that the signature decides, and nothing else."""
    header = key_of(key)

    def target(query: str | None = None, **params: Any) -> tuple[str, str]:
        stamp = {"symbol": "BTCUSDT", "recvWindow": 5000, "timestamp": now_ms(), **params}
        text = query or "&".join(f"{name}={value}" for name, value in stamp.items())
        return text, sign_it(text)

    query, signature = target()
    for source in (VICTIM, OTHER):  # who has the secret is the owner, wherever he is
        assert is_hit(await knock(lab, source, f"{OPEN}?{query}&signature={quoted(signature)}", header))
    # The signature may stand before the rest; what was signed is the rest as it was sent.
    assert is_hit(await knock(lab, OTHER, f"{OPEN}?signature={quoted(signature)}&{query}", header))
    for place in (0, len(signature) // 2, len(signature) - 4):
        wrong = quoted(changed(signature, place))
        for source in (VICTIM, OTHER):
            await is_forwarded(lab, source, f"{OPEN}?{query}&signature={wrong}", header)
    for wrong in (
        query.replace("symbol=BTCUSDT", "symbol=ETHUSDT"), query.replace("symbol=BTCUSDT&", ""),
        query.replace("recvWindow=5000", "recvWindow=5001"), query.replace("BTCUSDT", "%42TCUSDT"),
        f"{query}&", f"&{query}", query.replace("&", "&&"),
        query.replace(query[-13:], str(int(query[-13:]) + 1)),
    ):  # fmt: skip
        for source in (VICTIM, OTHER):
            await is_forwarded(lab, source, f"{OPEN}?{wrong}&signature={quoted(signature)}", header)
    await is_forwarded(lab, VICTIM, f"{OPEN}?timestamp={now_ms()}&signature={FAKE}", header)
    # Good, but of another time.
    for at_ms in (now_ms() - 5500, now_ms() + 1500):
        query, signature = target(timestamp=at_ms)
        await is_forwarded(lab, VICTIM, f"{OPEN}?{query}&signature={quoted(signature)}", header)


async def test_public_key_that_is_registered_has_every_signature_checked(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        secret, public = ed25519()
        lab.sandbox.accounts.add("OneMoreKey", public_key=public, account=API_KEY)
        number = lab.gateway.accounts.all[0].spec.id

        def link(repository: Repository) -> None:
            repository.account_link(number, digest_of("OneMoreKey"), hint_of("OneMoreKey"), public_key=public)

        await lab.gateway.store.account_change(link)
        signer = Signer.parse(secret)
        await check_in_full(lab, "OneMoreKey", lambda text: signer.sign(text.encode()))
        assert is_hit(await knock(lab, VICTIM, unsigned(OPEN), key_of())), "the other key is as it was"


async def test_secret_of_the_gateway_itself_checks_every_signature_of_that_key(tmp_path: Path) -> None:
    async with live(tmp_path, mode="secret") as lab:
        await check_in_full(lab, READ_KEY, lambda text: sign(READ_SECRET, text.encode()))
        await is_forwarded(lab, OTHER, unsigned(OPEN), key_of())


# --- tokens ----------------------------------------------------------------------------------------


async def test_tokens_open_what_is_local_for_whitelisted_clients_of_enabled_people(tmp_path: Path) -> None:
    async with live(tmp_path) as lab:
        store = lab.gateway.store
        await store.user_add("owner", "no hash")
        user = await store.user_add("trader", "no hash")
        tokens = {name: f"{name}-token-{'x' * 30}" for name in ("good", "over", "gone")}
        for name, ends in (("good", None), ("over", now_ms() + 300), ("gone", None)):
            digest = hashlib.sha256(tokens[name].encode()).hexdigest()
            row = await store.token_add(user.id, name, "read", digest, ends)
        await store.token_remove(row.id)
        await asyncio.sleep(0.4)

        async def ask(token: str, path: str = "openOrders", source: str = OTHER) -> Reply:
            return await knock(lab, source, f"/local/um/{path}", ("Authorization", token))

        good = f"Bearer {tokens['good']}"
        told = (await ask(good)).json()
        assert told.keys() == {"market", "account", "state", "why", "since", "openOrders", "orders"}
        assert len(told["orders"]) == 1
        assert (await ask(good, "balances")).json().keys() == {
            "market", "account", "state", "why", "since", "openOrders", "balances",
        }  # fmt: skip
        status, first = await ears(lab, OTHER, "/local/um/account", Authorization=good)
        assert (status, first["e"]) == (101, "snapshot")
        assert (await ask(good, source=STRANGER)).status == 403
        for token in (
            f"Bearer {tokens['over']}", f"Bearer {tokens['gone']}", f"Bearer {tokens['good']}x", "Bearer ",
            f"Basic {tokens['good']}", tokens["good"], f"Bearer {'x' * 5000}", "", "Bearer " + digest,
        ):  # fmt: skip
            reply = await ask(token)
            assert (reply.status, b"BTCUSDT" in reply.body) == (403, False), (token, reply.raw)
            status, _ = await ears(lab, OTHER, "/local/um/account", Authorization=token)
            assert status == 403, token
        # A token is no key of Binance's own paths, a bad one spoils a good key.
        await is_forwarded(lab, OTHER, unsigned(OPEN), key_of(), ("Authorization", good))
        reply = await knock(lab, VICTIM, "/local/um/openOrders", key_of(), ("Authorization", "Bearer x"))
        assert reply.status == 403
        assert (await knock(lab, OTHER, "/local/cm/openOrders", ("Authorization", good))).status == 404
        await store.user_update(user.id, enabled=False)
        assert (await ask(good)).status == 403
        assert (await ears(lab, OTHER, "/local/um/account", Authorization=good))[0] == 403


# --- two accounts ----------------------------------------------------------------------------------


async def test_orders_of_one_account_never_reach_another(tmp_path: Path) -> None:
    async with live(tmp_path, admin_enabled=True) as lab:
        lab.sandbox.accounts.add("AnotherKey", "AnotherSecret")
        first = lab.gateway.accounts.all[0]
        second = await lab.add("um", "key", "two", digest=digest_of("AnotherKey"))
        other = AccountLab(lab.sandbox, lab.run)
        other.key, other.secret = "AnotherKey", "AnotherSecret"
        exchange = lab.sandbox.exchange
        await rest(other, UM)
        await other.until_hit(UM)
        # Both are asked all the while; the same symbols, some of the same client ids.
        for number in range(6):
            for one in (lab, other):
                price = Trader(one, UM).price("BTCUSDT")
                await one.place(
                    UM, "BTCUSDT", quantity="0.02", price=price, newClientOrderId=f"mine-{number}"
                )
                for each in (lab, other):
                    reply = await each.open_orders(UM)
                    assert reply.body == each.truth(UM)
                    by_name = await each.signed(
                        "GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="mine-0"
                    )
                    if by_name.status == 200:
                        mine = [row["orderId"] for row in orjson.loads(each.truth(UM))]
                        assert by_name.json()["orderId"] in mine
        rows = {each: {row["orderId"] for row in orjson.loads(each.truth(UM))} for each in (lab, other)}
        assert not rows[lab] & rows[other]
        assert {row["orderId"] for row in first.open_orders()} == rows[lab]
        assert {row["orderId"] for row in second.open_orders()} == rows[other]
        # An order of the other account by its number is not known here.
        reply = await lab.signed("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=min(rows[other]))
        assert reply.status == 400
        for one in (lab, other):
            reply = await knock(lab, VICTIM, "/local/um/openOrders", key_of(one.key))
            assert {row["orderId"] for row in reply.json()["orders"]} == rows[one]
            # The name of another account helps nobody who shows a key.
            reply = await knock(lab, VICTIM, "/local/um/openOrders?account=two", key_of(one.key))
            assert {row["orderId"] for row in reply.json()["orders"]} == rows[one]
            _, told = await ears(lab, VICTIM, "/local/um/account", **{"X-MBX-APIKEY": one.key})
            assert {row["orderId"] for row in told["orders"]} == rows[one]
        # Same numbers in both: what an event of one says changes nothing of the other.
        before = first.orders.version
        second.message(
            {"e": "ORDER_TRADE_UPDATE", "E": now_ms(), "T": now_ms(), "o": {
                "s": "BTCUSDT", "i": min(rows[lab]), "X": "CANCELED", "x": "CANCELED", "T": now_ms(),
                "c": "x", "q": "0.02", "z": "0", "S": "BUY", "o": "LIMIT", "f": "GTC"}}
        )  # fmt: skip
        assert first.orders.version == before
        assert (await lab.open_orders(UM)).body == lab.truth(UM)
        assert exchange.open_orders_bytes(UM, "AnotherKey", None) == other.truth(UM)
