"""What the live pages share: the readings of the last day, the dashboard's JSON, open streams.

It answers no request and changes nothing in the gateway, it only reads. One `Live` belongs to one
application of admin pages and owns the timeline and what is counted here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson

from resender import __version__
from resender.core.timeline import Reading, Timeline
from resender.errors import Busy
from resender.services import Services
from resender.snapshots import MarketSnapshot

logger = logging.getLogger("resender.admin")

MAX_STREAMS = 20
MAX_EXPORTS = 2
_EVERY_S = 1.0
# All who look within the same moment get the same answer.
_MEMORY_S = 0.8
_MAX_CLIENTS = 100


class Live:
    """Reads the gateway once a second, and as often as somebody looks."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.timeline = Timeline()
        self.streams_open = 0
        self.exports_open = 0
        self.is_examining = False
        self._begun_mono = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._body = b""
        self._body_mono = 0.0

    def start(self) -> None:
        """Begin to take readings; later calls do nothing. Ends with the gateway's other tasks."""
        if self._task is None:
            with suppress(RuntimeError):  # no loop runs yet: the first request will start it
                asyncio.get_running_loop()
                self._task = self.services.tasks.spawn(self._follow(), name="admin-timeline")

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                self.take()
            except Exception:  # the chart of the next seconds is not worth losing that of the day
                logger.exception("the figures of the admin page cannot be read")
            due = max(due + _EVERY_S, loop.time())
            await asyncio.sleep(due - loop.time())

    def take(self) -> None:
        """Take one reading."""
        clock = self.services.clock
        self.timeline.add(clock.now_ms(), clock.mono(), self._read())

    def _read(self) -> Reading:
        services = self.services
        tally, answers = services.metrics.tally, services.status.answers()
        return Reading(
            calls=tally.calls,
            errors=tally.errors,
            sent_bytes=tally.sent_bytes,
            latency=tuple(tally.latency),
            hits=answers.hits,
            misses=answers.misses,
            in_flight=services.in_flight,
            memory_bytes=resident_bytes(),
            # Each sapi path has a counter of its own: too many to draw.
            weights={
                f"{row['egress']}/{row['pool']}": row["used"]
                for row in services.status.node_weights()
                if _is_drawn(row)
            },
        )

    # --- the dashboard ---------------------------------------------------------------------

    def status_body(self) -> bytes:
        """Return the dashboard's JSON, at most a moment old."""
        mono = time.monotonic()
        if not self._body or mono - self._body_mono > _MEMORY_S:
            self._body = orjson.dumps(self.status())
            self._body_mono = mono
        return self._body

    def status(self) -> dict[str, Any]:
        """Build the dashboard's JSON; its shape is in docs/reference/admin-api.md."""
        services = self.services
        status, stats, window = services.status, services.store.stats, self.timeline.window()
        latest = self.timeline.latest
        answers, markets = status.answers(), status.markets()
        return {
            "time": services.clock.now_ms(),
            "version": __version__,
            "uptime_s": int(time.monotonic() - self._begun_mono),
            "memory_bytes": latest.memory_bytes if latest is not None else resident_bytes(),
            "calls_per_s": window.calls_per_s,
            "errors_per_s": window.errors_per_s,
            "bytes_per_s": window.bytes_per_s,
            "p50_ms": window.p50_ms,
            "p99_ms": window.p99_ms,
            "in_flight": services.in_flight,
            "hit_rate": window.hit_rate,
            "hits": answers.hits,
            "misses": answers.misses,
            "miss_reasons": dict(answers.reasons),
            "saved_today": status.saved_today(),
            "weights": services.status.node_weights(),
            "clients": self._clients(),
            "streams": [_streams(each) for each in markets if each.market in services.config.upstreams],
            "series": {
                "total": sum(each.kept for each in markets),
                "live": sum(each.live for each in markets),
            },
            "upstreams": self._upstreams(),
            "log": {
                "enabled": services.store.log_enabled,
                "written": stats.log_written,
                "dropped": stats.log_dropped,
                "queued": stats.log_queued,
            },
            "database": {"healthy": stats.healthy, "last_error": stats.last_error},
            "whitelist": services.access.whitelist.size,
            "refused": services.access.refused.total,
            "streams_open": self.streams_open,
            "stream_clients": services.fanout.size,
            "client_streams": services.fanout.topic_count,
            "loop": next(iter(services.status.slowest()), None),
        }

    def _clients(self) -> list[dict[str, Any]]:
        rows = self.services.status.clients()
        if len(rows) > _MAX_CLIENTS:
            rows = sorted(rows, key=lambda row: row["weight_minute"], reverse=True)[:_MAX_CLIENTS]
        return rows

    def _upstreams(self) -> list[dict[str, Any]]:
        return [
            {
                "market": each.market.value,
                "kind": each.kind,
                "status": each.status or None,
                "time": each.at_ms,
                "text": each.text,
            }
            for each in self.services.status.upstreams()
        ]

    # --- what is open ----------------------------------------------------------------------

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Take the place of an open event stream.

        Raises: Busy if all are taken.
        """
        if self.streams_open >= MAX_STREAMS:
            msg = f"{MAX_STREAMS} event streams are open already; ask again and again instead."
            raise Busy(msg, {"reason": "streams_many", "most": MAX_STREAMS})
        self.streams_open += 1
        try:
            yield
        finally:
            self.streams_open -= 1

    @contextmanager
    def export(self) -> Iterator[None]:
        """Take the place of a running export.

        Raises: Busy if all are taken.
        """
        if self.exports_open >= MAX_EXPORTS:
            msg = f"{MAX_EXPORTS} exports are running already; wait for one to end."
            raise Busy(msg, {"reason": "exports_many", "most": MAX_EXPORTS})
        self.exports_open += 1
        try:
            yield
        finally:
            self.exports_open -= 1


def resident_bytes() -> int | None:
    """Return the memory this process holds, None where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        import resource

        if sys.platform.startswith("linux"):
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        # The highest so far, the nearest thing other systems offer.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def _is_drawn(row: dict[str, Any]) -> bool:
    return ":" not in row["pool"]


def _streams(market: MarketSnapshot) -> dict[str, Any]:
    links = market.connections
    frames = [link.last_frame_ms for link in links if link.last_frame_ms is not None]
    return {
        "market": market.market.value,
        "connections": len(links),
        "live": market.live_connections,
        "streams": sum(link.streams for link in links),
        "oldest_age_s": round(max(link.age_s for link in links), 1) if links else None,
        "last_frame_ms": min(frames) if frames else None,
    }
