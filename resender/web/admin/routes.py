"""All routes of the admin part: the file to open first.

Each handler says by its base class who may: `AdminOpenHandler` anybody whom ADMIN_WHITELIST lets
in, `AdminHandler` those who have logged in. No state.
"""

from __future__ import annotations

from typing import Any

from tornado.routing import URLSpec

from resender.gateway import Gateway
from resender.web.admin.api.login import (
    LoginHandler,
    LogoutHandler,
    MeHandler,
    PasswordHandler,
    SessionHandler,
    SessionsHandler,
    TokenHandler,
    TokensHandler,
)
from resender.web.admin.api.users import AuditHandler, UserHandler, UsersHandler
from resender.web.admin.api.whitelist import (
    RefusedHandler,
    WhitelistBulkHandler,
    WhitelistEntryHandler,
    WhitelistExportHandler,
    WhitelistHandler,
    WhitelistImportHandler,
)
from resender.web.admin.live_routes import live_routes
from resender.web.admin.pages.pages import (
    PAGES,
    HomeHandler,
    LoginPageHandler,
    PageHandler,
    UnknownPageHandler,
)
from resender.web.admin.pages.static import StaticHandler, VendorHandler
from resender.web.admin.shared import AdminSite

_ID = "([0-9]{1,15})"
API = "/admin/api/"


def admin_routes(gateway: Gateway) -> list[URLSpec]:
    """Build the routes of one application."""
    common: dict[str, Any] = {"gateway": gateway, "site": AdminSite(gateway)}
    api = {
        "login": LoginHandler,
        "logout": LogoutHandler,
        "me": MeHandler,
        "password": PasswordHandler,
        "sessions": SessionsHandler,
        f"sessions/{_ID}": SessionHandler,
        "tokens": TokensHandler,
        f"tokens/{_ID}": TokenHandler,
        "users": UsersHandler,
        f"users/{_ID}": UserHandler,
        "audit": AuditHandler,
        "whitelist": WhitelistHandler,
        f"whitelist/{_ID}": WhitelistEntryHandler,
        "whitelist/bulk": WhitelistBulkHandler,
        "whitelist/import": WhitelistImportHandler,
        "whitelist/export": WhitelistExportHandler,
        "refused": RefusedHandler,
    }
    return [
        URLSpec("/admin/?", HomeHandler, common),
        URLSpec("/admin/login", LoginPageHandler, common),
        *(URLSpec(f"/admin/{page}", PageHandler, common | {"page": page}) for page in PAGES),
        URLSpec("/admin/static/([0-9a-f]{12})/(.+)", StaticHandler, common),
        URLSpec("/admin/vendor/([^/]+)/([^/]+)", VendorHandler, common),
        *(URLSpec(API + path, handler, common) for path, handler in api.items()),
        *live_routes(common),
        URLSpec("/admin/.*", UnknownPageHandler, common),
    ]
