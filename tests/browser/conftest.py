"""Fixtures of the browser tests.

- `browser`: Chromium, one for each module (its driver may not outlive the module: asyncio).
- `gateway`: `run.py` on the sandbox `exchange`, with a known password, for the whole module.
- `admin`: its API with a log-in; `visit` opens watched browser contexts, `page` is one of them.

Whatever a page did wrong unseen fails the test that opened it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import PASSWORD, PATIENCE_MS, Admin, Visit, open_browser
from tests.support.processes import GatewayProcess, SandboxThread, Start, starter

expect.set_options(timeout=PATIENCE_MS)
Visitor = Callable[..., Visit]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def exchange() -> Iterator[SandboxThread]:
    with SandboxThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def start(exchange: SandboxThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    yield from starter(tmp_path_factory.mktemp("gateway"), exchange)


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayProcess:
    return start(ADMIN_PASSWORD=PASSWORD)


@pytest.fixture(scope="module")
def admin(gateway: GatewayProcess) -> Admin:
    return Admin.log_in(gateway)


@pytest.fixture
def visit(browser: Browser, gateway: GatewayProcess, admin: Admin) -> Iterator[Visitor]:
    """Open a context that is logged in, unless `cookie=""` is said."""
    visits: list[Visit] = []

    def begin(cookie: str | None = None, **options: object) -> Visit:
        new = Visit(browser, gateway, admin.cookie if cookie is None else cookie, **options)
        visits.append(new)
        return new

    yield begin
    for one in visits:
        one.close()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def page(visit: Visitor) -> Page:
    return visit().page
