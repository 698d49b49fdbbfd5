"""The demo beside a real gateway: it lives in a folder of its own, and its password works each time."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from tests.support.processes import GatewayProcess, Program, Start, until
from tests.support.service import told_password

pytestmark = pytest.mark.e2e


def contents(folder: Path) -> dict[str, str]:
    """Return what is in a folder, but for the demo's own one."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "demo"
    }


def log_in(gateway: GatewayProcess, name: str, password: str) -> int:
    body = f'{{"username":"{name}","password":"{password}"}}'.encode()
    return gateway.call("POST", "/admin/api/login", {"Content-Type": "application/json"}, body).status


def ready(gateway: GatewayProcess) -> GatewayProcess:
    until(lambda: "Stop it" in gateway.stdout, "the demo says what to try")
    return gateway


def stop(gateway: GatewayProcess) -> None:
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.wait() == 0
    gateway.check_healthy()


def test_demo_never_touches_what_a_service_has_set(start_bare: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    production = {"DATA_DIR": data, "DATABASE_URL": f"sqlite:///{data}/production.db", "WHITELIST": ""}
    created = Program(tmp_path, "whitelist", "list", **production)
    assert (created.wait(), created.stdout) == (0, "The whitelist is empty: nobody may call.\n")
    before = contents(data)
    assert "production.db" in before

    # What is set for the real exchange is not meant for the simulated one either.
    others = {"EGRESS": "192.0.2.77", "ADMIN_PASSWORD": "123456", "UPSTREAM_FAPI": "off"}
    for _ in range(2):
        gateway = ready(start_bare("demo", **production, **others))
        assert gateway.call("GET", "/fapi/v1/time").status == 200
        assert gateway.call("GET", "/api/v3/ticker/bookTicker?symbol=BTCUSDT").status == 200
        assert log_in(gateway, *told_password(gateway)) == 200
        stop(gateway)
    assert contents(data) == before
    after = Program(tmp_path, "whitelist", "list", **production)
    assert (after.wait(), after.stdout) == (0, "The whitelist is empty: nobody may call.\n")


def test_demo_runs_beside_the_gateway_of_the_same_folder(start_bare: Start) -> None:
    gateway = start_bare(WHITELIST="")
    demo = ready(start_bare("demo", WHITELIST=""))
    assert demo.call("GET", "/api/v3/time").status == 200
    assert gateway.call("GET", "/api/v3/time").status == 403
    stop(demo)
    stop(gateway)


def test_second_start_has_a_password_that_works_and_the_old_one_does_not(start_bare: Start) -> None:
    first = ready(start_bare("demo", WHITELIST=""))
    name, old = told_password(first)
    assert log_in(first, name, old) == 200
    stop(first)
    second = ready(start_bare("demo", WHITELIST=""))
    assert log_in(second, *told_password(second)) == 200
    assert told_password(second)[1] != old
    assert log_in(second, name, old) == 401
    assert old not in second.stderr
    stop(second)


def test_second_demo_at_once_is_refused_and_takes_nothing_away(start_bare: Start, tmp_path: Path) -> None:
    first = ready(start_bare("demo", WHITELIST=""))
    second = Program(tmp_path, "demo", HOST="127.0.0.1", PORT=0, DATA_DIR=first.data)
    second.check_refusal(2, f"(pid {first.process.pid})", "demo")
    assert log_in(first, *told_password(first)) == 200
    stop(first)
