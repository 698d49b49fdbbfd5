"""All routes of the admin part: the file to open first.

Each handler says by its base class who may: `AdminOpenHandler` anybody whom ADMIN_WHITELIST lets
in, `AdminHandler` those who have logged in. No state.
"""

from __future__ import annotations

from typing import Any

from tornado.routing import URLSpec

from resender.services import Services
from resender.web.admin.api.accounts import (
    AccountEventsHandler,
    AccountHandler,
    AccountKeyHandler,
    AccountKeysHandler,
    AccountsHandler,
)
from resender.web.admin.api.alerts import (
    AlertChannelHandler,
    AlertEventsHandler,
    AlertsHandler,
    AlertSilenceHandler,
    AlertTestHandler,
)
from resender.web.admin.api.audit import AuditHandler
from resender.web.admin.api.books import BookEventsHandler, BookHandler
from resender.web.admin.api.clients import ClientHandler, ClientsHandler
from resender.web.admin.api.closes import ClosesHandler
from resender.web.admin.api.doctor import DoctorHandler
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
from resender.web.admin.api.logs import LogExportHandler, LogHandler, LogRowHandler, LogsHandler
from resender.web.admin.api.nodes import NodesDrainHandler, NodesHandler
from resender.web.admin.api.preload import EstimateHandler, PreloadHandler, PreloadsHandler
from resender.web.admin.api.series import BackfillHandler, KlineEventsHandler, KlinesHandler, SeriesHandler
from resender.web.admin.api.settings import SettingsHandler
from resender.web.admin.api.status import HistoryHandler, StatusEventsHandler, StatusHandler
from resender.web.admin.api.users import UserHandler, UsersHandler
from resender.web.admin.api.whitelist import (
    RefusedHandler,
    WhitelistBulkHandler,
    WhitelistEntryHandler,
    WhitelistExportHandler,
    WhitelistHandler,
    WhitelistImportHandler,
)
from resender.web.admin.pages.pages import (
    PAGES,
    HomeHandler,
    LoginPageHandler,
    PageHandler,
    UnknownPageHandler,
)
from resender.web.admin.pages.static import StaticHandler, VendorHandler
from resender.web.admin.readings import Live
from resender.web.admin.shared import AdminSite

_ID = "([0-9]{1,15})"
_ROW_ID = "([0-9]{1,19})"
API = "/admin/api/"


def admin_routes(services: Services) -> list[URLSpec]:
    """Build the routes of one application."""
    common: dict[str, Any] = {"services": services, "site": AdminSite(services)}
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
        "alerts": AlertsHandler,
        f"alerts/channels/{_ID}": AlertChannelHandler,
        f"alerts/channels/{_ID}/test": AlertTestHandler,
        "alerts/events": AlertEventsHandler,
        "alerts/silence": AlertSilenceHandler,
        "nodes": NodesHandler,
        "nodes/drain": NodesDrainHandler,
    }
    # These read what goes on: readings for the charts are taken from now on.
    live = Live(services)
    live.start()
    live_api = {
        "status": StatusHandler,
        "events": StatusEventsHandler,
        "history": HistoryHandler,
        "series": SeriesHandler,
        "klines": KlinesHandler,
        "klines/events": KlineEventsHandler,
        "book": BookHandler,
        "book/events": BookEventsHandler,
        "preload": PreloadsHandler,
        "preload/estimate": EstimateHandler,
        f"preload/{_ROW_ID}": PreloadHandler,
        "accounts": AccountsHandler,
        f"accounts/{_ID}": AccountHandler,
        f"accounts/{_ID}/events": AccountEventsHandler,
        f"accounts/{_ID}/keys": AccountKeysHandler,
        f"accounts/{_ID}/keys/([0-9a-f]{{64}})": AccountKeyHandler,
        "backfill": BackfillHandler,
        "clients": ClientsHandler,
        f"clients/{_ID}": ClientHandler,
        "closes": ClosesHandler,
        "log": LogHandler,
        "logs": LogsHandler,
        "logs/export": LogExportHandler,
        f"logs/{_ROW_ID}": LogRowHandler,
        "doctor": DoctorHandler,
        "settings": SettingsHandler,
    }
    return [
        URLSpec("/admin/?", HomeHandler, common),
        URLSpec("/admin/login", LoginPageHandler, common),
        *(URLSpec(f"/admin/{page}", PageHandler, common | {"page": page}) for page in PAGES),
        URLSpec("/admin/static/([0-9a-f]{12})/(.+)", StaticHandler, common),
        URLSpec("/admin/vendor/([^/]+)/([^/]+)", VendorHandler, common),
        *(URLSpec(API + path, handler, common) for path, handler in api.items()),
        *(URLSpec(API + path, handler, common | {"live": live}) for path, handler in live_api.items()),
        URLSpec("/admin/.*", UnknownPageHandler, common),
    ]
