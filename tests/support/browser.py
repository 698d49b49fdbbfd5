"""What the browser tests share: the browser, watched pages, and a log-in without the form.

The gateway is `run.py` as a process, the exchange the sandbox in a thread, as in the end-to-end
tests. A `Watch` hears everything a browser context does and fails whatever went wrong unseen.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from tests.support.processes import PATIENCE_S, Answer, GatewayProcess, call

USER, PASSWORD = "root", "a calm long secret"
# Longer than anything takes on a loaded machine; a limit, never what a test waits for.
PATIENCE_MS = 20_000
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PAGES = (
    "dashboard",
    "whitelist",
    "logs",
    "streams",
    "accounts",
    "closes",
    "clients",
    "nodes",
    "alerts",
    "users",
    "account",
    "audit",
    "settings",
)


def find_browser() -> str:
    """Return the path of Debian's Chromium, the one without windows first; skip where there is none, but fail in CI."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        reason = "no chromium: apt-get install chromium-headless-shell fonts-noto-cjk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Run a browser for a block."""
    path = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """Hears what the pages of one context do; `check` fails for whatever went wrong.

    Shape: faults are console errors, errors of scripts, requests that failed or were answered with
        400 and above, and requests to any host but the gateway. `allow` names what a test provokes.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self._origin = origin
        self._allowed: list[re.Pattern[str]] = []
        self._faults: list[str] = []
        self.requests: list[str] = []
        context.on("console", self._console)
        context.on("weberror", lambda error: self._faults.append(f"script: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    def allow(self, *patterns: str) -> None:
        """Expect faults whose line, such as `401 POST /admin/api/login`, holds one of these patterns."""
        self._allowed += [re.compile(pattern) for pattern in patterns]

    def check(self) -> None:
        """Assert that nothing went wrong but what is allowed; what was heard is forgotten."""
        faults = self.faults()
        self._faults.clear()
        assert not faults, "\n".join(faults)

    def faults(self) -> list[str]:
        """List what was heard and is not allowed."""
        return [f for f in self._faults if not any(pattern.search(f) for pattern in self._allowed)]

    def _path(self, url: str) -> str:
        return url.removeprefix(self._origin)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        # The answer itself is heard as well, by its status.
        if not message.text.startswith("Failed to load resource"):
            self._faults.append(f"console: {message.text} ({self._path(message.location['url'])})")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self._origin:
            self._faults.append(f"other host: {request.url}")

    def _failed(self, request: Request) -> None:
        # A page that is left gives up what it has under way; a download is no page.
        if request.failure != "net::ERR_ABORTED":
            self._faults.append(f"{request.failure} {request.method} {self._path(request.url)}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            path = self._path(response.url)
            self._faults.append(f"{response.status} {response.request.method} {path}")


class Admin:
    """The admin API of a gateway, called without a browser.

    Shape: `cookie` is the value of the session's cookie; a token or nothing may stand for it.
    """

    def __init__(self, gateway: GatewayProcess, cookie: str = "") -> None:
        self.gateway = gateway
        self.cookie = cookie

    @classmethod
    def log_in(
        cls, gateway: GatewayProcess, password: str = PASSWORD, user: str = USER, agent: str = "script"
    ) -> Admin:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)
        body = json.dumps({"username": user, "password": password})
        try:
            connection.request("POST", "/admin/api/login", body, {"User-Agent": agent})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            lines = response.headers.get_all("Set-Cookie") or []
        finally:
            connection.close()
        cookies = SimpleCookie("; ".join(line.partition(";")[0] for line in lines))
        return cls(gateway, cookies["resender_session"].value)

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one call; `path` is what follows /admin/api/."""
        given = {"Cookie": f"resender_session={self.cookie}"} if self.cookie else {}
        data = None if body is None else json.dumps(body).encode()
        return call(self.gateway.port, method, f"/admin/api/{path}", {**given, **(headers or {})}, data)

    def do(self, method: str, path: str, body: object = None) -> Any:
        """Make a call that has to succeed; return what it answers."""
        answer = self.call(method, path, body)
        assert answer.status in (200, 201), (path, answer.status, answer.body)
        return answer.json()

    def items(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.do("GET", path)["items"]
        return items


class Visit:
    """One browser context on a gateway: a person with cookies of his own, watched."""

    def __init__(self, browser: Browser, gateway: GatewayProcess, cookie: str = "", **options: Any) -> None:
        self.url = gateway.url
        options = {"locale": "en-GB", "viewport": WIDE, "accept_downloads": True} | options
        self.context = browser.new_context(base_url=gateway.url, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        if cookie:
            # As the gateway sets it: another path would be another cookie of the same name.
            place = {"domain": "127.0.0.1", "path": "/admin"}
            self.context.add_cookies([{"name": "resender_session", "value": cookie, **place}])
        self.watch = Watch(self.context, gateway.url)
        self.page: Page = self.context.new_page()

    def open(self, name: str) -> Page:
        """Open an admin page and wait until its script has drawn it."""
        self.page.goto(f"/admin/{name}")
        settle(self.page)
        return self.page

    def close(self) -> None:
        self.context.close()
        self.watch.check()


def settle(page: Page) -> None:
    """Wait until the page's script has drawn its first data, so that it hears what one clicks."""
    page.wait_for_load_state("load")
    name = urlsplit(page.url).path.rpartition("/")[2]
    if name == "dashboard":
        expect(page.locator("#tile-memory b")).not_to_have_text("–")
    elif name == "nodes":
        expect(
            page.locator("#alone:not([hidden]), #many:not([hidden]) tbody tr[data-key]").first
        ).to_be_visible()
    elif name in PAGES:
        expect(page.locator("main tbody").first.locator("tr").first).to_be_visible()
        expect(page.locator("main .state .spinner")).to_have_count(0)
