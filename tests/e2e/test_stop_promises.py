"""What a stopping gateway announces about its connections, and what becomes of them."""

from __future__ import annotations

import signal
import socket

import pytest

from resender.sandbox import Fault
from tests.support.client import build, parse
from tests.support.processes import PATIENCE_S, SandboxThread, Start, until

pytestmark = pytest.mark.e2e


def test_answer_of_a_call_in_flight_at_the_stop_announces_the_end(
    start: Start, exchange: SandboxThread
) -> None:
    """A reverse proxy that was promised this connection would put an order on it."""
    gateway = start()
    target = "/api/v3/avgPrice?symbol=BTCUSDT"
    fault = exchange.sandbox.faults.add(Fault("delay", match="avgPrice", seconds=1.0))
    try:
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_S) as client:
            client.sendall(build("GET", target, close=False))
            until(lambda: fault.hits == 1, "the call is at the exchange")
            gateway.process.send_signal(signal.SIGTERM)
            received = b""
            while data := client.recv(65_536):  # until the gateway ends the connection
                received += data
    finally:
        exchange.sandbox.faults.clear()
    reply = parse(received)
    assert reply.status == 200
    assert reply.complete
    assert (reply.header("connection") or "").lower() == "close"
    assert reply.header("keep-alive") is None
    assert gateway.wait() == 0
