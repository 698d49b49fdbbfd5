"""The dashboard: what goes on now, as one answer or as events, and the points of its charts.

All figures come from `Live`. No state.
"""

from __future__ import annotations

import orjson

from resender.core.timeline import RANGES
from resender.web.admin.long_answers import EventHandler, LiveHandler

_EVERY_S = 1.0
_TIME_MAX = 1 << 53


class StatusHandler(LiveHandler):
    """`GET /admin/api/status`."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(self.live.status_body())


class StatusEventsHandler(EventHandler):
    """`GET /admin/api/events`: the same once a second."""

    async def get(self) -> None:
        with self.live.stream():
            is_open = await self.begin()
            while is_open:
                is_open = await self.event("status", self.live.status_body()) and await self.goes_on(_EVERY_S)


class HistoryHandler(LiveHandler):
    """`GET /admin/api/history`."""

    def get(self) -> None:
        name = self.query_word("range", tuple(RANGES)) or "hour"
        since_ms = self.query_int("since", 0, 0, _TIME_MAX) or 0
        columns = self.live.timeline.tracks[name].columns(self.services.clock.now_ms(), since_ms)
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps({"range": name, **columns}))
