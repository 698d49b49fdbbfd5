"""Readiness and the token of the figures where several processes share a port: all of them say the same."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.processes import PATIENCE_S, Answer, GatewayProcess, Start, until

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

TOKEN = "scrape-me-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Kept:
    """One connection of a client; which worker has it, the kernel decides."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)

    def get(self, target: str, headers: dict[str, str] | None = None) -> Answer:
        self._connection.request("GET", target, headers=headers or {})
        return Answer(self._connection.getresponse())

    def close(self) -> None:
        self._connection.close()


@contextmanager
def kept_ones(gateway: GatewayProcess, count: int = 16) -> Iterator[list[Kept]]:
    """Make so many connections that each worker has some."""
    kept = [Kept(gateway) for _ in range(count)]
    try:
        yield kept
    finally:
        for each in kept:
            each.close()


def test_every_connection_is_told_the_same(start: Start) -> None:
    gateway = start(
        WORKERS=2, WHITELIST="203.0.113.5", METRICS_TOKEN=TOKEN, LOG_LEVEL="INFO", NODE_NAME="here"
    )
    until(lambda: "2 workers serve on" in gateway.stderr, "all workers are ready")
    with kept_ones(gateway) as many:
        # Strangers: the status alone, and figures for the token only.
        assert [each.get("/readyz").json() for each in many] == [{"status": "ready"}] * 16
        assert {each.get("/metrics").status for each in many} == {403}
        assert {each.get("/metrics", {"Authorization": "Bearer wrong"}).status for each in many} == {403}
        pages = [each.get("/metrics", BEARER) for each in many]
        assert {page.status for page in pages} == {200}
        assert all(b"resender_worker_up" in page.body for page in pages)
        assert {each.get("/api/v3/time", BEARER).status for each in many} == {403}
        assert {each.get("/local/status", BEARER).status for each in many} == {403}

        # Clients: what is looked at, too.
        assert gateway.command("whitelist", "add", "127.0.0.1").wait() == 0
        until(lambda: {each.get("/metrics").status for each in many} == {200}, "all let it in")
        for each in many:
            body = each.get("/readyz").json()
            assert body["serving"] is True
            assert [check["ok"] for check in body["checks"].values()] == [True, True, True]

        # A node that is to be left out says so on every connection, and goes on.
        drained = gateway.command("nodes", "drain", "here")
        assert drained.wait() == 0, drained.stderr
        until(lambda: {each.get("/readyz").status for each in many} == {503}, "none is ready")
        assert {each.get("/readyz").json()["status"] for each in many} == {"not_ready"}
        until(lambda: {each.get("/healthz").status for each in many} == {503}, "none is healthy")
        assert {each.get("/api/v3/time").status for each in many} == {200}
    gateway.stop(secrets=[TOKEN])
