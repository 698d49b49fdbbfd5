"""The small public pages and the metrics.

Each handler reads from the gateway and writes; nothing is kept here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

import orjson

from resender import __version__
from resender.metrics import CONTENT_TYPE
from resender.places import STATIC
from resender.web.base import ClientHandler, PublicHandler


def style_hash(html: str) -> str:
    """Return the Content-Security-Policy source of a page's one inline style sheet."""
    found = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = hashlib.sha256(found.group(1).encode() if found else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


class FrontHandler(PublicHandler):
    """`GET /`: what this is, and the way to the admin page."""

    def initialize(self, services, page: str) -> None:  # type: ignore[no-untyped-def, override]
        super().initialize(services)
        self.page = page

    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header(
            "Content-Security-Policy",
            f"default-src 'none'; style-src {style_hash(self.page)}; frame-ancestors 'none'; base-uri 'none'",
        )
        self.write(self.page)

    head = get


class AdminFrontHandler(PublicHandler):
    """`GET /` of the admin pages' own port: to the first page."""

    def get(self) -> None:
        self.redirect("/admin")

    head = get


def front_page(has_admin: bool = True) -> str:
    """Read the front page; the way to the admin page is left out where there is none."""
    html = (STATIC / "front.html").read_text("utf-8").replace("{{ version }}", __version__)
    return html if has_admin else re.sub(r'<a href="/admin">.*?</a>\n?', "", html)


class HealthHandler(PublicHandler):
    """`GET /healthz`: 200 only while the gateway serves and is not to be left out by a balancer."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        if not self.services.calls.is_open:
            self.set_status(503)
            self.write(b'{"status":"stopping"}')
            return
        cluster = self.services.cluster
        if cluster is not None and cluster.is_drained:
            self.set_status(503)
            self.write(b'{"status":"drained","draining":true}')
            return
        self.write(b'{"status":"ok"}')

    head = get


class ReadyHandler(PublicHandler):
    """`GET /readyz`: 200 only while calls are answered as the owner wants it.

    Shape: {"status": "ready" or "not_ready", "checks": {"store", "upstreams", "streams": {"ok", "detail"}}}; who is
        not in the whitelist gets the status alone.
    """

    def get(self) -> None:
        services = self.services
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        cluster = services.cluster
        is_serving = services.calls.is_open and not (cluster is not None and cluster.is_drained)
        checks = services.status.readiness()
        is_ready = is_serving and all(check.is_ok for check in checks)
        if not is_ready:
            self.set_status(503)
        shown: dict[str, Any] = {"status": "ready" if is_ready else "not_ready"}
        if services.access.whitelist.match(self.client_ip()) is not None:
            shown["serving"] = is_serving
            shown["checks"] = {check.name: {"ok": check.is_ok, "detail": check.detail} for check in checks}
        self.write(orjson.dumps(shown))

    head = get


class MetricsHandler(ClientHandler):
    """`GET /metrics`: Prometheus text, for whitelisted clients and for who has METRICS_TOKEN."""

    def prepare(self) -> None:
        token = self.services.config.metrics_token
        scheme, _, given = self.request.headers.get("Authorization", "").partition(" ")
        if (
            token
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
        ):
            return
        super().prepare()

    async def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("Cache-Control", "no-store")
        crew = self.services.crew
        self.write(self.services.metrics.render() if crew is None else await crew.render())

    head = get
