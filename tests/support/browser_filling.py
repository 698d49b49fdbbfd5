"""A gateway with something on every page, for the tests that look at all of them.

Calls, refusals, log rows, notes, users, tokens, rules and an exchange that is in trouble. The
texts are of the kind people write, and of the kind that breaks pages. It checks nothing.
"""

from __future__ import annotations

import time

from resender.sandbox import Fault
from tests.support.browser import Admin
from tests.support.processes import KEY_HEADER, GatewayProcess, SandboxThread, signed, until

MARKUP = "<img src=x onerror=\"console.error('script ran')\"><script>console.error('script ran')</script>"
NOTES = [
    "策略服务器 东京，二号机柜",
    "desk 4",
    "A note that goes on and on, because whoever wrote it wanted to be sure that nobody asks whose machine it is",
    "NoSpacesInThisOne" * 9,
    MARKUP,
    "=cmd|'/C calc'!A0",
]  # fmt: skip


def fill(gateway: GatewayProcess, exchange: SandboxThread, admin: Admin) -> None:
    """Put something on every page; the gateway has to trust 127.0.0.1 as a proxy."""
    admin.do("PUT", "log", {"enabled": True})
    _people(admin)
    _whitelist(admin)
    _calls(gateway, exchange)
    _accounts(gateway, admin)
    _alerts(admin)
    admin.do(
        "POST",
        "preload",
        {"market": "um", "symbols": "*USDT", "what": "1m,5m,bookTicker,depth20,aggTrade,markPrice"},
    )
    admin.do(
        "POST",
        "preload",
        {"market": "spot", "symbols": "BTC*,ETHUSDT", "what": "1s,1m,1h,1d,depth20,depth,trade,ticker"},
    )
    admin.do("POST", "preload", {"market": "cm", "symbols": "BTCUSD_PERP", "what": "15m"})
    until(lambda: admin.do("GET", "log")["queued"] == 0, "the log is written")
    until(lambda: admin.do("GET", "status")["series"]["live"] > 20, "the series come alive")
    until(lambda: any(len(each["closes"]) > 3 for each in admin.do("GET", "closes")["items"]), "closes come")


def _people(admin: Admin) -> None:
    for name in ("liwei", "ops.night-shift@example.com", "a" * 64):
        admin.do("POST", "users", {"username": name})
    user = admin.do("POST", "users", {"username": "former", "password": "another long one"})
    admin.do("PATCH", f"users/{user['id']}", {"enabled": False})
    soon = time.time_ns() // 1_000_000 + 86_400_000
    admin.do("POST", "tokens", {"name": "whitelist script", "scope": "write", "expires": None})
    admin.do("POST", "tokens", {"name": MARKUP[:100], "scope": "read", "expires": soon})
    agents = (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1",
        MARKUP,
    )
    for agent in agents:
        Admin.log_in(admin.gateway, agent=agent)
    admin.call("POST", "login", {"username": MARKUP, "password": "wrong password"})


def _whitelist(admin: Admin) -> None:
    lines = [
        f'203.0.113.{n},"{note.replace(chr(34), chr(34) * 2)}",{n % 3 > 0}' for n, note in enumerate(NOTES)
    ]
    lines += ["198.51.100.0/24,office,true", "2001:db8:85a3:8d3:1319:8a2e:370:7348,desk over IPv6,true"]
    lines += [f"192.0.2.{n},machine {n},true" for n in range(1, 9)]
    admin.do("POST", "whitelist/import", {"text": "\n".join(["address,note,enabled", *lines])})


def _alerts(admin: Admin) -> None:
    channels: list[dict[str, object]] = [
        {"name": "手机", "kind": "telegram", "language": "zh", "quiet": "23:00-07:00 +08:00",
         "fields": {"token": "123456789:" + "A" * 35, "chat_id": "-100200300", "server": "https://127.0.0.1:9"}},
        {"name": MARKUP[:64], "kind": "webhook", "least": "critical",
         "fields": {"url": "http://127.0.0.1:9/" + "x" * 90, "secret": "hush"}},
        {"name": "office", "kind": "email", "fields": {
            "host": "127.0.0.1", "port": "9", "sender": "gw@example.com", "to": "desk@example.com,ops@example.com"}},
    ]  # fmt: skip
    for channel in channels:
        admin.do("POST", "alerts", channel)
    admin.do("POST", "alerts/silence", {"kind": "disk", "hours": 4})


def _accounts(gateway: GatewayProcess, admin: Admin) -> None:
    for root in ("/fapi", "/dapi"):
        gateway.call("GET", signed(f"{root}/v1/openOrders"), KEY_HEADER)
    digest = next(key["digest"] for key in admin.do("GET", "accounts")["seen"] if key["market"] == "um")
    admin.do("POST", "accounts", {"name": "grid-bot", "market": "um", "mode": "key", "digest": digest})
    admin.do("POST", "accounts", {"name": "a" * 64, "market": "spot", "mode": "signed"})
    for number in range(12):
        order = f"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price={60_000 + number}"
        gateway.call("POST", signed("/fapi/v1/order", order), KEY_HEADER)


def _calls(gateway: GatewayProcess, exchange: SandboxThread) -> None:
    faults = exchange.sandbox.faults
    faults.add(Fault("status", match="/eapi/v1/time", status=418, headers={"Retry-After": "3000"}))
    region = '{"code":0,"msg":"Service unavailable from a restricted location"}'
    faults.add(Fault("status", match="/papi/v1/ping", status=451, body=region))
    faults.add(Fault("reset_before", match="/sapi/v1/system/status"))
    for path in ("/eapi/v1/time", "/eapi/v1/time", "/papi/v1/ping", "/sapi/v1/system/status"):
        gateway.call("GET", path)
    for symbol in ("BTCUSDT", "ETHUSDT", "NOSUCHCOIN"):
        for _ in range(3):
            gateway.call("GET", f"/api/v3/klines?symbol={symbol}&interval=1m&limit=200")
            gateway.call("GET", f"/fapi/v1/klines?symbol={symbol}&interval=5m&limit=200")
            gateway.call("GET", f"/fapi/v1/ticker/bookTicker?symbol={symbol}")
    gateway.call("GET", "/dapi/v1/klines?symbol=BTCUSD_PERP&interval=1h&startTime=1&limit=3")
    gateway.call("GET", signed("/api/v3/account"), KEY_HEADER)
    gateway.call("GET", "/api/v3/%3Cimg%20src=x%20onerror=alert(1)%3E?x=<script>alert(2)</script>")
    gateway.call("GET", "/api/v3/" + "a-very-long-path/" * 20)
    for number in range(1, 9):
        gateway.call(
            "GET", "/api/v3/depth?symbol=BTCUSDT&limit=500", {"X-Forwarded-For": f"192.0.2.{number}"}
        )
    for number in range(1, 6):
        for _ in range(number):
            strange = {"X-Forwarded-For": f"198.18.0.{number}" if number > 1 else "2001:db8:ffff::beef:1"}
            gateway.call("GET", "/api/v3/<script>alert(3)</script>", strange)
