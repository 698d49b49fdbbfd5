"""What the workers of a node tell the one that shows it: figures, refused addresses, metrics.

`Crew` belongs to the collector and adds what the others did to its own figures, so that pages, status and metrics are
those of the node. `Member` belongs to each of the others. One line of JSON is one message, over a socket of this
machine.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from resender.aio import Clock, Tasks, within
from resender.core.access.refused import RecentRefused
from resender.core.timeline import Tally
from resender.metrics import Metrics
from resender.savings import Savings

logger = logging.getLogger("resender.workers")

_TELL_EVERY_S = 0.5
_AGAIN_S = 0.3
_METRICS_S = 1.0
_LONGEST_LINE = 8 << 20


@dataclass(slots=True)
class MemberInfo:
    """One worker besides the collector, as it last told. Units: `heard_mono` seconds; `lag_ms` milliseconds."""

    number: int
    pid: int = 0
    in_flight: int = 0
    streams: int = 0
    lag_ms: float = 0.0
    calls: int = 0
    # Used and reserved weight by egress and pool.
    weights: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    heard_mono: float = 0.0
    # What has been added of it already.
    told: Tally = field(default_factory=Tally)
    saved: Counter[tuple[str, str]] = field(default_factory=Counter)


class Crew:
    """The collector's end."""

    def __init__(
        self,
        path: str,
        *,
        metrics: Metrics,
        savings: Savings,
        refused: RecentRefused,
        clock: Clock,
    ) -> None:
        self._path = path
        self._metrics = metrics
        self._savings = savings
        self._refused = refused
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._links: dict[int, asyncio.StreamWriter] = {}
        self._asked: dict[tuple[int, int], asyncio.Future[list[Any]]] = {}
        self._number = 0
        self.members: dict[int, MemberInfo] = {}

    async def start(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_LONGEST_LINE)
        os.chmod(self._path, 0o600)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._links.values()):
                writer.close()
            with suppress(OSError):
                os.unlink(self._path)

    def rows(self) -> list[dict[str, Any]]:
        """Describe the other workers.

        Shape: [{"number","pid","up","calls","in_flight","streams","lag_ms"}].
        """
        return [
            {
                "number": one.number,
                "pid": one.pid,
                "up": one.number in self._links,
                "calls": one.calls,
                "in_flight": one.in_flight,
                "streams": one.streams,
                "lag_ms": round(one.lag_ms, 1),
            }
            for one in sorted(self.members.values(), key=lambda one: one.number)
        ]

    def weights(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return what the other workers have used and reserved of this minute, by egress and pool."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for number in self._links:
            for place, (used, reserved) in self.members[number].weights.items():
                before = found.get(place, (0, 0))
                found[place] = before[0] + used, before[1] + reserved
        return found

    @property
    def in_flight(self) -> int:
        """Calls under way in the other workers."""
        return sum(one.in_flight for number, one in self.members.items() if number in self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one: MemberInfo | None = None
        try:
            while line := await reader.readline():
                said = orjson.loads(line)
                if "families" in said:
                    asked = self._asked.pop((one.number if one else -1, said["id"]), None)
                    if asked is not None and not asked.done():
                        asked.set_result(said["families"])
                    continue
                if one is None:
                    # Another process than the one before: it counts from nothing.
                    one = self.members[said["number"]] = MemberInfo(said["number"])
                    self._links[one.number] = writer
                self._take(one, said)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("a worker cannot be heard: %s", error)
        finally:
            if one is not None and self._links.get(one.number) is writer:
                del self._links[one.number]
            writer.close()

    def _take(self, one: MemberInfo, said: dict[str, Any]) -> None:
        one.pid, one.in_flight, one.streams = said["pid"], said["in_flight"], said["streams"]
        one.lag_ms, one.heard_mono = said["lag_ms"], self._clock.mono()
        one.weights = {(egress, pool): (used, reserved) for egress, pool, used, reserved in said["weights"]}
        calls, errors, sent_bytes, latency = said["tally"]
        own, told = self._metrics.tally, one.told
        own.calls += calls - told.calls
        own.errors += errors - told.errors
        own.sent_bytes += sent_bytes - told.sent_bytes
        for place, (now, before) in enumerate(zip(latency, told.latency, strict=True)):
            if now != before:
                own.latency[place] += now - before
        one.told = Tally(calls, errors, sent_bytes, latency)
        one.calls = calls
        for market, kind, weight in said["saved"]:
            self._savings.note((market, kind), weight - one.saved[market, kind])
            one.saved[market, kind] = weight
        for address, path, at_ms in said["refused"]:
            self._refused.note(address, path, at_ms)

    # --- metrics ---------------------------------------------------------------------------

    async def render(self) -> bytes:
        """Return the metrics of all workers as one text."""
        others = await asyncio.gather(*(self._families_of(number) for number in list(self._links)))
        return self._metrics.render(others)

    async def _families_of(self, number: int) -> list[Any]:
        self._number += 1
        key = (number, self._number)
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            self._links[number].write(orjson.dumps({"id": self._number}) + b"\n")
            return await within(asked, _METRICS_S)
        except (asyncio.TimeoutError, OSError, KeyError):
            return []
        finally:
            self._asked.pop(key, None)


class Member:
    """The end of a worker that is not the collector.

    Shape: `figures` returns calls in flight, streams of clients and the lag of the loop in ms, `weights` rows as
        `weight_rows`.
    """

    def __init__(
        self,
        path: str,
        number: int,
        *,
        metrics: Metrics,
        savings: Savings,
        refused: RecentRefused,
        figures: Callable[[], tuple[int, int, float]],
        weights: Callable[[], list[dict[str, Any]]],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._path = path
        self._number = number
        self._weights = weights
        self._metrics = metrics
        self._savings = savings
        self._refused = refused
        self._figures = figures
        self._clock = clock
        self._tasks = tasks

    def start(self) -> None:
        self._tasks.spawn(self._stay_connected(), name="worker-member")

    async def _stay_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(_AGAIN_S)
                continue
            answering = self._tasks.spawn(self._answer(reader, writer), name="worker-metrics")
            try:
                while not answering.done():
                    writer.write(orjson.dumps(self._said()) + b"\n")
                    await writer.drain()
                    await asyncio.wait({answering}, timeout=_TELL_EVERY_S)
            except OSError:
                pass
            finally:
                answering.cancel()
                writer.close()
            await asyncio.sleep(_AGAIN_S)

    def _said(self) -> dict[str, Any]:
        tally = self._metrics.tally
        in_flight, streams, lag_ms = self._figures()
        rows = self._refused.items()
        self._refused.clear()
        return {
            "number": self._number,
            "pid": os.getpid(),
            "in_flight": in_flight,
            "streams": streams,
            "lag_ms": lag_ms,
            "tally": [tally.calls, tally.errors, tally.sent_bytes, tally.latency],
            "weights": [
                [row["egress"], row["pool"], row["used"], row["reserved"]] for row in self._weights()
            ],
            "saved": [[market, kind, weight] for (market, kind), weight in self._savings.total.items()],
            "refused": [
                [row.address, row.path, row.last_ms] for row in rows for _ in range(min(row.count, 50))
            ],
        }

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                wanted = orjson.loads(line)
                families = self._metrics.told()
                writer.write(orjson.dumps({"id": wanted["id"], "families": families}) + b"\n")
