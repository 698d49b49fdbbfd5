"""No secret of an account gets out: everything the gateway has written while much went wrong is looked through.

Keys, secrets, signatures, listenKeys, listenTokens, private keys: in logs, tables, files, pages, errors, metrics.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import aiohttp
import orjson
import pytest

from resender.account.key_check import quoted
from resender.api_keys import Signer, digest_of, hint_of
from resender.core.binance.markets import Market
from resender.log import JsonFormatter
from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET, Fault, SandboxConfig
from tests.component.accounts.test_security import ed25519
from tests.component.accounts.test_sessions import session, signed
from tests.support.account_judge import Trader
from tests.support.account_lab import AccountLab, account_lab, is_hit
from tests.support.admin import PASSWORD, Browser
from tests.support.client import Reply, call
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
MORE_KEY, MORE_SECRET = "OneMoreKeyOfTheSameAccount" + "2" * 38, "ItsSecret" + "2" * 55
SIGNATURE = re.compile(rb"signature=([^&\s]+)")


class Written(logging.Handler):
    """Every line of the process log, tracebacks too, as it is written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("resender.sandbox", "asyncio", "aiohttp", "tornado", "peewee")) or (
            record.levelno >= logging.WARNING
        ):
            self.lines.append(self.format(record))


@contextmanager
def listening() -> Iterator[Written]:
    """Keep the log of everything, in all its detail."""
    written, root = Written(), logging.getLogger()
    level = root.level
    root.addHandler(written)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.removeHandler(written)
        root.setLevel(level)


class Told:
    """What was said to clients and people, by where."""

    def __init__(self, lab: AccountLab) -> None:
        self.lab = lab
        self.parts: dict[str, bytes] = {}

    async def ask(
        self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"", keep: bool = True
    ) -> Reply:
        reply = await call(self.lab.run.port, method, target, headers=headers, body=body)
        if keep:
            self.parts[f"{len(self.parts)} {method} {target[:40]}"] = reply.raw
        return reply


def secrets_of(lab: AccountLab, *more: str) -> dict[str, bytes]:
    """Return everything that may be nowhere, by what it is."""
    found = {
        "API key": API_KEY, "API secret": API_SECRET, "own key": READ_KEY, "own secret": READ_SECRET,
        "more key": MORE_KEY, "more secret": MORE_SECRET,
    }  # fmt: skip
    found |= {f"more {number}": text for number, text in enumerate(more)}
    keys = lab.sandbox.exchange.listen_keys
    found |= {f"listenKey of {place}": key.text for place, key in keys._keys.items()}
    found |= {f"listenToken {number}": text for number, text in enumerate(keys._tokens)}
    for number, seen in enumerate(lab.sandbox.calls):
        for signature in SIGNATURE.findall(seen.target.encode() + b" " + seen.body):
            found[f"signature {number}"] = unquote(signature.decode())
    return {name: text.encode() for name, text in found.items()}


def look(secrets: dict[str, bytes], written: dict[str, bytes]) -> list[str]:
    """Return where a secret is, or the larger part of one; also as it stands in a query or in JSON."""
    lost = []
    for name, secret in secrets.items():
        # Those of the sandbox end in the same zeros.
        forms = {secret[:40], quote(secret, safe="").encode()[:40], orjson.dumps(secret.decode())[1:41]}
        for place, text in written.items():
            if any(form in text for form in forms):
                lost.append(f"{name} in {place}")
    return lost


async def trade(lab: AccountLab, told: Told, private: str, token: str) -> None:
    """Use accounts of all kinds while everything goes wrong that can."""
    sandbox, key = lab.sandbox, ("X-MBX-APIKEY", API_KEY)
    for market, symbol, quantity in ((UM, "BTCUSDT", "0.02"), (SPOT, "BTCUSDT", "0.02")):
        await lab.place(market, symbol, quantity=quantity, price=Trader(lab, market).price(symbol))
        await lab.until_hit(market, seconds=25)
    assert is_hit(await lab.open_orders(UM))
    # Over the WebSocket API, and a stream of the client's own.
    async with session(lab, SPOT) as api:
        await api.ask("order.place", signed(symbol="BTCUSDT", side="BUY", type="LIMIT", timeInForce="GTC",
                                            quantity="0.02", price=Trader(lab, SPOT).price("BTCUSDT")))  # fmt: skip
        await api.ask("order.place", signed(symbol="NOPE"), status=400)
    sandbox.accounts.add("EdKey" + "3" * 59, public_key=_public(private))
    signer = Signer.parse(private)
    query = f"timestamp={int(time.time() * 1000)}"
    target = f"/fapi/v1/openOrders?{query}&signature={quoted(signer.sign(query.encode()))}"
    await told.ask("GET", target, ("X-MBX-APIKEY", "EdKey" + "3" * 59))
    listen_key = (await told.ask("POST", "/fapi/v1/listenKey", key, keep=False)).json()["listenKey"]
    async with aiohttp.ClientSession() as client:
        async with client.ws_connect(f"{lab.run.url}/private/ws?listenKey={listen_key}") as socket:
            await asyncio.sleep(0.2)
            await socket.close()
        async with client.ws_connect(f"{lab.run.url}/local/um/account", headers=dict([key])) as socket:
            told.parts["WebSocket of the account"] = (await socket.receive(timeout=5)).data.encode()
        with suppress(aiohttp.WSServerHandshakeError):
            await client.ws_connect(f"{lab.run.url}/ws/{listen_key}x?signature={'ab' * 32}")
    reply = await told.ask("POST", "/local/margin/userDataStream", key, body=f"listenToken={token}".encode())
    assert reply.status == 200, reply.raw
    # What is odd, refused, or cannot be read.
    stamp = int(time.time() * 1000)
    for path, body in (
        ("/local/spot/userDataStream", f"apiKey={API_KEY}&timestamp={stamp}&signature={'cd' * 32}"),
        ("/local/spot/userDataStream", f"apiKey={API_KEY}&timestamp=x&signature={signer.sign(b'x')}"),
        ("/local/spot/userDataStream", f"apiKey={API_KEY}&secret={API_SECRET}&signature=1"),
        ("/local/spot/userDataStream", f'{{"apiKey":"{API_KEY}","timestamp":{stamp},"signature":["{API_SECRET}"'),
        ("/local/margin/userDataStream", f"listenToken={token}x"),
        ("/local/margin/userDataStream", f"listenToken={token}&apiKey={API_KEY}"),
        (f"/local/spot/userDataStream?apiKey={API_KEY}&signature={'cd' * 32}", "x"),
    ):  # fmt: skip
        assert (await told.ask("POST", path, key, body=body.encode())).status >= 400
    for target in (
        f"/local/um/openOrders?apiKey={API_KEY}", f"/local/um/{API_KEY}", f"/local/um/orders?secret={API_SECRET}",
        f"/nowhere/{API_KEY}?signature={'ab' * 32}", f"/local/cm/openOrders?listenKey={listen_key}",
    ):  # fmt: skip
        assert (await told.ask("GET", target, key)).status >= 400
    await told.ask("GET", "/local/um/openOrders", ("Authorization", f"Bearer {API_SECRET}"))
    # Faults of the exchange, of REST and of streams.
    listen = "listenKey"
    for fault in (
        Fault("status", match=listen, status=500, body=b"oops"),
        Fault("reset_before", match=listen),
        Fault(
            "status", match=listen, status=400, body=orjson.dumps({"code": -2015, "msg": "Invalid API-key"})
        ),
        Fault("html", match="apiRestrictions"),
        Fault("reset_before", match="/fapi/v1/openOrders"),
        Fault("reset_mid_body", match="/api/v3/openOrders"),
        Fault("status", match="/dapi/v1/openOrders", status=500, body=b"oops", times=2),
        Fault("reset_before", match="/api/v3/order", method="POST", after=True),
    ):
        sandbox.faults.add(fault)
    for market in (SPOT, UM, CM):
        fault = sandbox.faults.accounts[market]
        fault.drop()
        await asyncio.sleep(0.3)
        fault.expire_keys()
        fault.terminate()
        sandbox.faults.stream(market).refuse = True
        await lab.open_orders(market)
    sandbox.ws_apis[SPOT].faults.refuse_status = 403
    await lab.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
    await lab.signed("GET", "/fapi/v1/openOrders", secret="wrong")
    await lab.signed("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=API_KEY)
    await asyncio.sleep(4.0)
    for market in (SPOT, UM, CM):
        sandbox.faults.stream(market).refuse = False
    # The listener of the exchange is away for a moment: what the HTTP client says has addresses in it.
    await sandbox.stop_listening("fapi")
    for account in lab.gateway.accounts.all:
        account.suspect("a client ended the listenKey")
    await lab.open_orders(UM)
    await asyncio.sleep(3.0)
    await sandbox.start_listening("fapi")


def _public(private: str) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key = load_pem_private_key(private.encode(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def administer(lab: AccountLab, told: Told, private: str) -> Browser:
    """Add accounts and keys as the owner does, good ones and bad ones, and read all there is."""
    browser = Browser(lab.run.port)
    assert (await browser.log_in()).status == 200

    async def send(method: str, path: str, body: object = None, *, raw: bytes | None = None) -> Reply:
        reply = await browser.send(method, path, body, raw=raw)
        told.parts[f"{len(told.parts)} {method} {path[:40]}"] = reply.body
        return reply

    own = {"name": "own", "market": "cm", "mode": "secret", "key": READ_KEY, "secret": READ_SECRET}
    assert (await send("POST", "accounts", own)).status == 201
    for body in (
        {**own, "name": "x", "key": API_KEY, "secret": API_SECRET},
        {**own, "name": "x", "secret": MORE_SECRET},
        {**own, "name": "x", "secret": private[:-50]},
        {**own, "name": "x", "secret": private},
        {**own, "name": "x", "key": f"{READ_KEY}!", "secret": READ_SECRET},
        {**own, "name": "x", "mode": "key", "public_key": private},
        {**own, "name": "own"},
        {**own, "name": "x", "apiKey": API_SECRET},
        {**own, "market": API_SECRET},
        {**own, "name": API_SECRET * 5},
        {"name": "y", "market": "um", "mode": "key", "key": [API_KEY]},
    ):
        assert (await send("POST", "accounts", body)).status >= 400, body
    assert (await send("POST", "accounts", raw=b'{"secret":"' + API_SECRET.encode())).status >= 400
    items = (await send("GET", "accounts")).json()["items"]
    number = next(item["id"] for item in items if item["name"] == "um")
    assert (await send("POST", f"accounts/{number}/keys", {"key": MORE_KEY})).status == 201
    assert (
        await send("POST", f"accounts/{number}/keys", {"key": READ_KEY, "public_key": private})
    ).status >= 400
    return browser


async def read_everything(lab: AccountLab, told: Told, browser: Browser) -> None:
    """Read every page and every answer about accounts and about what went on."""
    for path in ("accounts", "status", "clients", "logs?limit=500", "logs/export", "log", "audit?limit=500", "settings",
                 "refused", "users", "doctor", *(f"accounts/{each.spec.id}" for each in lab.gateway.accounts.all),
                 "/admin/accounts", "/admin/logs", "/admin/", "/metrics", "/local/status", "/healthz"):  # fmt: skip
        reply = await browser.send("GET", path)
        told.parts[f"page {path}"] = reply.body
    for market in ("um", "cm", "spot", "margin"):
        for word in ("account", "orders", "userDataStream"):
            await told.ask("GET", f"/local/{market}/{word}", ("X-MBX-APIKEY", API_KEY))


@pytest.mark.slow
async def test_secrets_are_in_nothing_the_gateway_writes(tmp_path: Path) -> None:
    private, _ = ed25519()
    config = SandboxConfig(
        spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits={"spot": 60_000, "futures": 60_000}
    )
    settings = {
        "admin_password": PASSWORD, "weight_limit_spot": 60_000, "weight_limit_futures": 60_000, "stream_silence_s": 3,
        "log_level": "DEBUG",
    }  # fmt: skip
    with listening() as written:
        async with account_lab(tmp_path, sandbox=config, **settings) as lab:
            lab.sandbox.accounts.add(MORE_KEY, MORE_SECRET, account=API_KEY)
            told = Told(lab)
            await lab.add("um", "key", "um")
            await lab.add("spot", "secret", "spot")
            await lab.add("margin", "signed", "margin")
            reply = await told.ask("POST", "/sapi/v1/userListenToken", ("X-MBX-APIKEY", API_KEY), keep=False)
            token = str(reply.json()["token"])
            assert (await lab.signed("GET", "/sapi/v1/margin/openOrders")).status in (200, 404)
            browser = await administer(lab, told, private)
            await trade(lab, told, private, token)
            await wait_until(lambda: lab.gateway.store.stats.log_queued == 0, 10)
            await read_everything(lab, told, browser)
            seen = secrets_of(lab, token)
            # The body of a private key, line by line.
            seen |= {
                f"private key {n}": line.encode()
                for n, line in enumerate(private.splitlines())
                if "-" not in line
            }
            files = tmp_path
        assert len(seen) > 30, "the exchange has seen signatures"
    parts = dict(told.parts)
    parts |= {f"log line {n}: {line[:300]}": line.encode() for n, line in enumerate(written.lines)}
    names = [path for path in files.rglob("*") if path.is_file()]
    parts |= {f"file {path.name}": path.read_bytes() for path in names}
    assert any(path.suffix.startswith((".db", ".sqlite")) or "db" in path.name for path in names), names
    for word in (b"user data ended",):
        assert any(word in text for place, text in parts.items() if place.startswith("log line")), word
    assert not look(seen, parts)
    # What may be there instead: the digest, and the last four characters.
    database = b"".join(text for place, text in parts.items() if place.startswith("file"))
    assert digest_of(API_KEY).encode() in database
    assert hint_of(API_KEY) == API_KEY[-4:]
