"""Run the simulated exchange with many accounts that have open orders, for bench/accounts.py.

`accounts_exchange.py CA_FILE ACCOUNTS ORDERS` prints its addresses as one line of JSON, then answers each line on
standard input with one line: `amend N` reduces an order of account N and tells when that happened and what
it is now, `busy RATE` has so many orders a second changed all over the accounts from now on (0: none), anything
else gives counters. The end of standard input ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.core.binance.markets import Market
from resender.sandbox.authority import throwaway_authority
from resender.sandbox.config import READ_ONLY, SandboxConfig
from resender.sandbox.sandbox import Sandbox

SYMBOLS = ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"]
_ENOUGH = 10_000_000


def keys(number: int) -> tuple[str, str, str, str]:
    """Return key and secret of an account's client, and those that may only read."""
    name = f"{number:04}"
    return (f"BenchTrader{name}".ljust(64, "0"), f"BenchTraderSecret{name}".ljust(64, "0"),
            f"BenchReader{name}".ljust(64, "0"), f"BenchReaderSecret{name}".ljust(64, "0"))  # fmt: skip


class Venue:
    """The exchange and what moves in it."""

    def __init__(self, sandbox: Sandbox, accounts: int, orders: int) -> None:
        self.exchange = sandbox.exchange
        self.sandbox = sandbox
        self.changes = 0
        self._names = [self.exchange.accounts.of(keys(number)[0]).name for number in range(accounts)]
        self._dice = random.Random(1)
        for number in range(accounts):
            for each in range(orders):
                self._place(number, SYMBOLS[each % len(SYMBOLS)])

    def _place(self, number: int, symbol: str) -> None:
        exchange, now = self.exchange, self.exchange.now()
        spec = exchange.spec(Market.SPOT, symbol)
        assert spec is not None
        bid = float(exchange.stores[Market.SPOT].book_ticker(symbol, now).bid)
        params = {
            "symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1000",
            "price": f"{bid * self._dice.uniform(0.4, 0.6):.{spec.price_decimals}f}",
        }  # fmt: skip
        exchange.desk.place(spec, params, self._names[number], now)

    def amend(self, number: int) -> tuple[float, str, int, float]:
        """Reduce an order of an account a little.

        Shape: when (monotonic seconds), symbol, number and quantity of the order.
        """
        orders = self.exchange.desk.open_orders(Market.SPOT, self._names[number])
        order = self._dice.choice(orders)
        at = time.monotonic()
        self.exchange.desk.reduce(order, order.qty - 1, order.client_id, self.exchange.now())
        self.changes += 1
        return at, order.symbol, order.order_id, float(order.qty)

    async def stay_busy(self, rate: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += 0.01
            for _ in range(rate // 100):
                self.amend(self._dice.randrange(len(self._names)))
            await asyncio.sleep(max(0.0, due - loop.time()))


async def main(ca_file: str, accounts: int, orders: int) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    every = [keys(number) for number in range(accounts)]
    config = SandboxConfig(
        spot_symbols=SYMBOLS, um_symbols=2, cm_symbols=2, event_delay_ms=0.0,
        accounts={key: secret for one in every for key, secret in (one[:2], one[2:])},
        same_account={one[2]: one[0] for one in every},
        permissions={one[2]: READ_ONLY for one in every},
        balances={"spot": {"USDT": "1000000000000"}, "um": {}, "cm": {}},
        weight_limits={"spot": _ENOUGH, "sapi": _ENOUGH}, connection_limit=2 * accounts + 100, history=1000,
    )  # fmt: skip
    async with Sandbox(config) as sandbox:
        venue = Venue(sandbox, accounts, orders)
        throwaway_authority().write_ca(ca_file)
        print(json.dumps(sandbox.urls), flush=True)
        busy: asyncio.Task[None] | None = None
        while line := (await reader.readline()).decode().split():
            answer: Any = {"changes": venue.changes, "subscriptions": sandbox.ws_apis[Market.SPOT].accepted}
            if line[0] == "amend":
                answer = venue.amend(int(line[1]))
            elif line[0] == "busy":
                if busy is not None:
                    busy.cancel()
                busy = asyncio.create_task(venue.stay_busy(int(line[1]))) if line[1] != "0" else None
            print(json.dumps(answer), flush=True)
        if busy is not None:
            busy.cancel()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
