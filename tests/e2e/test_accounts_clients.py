"""Open orders out of memory for real client libraries: random orders on three markets, none told wrongly, no weight.

The exchange keeps every state of the open orders; what a library was told has to be the one of that moment.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, READ_KEY, READ_SECRET
from tests.support.authority import ca_file
from tests.support.processes import (
    KEY_HEADER,
    PATIENCE_S,
    ROOT,
    GatewayProcess,
    SandboxThread,
    Start,
    environment,
    parameter,
    run_client,
    signed,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATHS = {"spot": "/api/v3/openOrders", "um": "/fapi/v1/openOrders", "cm": "/dapi/v1/openOrders"}
# Weight of one symbol's and of all open orders. Source: rest-api.md of 2026-07-21.
WEIGHTS = {"spot": (6, 80), "um": (1, 40), "cm": (1, 40)}
LIBRARIES = ("binance_interface", "python_binance", "ccxt")
LEAST_ORDERS = 200


def account(gateway: GatewayProcess, *words: str, lines: str = "") -> None:
    """Set an account up as its owner does."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "account", *words],
        cwd=gateway.folder, env=environment(gateway.settings) | {"SSL_CERT_FILE": ca_file()},
        input=lines.encode(), capture_output=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    """Start one whose accounts are live: spot with a key of its own, futures with the clients' key alone."""
    gateway = start_for_module(CACHE_ENABLED=0)
    account(gateway, "add", "trader", "spot", "--secret", "--stdin", lines=f"{READ_KEY}\n{READ_SECRET}\n")
    account(gateway, "link", "trader", "--stdin", lines=f"{API_KEY}\n")
    account(gateway, "add", "trader-um", "um", "--key-from-calls")
    account(gateway, "add", "trader-cm", "cm", "--key-from-calls")

    def is_hit(path: str) -> bool:
        answer = gateway.call("GET", signed(path), KEY_HEADER)
        assert answer.status == 200, answer.body
        return answer.headers.get("x-resender-cache") == "hit"

    waiting = set(PATHS.values())

    def are_live() -> bool:
        waiting.difference_update([path for path in waiting if is_hit(path)])
        return not waiting

    until(are_live, "open orders come out of memory", pause_s=0.5)
    return gateway


@pytest.fixture(scope="module")
def counts(gateway: GatewayProcess) -> dict[str, int]:
    return answers(gateway)


@pytest.fixture(scope="module")
def results(
    gateway: GatewayProcess, exchange: SandboxThread, counts: dict[str, int]
) -> dict[str, dict[str, Any]]:
    return {name: run_client(name, gateway.url, "orders") for name in LIBRARIES}


def answers(gateway: GatewayProcess) -> dict[str, int]:
    """Read off the metrics what the accounts were asked for, by result."""
    text = gateway.call("GET", "/metrics").body.decode()
    found: dict[str, int] = {}
    for result, count in re.findall(r'account_answers_total\{.*result="(\w+)"\} (\S+)', text):
        found[result] = found.get(result, 0) + int(float(count))
    return found


def normal(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, sort_keys=True)


@pytest.mark.parametrize("name", LIBRARIES)
def test_open_orders_are_those_of_the_exchange_after_each_change(
    results: dict[str, dict[str, Any]], exchange: SandboxThread, name: str
) -> None:
    looked = 0
    for market in PATHS:
        found = results[name][market]
        assert found["amend"]
        histories: dict[str | None, list[tuple[int, str]]] = {}
        for seen in found["seen"]:
            symbol = seen["symbol"]
            if symbol not in histories:
                states = exchange.ask(
                    lambda sandbox: sandbox.exchange.open_orders_history(Market(market), API_KEY, symbol)  # noqa: B023
                )
                histories[symbol] = [(start, normal(json.loads(body))) for start, body in states]
            states = histories[symbol]
            ends = [start for start, _ in states[1:]] + [1 << 62]
            told = normal(seen["rows"])
            assert any(
                told == body and start <= seen["end"] and end >= seen["start"]
                for (start, body), end in zip(states, ends, strict=True)
            ), (market, seen)
            looked += 1
    print(f"{name}: {looked} times open orders, 0 differences")


def test_nine_in_ten_answers_come_out_of_memory_at_a_twentieth_of_the_weight(
    gateway: GatewayProcess,
    exchange: SandboxThread,
    counts: dict[str, int],
    results: dict[str, dict[str, Any]],
) -> None:
    plays = [(market, play) for found in results.values() for market, play in found.items()]
    orders = sum(play["place"] for _, play in plays)
    asked = sum(len(play["seen"]) for _, play in plays)
    after = answers(gateway)
    hits = after["hit"] - counts["hit"]
    without = sum(WEIGHTS[market][seen["symbol"] is None] for market, play in plays for seen in play["seen"])
    first = min(seen["start"] for _, play in plays for seen in play["seen"])
    used = 0
    for market, path in PATHS.items():
        for call in exchange.calls(path, "GET"):
            if call.received_ms >= first:  # also what the gateway reads by itself
                used += WEIGHTS[market][parameter(call, "symbol") is None]
    print(
        f"{orders} orders placed, {sum(play['amend'] for _, play in plays)} amended, asked {asked} times for open "
        f"orders: {hits} hits ({hits / asked:.1%}); weight {used} instead of {without} ({used / without:.1%})"
    )
    assert orders >= LEAST_ORDERS
    assert hits > 0.9 * asked
    assert used <= 0.05 * without
