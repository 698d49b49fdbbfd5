"""The routes of the live data, of the preload rules, the request log, the doctor and the settings.

A list, nothing else; routes.py joins it to the others. No state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tornado.routing import URLSpec

from resender.web.admin.api.doctor import DoctorHandler
from resender.web.admin.api.logs import LogExportHandler, LogHandler, LogRowHandler, LogsHandler
from resender.web.admin.api.preload import EstimateHandler, PreloadHandler, PreloadsHandler
from resender.web.admin.api.series import BackfillHandler, KlineEventsHandler, KlinesHandler, SeriesHandler
from resender.web.admin.api.settings import SettingsHandler
from resender.web.admin.api.status import HistoryHandler, StatusEventsHandler, StatusHandler
from resender.web.admin.readings import Live

_ROUTES = (
    ("status", StatusHandler),
    ("events", StatusEventsHandler),
    ("history", HistoryHandler),
    ("series", SeriesHandler),
    ("klines", KlinesHandler),
    ("klines/events", KlineEventsHandler),
    ("preload", PreloadsHandler),
    ("preload/estimate", EstimateHandler),
    ("preload/([0-9]{1,19})", PreloadHandler),
    ("backfill", BackfillHandler),
    ("log", LogHandler),
    ("logs", LogsHandler),
    ("logs/export", LogExportHandler),
    ("logs/([0-9]{1,19})", LogRowHandler),
    ("doctor", DoctorHandler),
    ("settings", SettingsHandler),
)


def live_routes(common: Mapping[str, Any]) -> list[URLSpec]:
    """Build the routes; readings for the charts are taken from now on.

    Shape: `common` has what every admin handler is given, `gateway` and `site`.
    """
    live = Live(common["gateway"])
    live.start()
    return [URLSpec(f"/admin/api/{path}", handler, {**common, "live": live}) for path, handler in _ROUTES]
