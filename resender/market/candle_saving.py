"""Warm restart: closed candles go to files every few minutes and come back at the next start.

It does not decide what is kept; the cache tells which series there are. It owns the
`CandleFiles` and calls them in a worker thread, so the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from resender.aio import Clock, Tasks, end_tasks
from resender.market.candle_files import CandleFiles, SeriesKey, SeriesSnapshot
from resender.market.close_pause import PauseS, no_pause
from resender.market.series import KeptKlines

logger = logging.getLogger("resender.market")

# Copied on the loop at once: a fraction of a millisecond for the rows of one.
_CHUNK = 10
_KEEP_S = 7 * 86_400.0


class CandleSaving:
    """Saves and restores the series of a cache."""

    def __init__(self, files: CandleFiles, *, save_every_s: float, clock: Clock, tasks: Tasks) -> None:
        self._files = files
        self._save_every_s = save_every_s
        self._clock = clock
        self._tasks = tasks
        self._entries: Callable[[], Iterable[KeptKlines]] = lambda: ()
        self._pause_s: PauseS = no_pause
        self._task: asyncio.Task[None] | None = None
        self.restored = 0

    def start(self, entries: Callable[[], Iterable[KeptKlines]], pause_s: PauseS = no_pause) -> None:
        """Begin to save; `pause_s()` tells how long it has to wait because candles close."""
        self._entries = entries
        self._pause_s = pause_s
        self._forget_old()
        self._task = self._tasks.spawn(self._run(), name="candles-save")

    def _forget_old(self) -> None:
        """Remove what no run has saved for a long time: other exchanges' candles, old series."""
        limit = time.time() - _KEEP_S
        for path in self._files.folder.parent.glob("*/*"):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < limit:
                    path.unlink()

    async def stop(self) -> None:
        """Save once more."""
        if self._task is not None:
            await end_tasks([self._task])
            self._task = None
        await self.save(is_last=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._save_every_s)
            await self.save()

    async def save(self, *, is_last: bool = False) -> None:
        """Save the series that changed since they were saved; a full disk is logged, not raised.

        Shape: the last one does not wait until no candle closes.
        """
        changed = [e for e in self._entries() if e.saved_version != e.series.version and e.series.last_final]
        for first in range(0, len(changed), _CHUNK):
            while not is_last and (pause_s := self._pause_s()):
                await asyncio.sleep(pause_s)
            part = changed[first : first + _CHUNK]
            versions = [entry.series.version for entry in part]
            snapshots = [self._snapshot(entry) for entry in part]
            try:
                await asyncio.to_thread(self._files.save, snapshots)
            except OSError as error:
                logger.error("candles cannot be saved: %s", error.strerror or error)
                return
            for entry, version in zip(part, versions, strict=True):
                entry.saved_version = version

    def _snapshot(self, entry: KeptKlines) -> SeriesSnapshot:
        rows, open_times = entry.series.closed_rows()
        return SeriesSnapshot(
            entry.market, entry.symbol, entry.interval, rows, open_times, (), self._clock.now_ms()
        )

    def restore(self, entry: KeptKlines, done: Callable[[KeptKlines], None]) -> None:
        """Fill a new series from its file, behind the scenes; until then it is not read by REST."""
        entry.is_reading = True
        self._tasks.spawn(self._restore(entry, done), name=f"candles-load:{entry.symbol}@{entry.interval}")

    async def _restore(self, entry: KeptKlines, done: Callable[[KeptKlines], None]) -> None:
        key: SeriesKey = entry.key
        try:
            found = await asyncio.to_thread(self._files.load_one, *key)
            if found is not None and entry.series.last_final is None and found.open_times:
                entry.series.restore(found.rows, found.open_times)
                entry.saved_version = entry.series.version
                self.restored += 1
        except OSError as error:
            logger.warning("the candles of %s %s %s cannot be read: %s", *key, error.strerror or error)
        finally:
            entry.is_reading = False
            done(entry)
