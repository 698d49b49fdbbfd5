"""The pages themselves: a template each, in the reader's language and colours.

What they show comes from the API by script; a page only knows who is logged in. It holds no
state: templates and texts belong to the `AdminSite`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.web import HTTPError

from resender import __version__
from resender.core.access.whitelist import parse_ip
from resender.core.market.words import ALL_WORDS, WORDS, interval_of
from resender.services import Services
from resender.store import UserRow
from resender.web.admin.base import AdminBase, AdminHandler, AdminOpenHandler
from resender.web.admin.shared import AdminSite

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
    "password",
)
HOME = "/admin/dashboard"


def _stream_words() -> dict[str, Any]:
    """Name what can be kept, for filters and the form of rules: all of it, in groups, and by market."""
    candles = [word for word in ALL_WORDS if interval_of(word) == word]
    others = [word for word in ALL_WORDS if interval_of(word) is None]
    more = [word for word in ALL_WORDS if interval_of(word) not in (None, word)]
    return {
        "groups": [group for group in (("candles", candles), ("live", others), ("more", more)) if group[1]],
        "words": json.dumps({market.value: words for market, words in WORDS.items()}),
    }


# What a page's template is handed besides the texts.
_FACTS: dict[str, Callable[[], dict[str, Any]]] = {"streams": _stream_words}
_TUNNEL_PORT = 8000
# What may stand in a command that is copied into a shell.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_THEMES = ("auto", "light", "dark")


def safe_next(target: str) -> str:
    """Return where to go after the log-in: one of our own pages, whatever was asked for."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return HOME
    name = parts.path.removeprefix("/admin/")
    if parts.scheme or parts.netloc or not parts.path.startswith("/admin/") or name not in PAGES:
        return HOME
    return f"{parts.path}?{quote(parts.query, safe='=&%+')}" if parts.query else parts.path


def _render(handler: AdminBase, page: str, user: UserRow | None, **more: Any) -> None:
    site = handler.site
    language = _language(handler)
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header("Content-Language", "zh-CN" if language == "zh" else "en")
    handler.set_header("Vary", "Cookie, Accept-Language")
    theme = handler.get_cookie("resender_theme", "auto")
    handler.finish(
        site.templates.load(f"{page}.html").generate(
            page=page,
            user=None if user is None else user.username,
            must_change=user is not None and user.must_change,
            lang=language,
            theme=theme if theme in _THEMES else "auto",
            version=__version__,
            t=site.catalogues[language].text,
            asset=site.assets.url,
            vendor=site.assets.vendor_url,
            **more,
        )
    )


def _language(handler: AdminBase) -> str:
    chosen = handler.get_cookie("resender_lang")
    if chosen in handler.site.catalogues:
        return str(chosen)
    return preferred_language(handler.request.headers.get("Accept-Language", ""))


def preferred_language(accepted: str) -> str:
    """Read an Accept-Language header: `zh` if Chinese comes before English, else `en`."""
    best, language = 0.0, "en"
    for part in accepted.split(","):
        tag, _, parameter = part.strip().lower().partition(";")
        name = tag.split("-")[0].strip()
        try:
            weight = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            weight = 0.0
        if name in ("en", "zh") and weight > best:
            best, language = weight, name
    return language


class PageHandler(AdminHandler):
    """`GET /admin/<page>`."""

    is_page = True

    def initialize(self, services: Services, site: AdminSite, page: str) -> None:  # type: ignore[override]
        super().initialize(services, site)
        self.page = page

    async def admit(self) -> None:
        await super().admit()
        if not self._finished and self.token is not None:
            # Pages are for browsers; a token in front of one would be of no use to its scripts.
            raise HTTPError(404)

    def get(self) -> None:
        if self.user.must_change and self.page != "password":
            self.redirect("/admin/password")
            return
        _render(self, self.page, self.user, **_FACTS.get(self.page, dict)())

    head = get


class HomeHandler(AdminHandler):
    """`GET /admin`: to the first page."""

    is_page = True

    def get(self) -> None:
        self.redirect(HOME)

    head = get


class LoginPageHandler(AdminOpenHandler):
    """`GET /admin/login`; who is logged in goes on at once."""

    async def get(self) -> None:
        target = safe_next(self.get_query_argument("next", ""))
        login = await self.find_login()
        if login is not None and login.session is not None:
            self.redirect(target)
            return
        _render(self, "login", None, next=target, **self._tunnel())

    def _tunnel(self) -> dict[str, Any]:
        """Tell whether the password would go unencrypted, and how to avoid it.

        Shape: a client on this machine's loopback comes over a tunnel, or is at home.
        """
        config = self.services.config
        is_local = self.ip == "unknown" or parse_ip(self.ip).is_loopback
        host = self.request.host_name if _HOST.fullmatch(self.request.host_name) else "server"
        port = config.admin_port or config.port
        return {
            "is_plain": not self.is_tls and not is_local,
            "tunnel": f"ssh -N -L {_TUNNEL_PORT}:127.0.0.1:{port} user@{host}",
            "tunnel_url": f"http://127.0.0.1:{_TUNNEL_PORT}/admin",
        }

    head = get


class UnknownPageHandler(AdminHandler):
    """Whatever else is asked for below /admin."""

    @property
    def is_page(self) -> bool:  # type: ignore[override]
        return not self.request.path.startswith("/admin/api/")

    async def admit(self) -> None:
        await super().admit()
        if not self._finished:
            raise HTTPError(404)
