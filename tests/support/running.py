"""A gateway with its server in the test's own event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.cli.serve import bind
from resender.config import Config
from resender.config_loading import load_config
from resender.core.binance.markets import MARKETS
from resender.gateway import Gateway
from resender.web.application import make_server
from tests.support.authority import client_context

UPSTREAM_SETTINGS = tuple(facts.rest_setting for facts in MARKETS)


class Running:
    """A gateway that serves on `port`."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway = gateway
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


# Making the first account takes longer than all the rest of a start: only where it is asked for.
_has_admin = False


@pytest.fixture
def with_admin_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every gateway of a test have admin pages."""
    monkeypatch.setitem(globals(), "_has_admin", True)


def make_config(data_dir: Path, upstream: str = "", **settings: Any) -> Config:
    """Build a config: every upstream is `upstream` unless named, loopback is whitelisted."""
    values: dict[str, Any] = dict.fromkeys(UPSTREAM_SETTINGS, upstream or "https://127.0.0.1:9")
    streams = ("STREAM_SPOT", "STREAM_UM", "STREAM_CM", "STREAM_MARGIN")
    values |= dict.fromkeys((*streams, "WS_API_SPOT", "WS_API_UM", "WS_API_CM"), "wss://127.0.0.1:9")
    values["UPSTREAM_DATA"] = "off"
    values |= {"DATA_DIR": str(data_dir), "HOST": "127.0.0.1", "PORT": 0, "WHITELIST": "127.0.0.1"}
    # Tests name the streams they harm: one name for a symbol, whatever its contract.
    values["UM_KLINE_STREAM"] = "plain"
    values["ADMIN_ENABLED"] = _has_admin or any(name.startswith("admin") for name in settings)
    values |= {name.upper(): value for name, value in settings.items()}
    return load_config(values, {})


@asynccontextmanager
async def running(config: Config, *, port: int = 0, **options: Any) -> AsyncIterator[Running]:
    """Run a gateway that trusts the tests' authority; afterwards no task of it may be left."""
    options.setdefault("ssl_context", client_context())
    gateway = Gateway(config, **options)
    await gateway.start()
    server = make_server(gateway.services)
    sockets = bind(config.host, port or config.port)
    server.add_sockets(sockets)
    try:
        yield Running(gateway, sockets[0].getsockname()[1])
    finally:
        server.stop()
        await gateway.drain()
        await server.close_all_connections()
        await gateway.stop()
        for listening in sockets:
            listening.close()
    assert not len(gateway.tasks)
    assert not len(gateway.calls.tasks)


async def wait_until(predicate: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    """Wait until something is true; fail when it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return value


class Captured(logging.Handler):
    """Everything that was logged, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
