"""Write pictures of all admin pages: both languages, both themes, wide and narrow, full and empty.

    .venv/bin/python -m tests.browser.screenshots [--only whitelist,logs] [--quick]

They go to tests/browser/screenshots/, which git ignores, for somebody to look at. No test.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import (
    NARROW,
    PAGES,
    PASSWORD,
    WIDE,
    Admin,
    Visit,
    open_browser,
)
from tests.support.browser_filling import fill
from tests.support.processes import GatewayProcess, SandboxThread, starter
from tests.support.stream_programs import listening

FOLDER = Path(__file__).resolve().parent / "screenshots"
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}
SIZES = {"wide": WIDE, "phone": NARROW}
# Dialogs: the page, what to press, and how they are called.
DIALOGS = (
    ("whitelist", "#add", "add"),
    ("whitelist", "#import", "import"),
    ("whitelist", "#entries .danger >> nth=0", "delete"),
    ("logs", "#clear", "clear"),
    ("logs", "#rows button >> nth=0", "details"),
    ("streams", "#add-rule", "rule"),
    ("accounts", "#add", "add"),
    ("accounts", "#accounts a >> nth=0", "one"),
    ("alerts", "#add", "add"),
    ("alerts", "#silence", "silence"),
    ("alerts", "#channels .btn-icon >> nth=0", "edit"),
    ("users", "#add", "add"),
    ("account", "#token-add", "token"),
    ("audit", "#rows button >> nth=0", "details"),
)
LADDER = "streams?market=spot&symbol=BTCUSDT&interval=depth"


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is taken: `language` en or zh, `theme` light or dark, `size` of `SIZES`."""

    language: str
    theme: str
    size: str

    @property
    def options(self) -> dict[str, Any]:
        locale = LANGUAGES[self.language]
        return {"locale": locale, "color_scheme": self.theme, "viewport": SIZES[self.size]}


LOOKS = [Look(*one) for one in product(LANGUAGES, ("light", "dark"), SIZES)]
FEW_LOOKS = [Look("en", "light", "wide"), Look("zh", "dark", "phone")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="PAGE,...", help="only these pages")
    parser.add_argument(
        "--quick", action="store_true", help="English light wide and Chinese dark narrow only"
    )
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else ["login", "password", *PAGES]
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with open_browser() as browser:
        for state in ("empty", "full"):
            with running(state == "full") as (gateway, admin):
                for look in FEW_LOOKS if options.quick else LOOKS:
                    take(browser, gateway, admin, wanted, look, state)
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}")


@contextmanager
def running(is_full: bool) -> Iterator[tuple[GatewayProcess, Admin]]:
    """Run a gateway on a sandbox, with something on every page or with nothing."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exchange = stack.enter_context(SandboxThread())
        whitelist = "127.0.0.1" if is_full else ""
        start = starter(folder, exchange)
        gateway = next(start)(ADMIN_PASSWORD=PASSWORD, TRUSTED_PROXIES="127.0.0.1", WHITELIST=whitelist)
        stack.callback(lambda: next(start, None))
        admin = Admin.log_in(gateway)
        if is_full:
            fill(gateway, exchange, admin)
            stack.enter_context(listening(gateway.port))
        yield gateway, admin


def take(
    browser: Browser, gateway: GatewayProcess, admin: Admin, wanted: list[str], look: Look, state: str
) -> None:
    """Take all pictures of one look."""

    def picture(page: Page, name: str, whole: bool = True) -> None:
        page.wait_for_timeout(700)  # charts and dialogs fade in; there is nothing to wait for
        file = f"{name}-{look.language}-{look.theme}-{look.size}-{state}.png"
        page.screenshot(path=FOLDER / file, full_page=whole)

    visit = Visit(browser, gateway, admin.cookie, **look.options)
    for name in wanted:
        if name == "login":
            stranger = Visit(browser, gateway, **look.options)
            picture(stranger.open("login"), name)
            stranger.close()
            continue
        picture(visit.open(name), name)
        for page_name, press, dialog in DIALOGS if state == "full" else ():
            if page_name == name:
                visit.page.locator(press).click()
                picture(visit.page, f"{name}-{dialog}", whole=False)
                visit.open(name)
    if "streams" in wanted and state == "full":
        visit.page.goto(f"/admin/{LADDER}")
        expect(visit.page.locator("#ladder tbody tr")).to_have_count(40)
        picture(visit.page, "streams-ladder")
    if look.size == "phone" and state == "full":
        visit.page.locator("#menu-button").click()
        picture(visit.page, "menu", whole=False)
    visit.close()


if __name__ == "__main__":
    main()
