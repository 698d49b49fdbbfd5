"""API keys of accounts: permissions, several keys of one account, Ed25519, listen tokens."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

from resender.core.binance.markets import Market
from resender.sandbox import READ_KEY, READ_ONLY, READ_SECRET

pytestmark = pytest.mark.component

MARKETS = (Market.SPOT, Market.UM, Market.CM)


def ed25519():
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, pem


@pytest.fixture
def reader(sandbox, trader_of):
    return trader_of(sandbox, key=READ_KEY, secret=READ_SECRET)


@pytest.mark.parametrize("market", MARKETS)
async def test_read_only_key_sees_the_account_of_the_trading_key_and_changes_nothing(trader, reader, market):
    order = await trader.limit(market)
    assert await reader.open_orders(market) == await trader.open_orders(market)
    assert (await reader.open_orders(market))[0]["orderId"] == order["orderId"]
    assert await reader.ask(market, "account") == await trader.ask(market, "account")
    body = await reader.limit(market, status=401)
    assert body == {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
    reference = f"symbol={order['symbol']}&orderId={order['orderId']}"
    await reader.ask(market, "order", reference, "DELETE", 401)
    assert len(trader.truth(market)) == 1
    if market is not Market.SPOT:
        assert await reader.key_call(market, "listenKey") == await trader.key_call(market, "listenKey")


async def test_restrictions_tell_what_a_key_may_do(sandbox, trader, reader, trader_of):
    trading = await trader.ask(Market.SPOT, "/sapi/v1/account/apiRestrictions")
    assert {name for name, value in trading.items() if value is True} == {
        "enableReading", "enableSpotAndMarginTrading", "enableFutures",
    }  # fmt: skip
    reading = await reader.ask(Market.SPOT, "/sapi/v1/account/apiRestrictions")
    assert {name for name, value in reading.items() if value is True} == {"enableReading"}
    assert reading.keys() == trading.keys()
    assert reading["enableWithdrawals"] is False
    sandbox.accounts.add("blind", "secret", permissions={"enableFutures": True, "enableWithdrawals": True})
    blind = trader_of(sandbox, key="blind", secret="secret")
    await blind.ask(Market.SPOT, "/sapi/v1/account/apiRestrictions", status=401)
    assert (await blind.limit(Market.UM))["status"] == "NEW"


async def test_other_accounts_see_nothing_of_each_other(sandbox, trader, trader_of):
    sandbox.accounts.add("second", "secret")
    other = trader_of(sandbox, key="second", secret="secret")
    order = await trader.limit(Market.SPOT)
    assert await other.open_orders(Market.SPOT) == []
    reference = f"symbol=BTCUSDT&orderId={order['orderId']}"
    assert (await other.ask(Market.SPOT, "order", reference, "DELETE", 400))["code"] == -2011
    assert (await other.ask(Market.SPOT, "order", reference, status=400))["code"] == -2013
    free = (await other.ask(Market.SPOT, "account"))["balances"][3]
    assert free["locked"] == "0.00000000"
    assert (await other.key_call(Market.UM, "listenKey")) != await trader.key_call(Market.UM, "listenKey")


async def test_removed_key_is_unknown_at_once(sandbox, trader, reader):
    sandbox.accounts.remove(READ_KEY)
    assert (await reader.ask(Market.SPOT, "openOrders", status=401))["code"] == -2015
    await trader.open_orders(Market.SPOT)


async def test_ed25519_key_signs_bytes_and_is_refused_for_anything_else(sandbox, http, clock, trader):
    private, pem = ed25519()
    sandbox.accounts.add("edkey", public_key=pem, account=trader.key, permissions=READ_ONLY)
    await trader.limit(Market.SPOT)

    async def ask(signature, query):
        quoted = URL.build(query={"signature": signature}).raw_query_string.replace("+", "%2B")
        target = f"/api/v3/openOrders?{query}&{quoted}"
        return await http.call(sandbox.urls["UPSTREAM_API"], target, headers={"X-MBX-APIKEY": "edkey"})

    query = f"timestamp={clock()}"
    signature = base64.b64encode(private.sign(query.encode())).decode()
    status, rows, _ = await ask(signature, query)
    assert (status, rows) == (200, trader.truth(Market.SPOT))
    for bad in ("", "x", signature[:-4] + "AAA=", base64.b64encode(private.sign(b"other")).decode()):
        status, body, _ = await ask(bad, query)
        assert (status, body["code"]) == (400, -1102 if not bad else -1022)
    assert (await ask(signature, f"{query}&symbol=BTCUSDT"))[1]["code"] == -1022


async def test_ed25519_key_logs_on_and_subscribes(sandbox, clock, trader):
    private, pem = ed25519()
    sandbox.accounts.add("edkey", public_key=pem, account=trader.key)
    session = await trader.session()
    params = {"apiKey": "edkey", "timestamp": clock()}
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    params["signature"] = base64.b64encode(private.sign(text.encode())).decode()
    refused = await session.ask("userDataStream.subscribe")
    assert (refused["status"], refused["error"]["code"]) == (401, -2015)
    bad = await session.ask("session.logon", params | {"signature": "AAAA"})
    assert (bad["status"], bad["error"]["code"]) == (400, -1022)
    assert (await session.ask("session.logon", params))["result"]["apiKey"] == "edkey"
    assert (await session.ask("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
    assert (await session.ask("session.subscriptions"))["result"] == [{"subscriptionId": 0}]
    # Logged on, requests need no signature any more.
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.1",
             "price": "50000", "timestamp": clock()}  # fmt: skip
    placed = await session.ask("order.place", order)
    assert placed["result"]["status"] == "NEW"
    assert (await session.event())["i"] == placed["result"]["orderId"]
    await session.event()
    await session.ask("session.logout")
    assert await session.frame() == {
        "subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": clock()},
    }  # fmt: skip
    assert (await session.ask("order.place", order))["status"] == 401


async def test_listen_token_needs_the_key_only_and_a_new_one_prolongs_the_subscription(
    sandbox, clock, trader
):
    async def token(query=""):
        return await trader.key_call(Market.SPOT, f"/sapi/v1/userListenToken{query}")

    session, first = await trader.session(), await token("?validity=60000")
    assert first["expirationTime"] == clock() + 60_000
    bad = await session.ask("userDataStream.subscribe.listenToken", {"listenToken": "nonsense"})
    assert (bad["status"], bad["error"]["code"]) == (400, -1209)
    method = "userDataStream.subscribe.listenToken"
    answer = await session.ask(method, {"listenToken": first["token"]})
    assert answer["result"] == {"subscriptionId": 0, "expirationTime": clock() + 60_000}
    await trader.limit(Market.SPOT)
    assert (await session.event())["x"] == "NEW"
    await session.event()
    clock.now_ms += 50_000
    second = await token()
    answer = await session.ask(method, {"listenToken": second["token"]})
    assert answer["result"] == {"subscriptionId": 0, "expirationTime": clock() + 86_400_000}
    clock.now_ms += 20_000
    assert await session.is_silent(0.2)
    clock.now_ms += 86_400_000
    assert (await session.event())["e"] == "eventStreamTerminated"
    assert (await session.ask(method, {"listenToken": second["token"]}))["error"]["code"] == -1209


async def test_subscription_wants_a_fresh_and_true_signature_and_is_one_per_account(clock, trader, reader):
    session = await trader.session()
    method = "userDataStream.subscribe.signature"
    good = session.signed()
    for change, code in (
        ({"signature": "0" * 64}, -1022), ({"apiKey": "unknown"}, -2015), ({"recvWindow": 60_001}, -1022),
    ):  # fmt: skip
        assert (await session.ask(method, good | change))["error"]["code"] == code
    clock.now_ms += 6000
    assert (await session.ask(method, good))["error"]["code"] == -1021
    assert (await session.ask(method, session.signed()))["result"] == {"subscriptionId": 0}
    assert (await session.ask(method, session.signed()))["error"]["code"] == -2035
    # Another key of the same account is the same account.
    reading = await reader.subscribed()
    await trader.limit(Market.SPOT)
    assert (await reading.event())["x"] == (await session.event())["x"] == "NEW"
    assert (await session.ask("userDataStream.unsubscribe", {"subscriptionId": 7}))["error"]["code"] == -2036
    assert (await session.ask("userDataStream.unsubscribe"))["result"] == {}
