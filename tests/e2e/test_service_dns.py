"""The program is stopped while names cannot be resolved: it ends soon, well, and says nothing of its insides.

Resolving takes 3 seconds and fails, as where no server for names answers; without uvloop, whose own
resolver a test cannot reach.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes import until
from tests.support.service import Service, customised

pytestmark = pytest.mark.e2e

_SLOW_NAMES = """
import os, socket, time
_real = socket.getaddrinfo
def getaddrinfo(host, *rest, **options):
    if str(host).endswith(".test"):
        with open(os.environ["ASKED"], "a") as asked:
            asked.write(f"{host}\\n")
        time.sleep(float(os.environ["SLOW_S"]))
        raise socket.gaierror(-3, "Temporary failure in name resolution")
    return _real(host, *rest, **options)
socket.getaddrinfo = getaddrinfo
"""
_NAMES = {
    "UPSTREAM_API": "https://api.test",
    "UPSTREAM_FAPI": "https://fapi.test",
    "STREAM_SPOT": "wss://stream.test",
    "STREAM_UM": "wss://fstream.test",
    "CONNECT_TIMEOUT_S": "10",
    "SHUTDOWN_S": "0.5",
    "PRELOAD": "spot:BTCUSDT@1m,bookTicker;um:BTCUSDT@1m",
}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[float], Service]]:
    started: list[Service] = []

    def start(slow_s: float, **settings: object) -> Service:
        more = customised(tmp_path, _SLOW_NAMES, missing=["uvloop"])
        more |= {"ASKED": str(tmp_path / "asked"), "SLOW_S": str(slow_s), "PYTHONASYNCIODEBUG": "0"}
        started.append(Service(tmp_path, more=more, **{**_NAMES, **settings}))
        return started[-1]

    yield start
    for program in started:
        if program.process.poll() is None:
            program.kill()


def asked(gateway: Service) -> list[str]:
    with suppress(FileNotFoundError):
        return (gateway.folder / "asked").read_text().split()
    return []


def ends_well(gateway: Service, within_s: float) -> None:
    begun = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.wait() == 0, gateway.stderr
    assert time.monotonic() - begun < within_s, gateway.stderr
    for words in ("Unclosed", "ERROR", "Traceback", "never retrieved", "was destroyed", "coroutine"):
        assert words not in gateway.stderr, gateway.stderr


def call_beside(gateway: Service, method: str, target: str) -> threading.Thread:
    """Make a call that may be cut off."""

    def work() -> None:
        with suppress(OSError):
            gateway.call(method, target)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_stopped_while_names_hang(begin: Callable[..., Service]) -> None:
    gateway = begin(3.0)
    until(lambda: len(asked(gateway)) >= 2, "the program resolves names")
    calls = [call_beside(gateway, method, "/api/v3/order") for method in ("GET", "POST")]
    time.sleep(0.3)
    ends_well(gateway, within_s=3.0 + 0.5 + 5.0)
    for thread in calls:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("moment_s", [0.0, 0.4, 1.0])
def test_stopped_at_any_moment_while_names_fail(begin: Callable[..., Service], moment_s: float) -> None:
    gateway = begin(0.2)
    until(lambda: asked(gateway), "the program resolves names")
    calls = [call_beside(gateway, "GET", f"/{api}/v{n}/time") for api in ("api", "fapi") for n in (1, 3)]
    time.sleep(moment_s)
    ends_well(gateway, within_s=0.2 + 0.5 + 5.0)
    for thread in calls:
        thread.join(10)
        assert not thread.is_alive()


def test_stopped_between_tries(begin: Callable[..., Service]) -> None:
    gateway = begin(0.0)
    assert gateway.call("GET", "/api/v3/time").status == 502
    assert gateway.lines_with("api.test")
    ends_well(gateway, within_s=0.5 + 5.0)
