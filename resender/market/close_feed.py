"""Tells, after each close, the rows of all series asked for, as soon as each is final by proof.

One `CloseTopic` is what some listeners want alike: one task waits for their closes, one message serves them
all. How a close is proven is `kinds/closes.py`. `CloseFeeds` owns the topics.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from resender.aio import Tasks
from resender.core.binance.intervals import INTERVAL_MS
from resender.core.binance.markets import Market
from resender.market.cache import MarketCache
from resender.market.kinds import Klines
from resender.market.kinds.closes import MAX_WAIT_MS, Closes, wait_for_closes

logger = logging.getLogger("resender.market")

# Longer candles close off any grid; who waits for a week needs no stream.
CLOSE_INTERVALS = tuple(word for word, length in INTERVAL_MS.items() if 0 < length <= 86_400_000)
# A call up to 250 ms before a close means that close.
_BEFORE_MS = 150
_MARGIN_MS = 400
_AGAIN_S = 1.0
# What is not proven so long after a close is not waited for any more.
_GIVE_UP_MS = 30_000
_UNKNOWN_S = 0.5
_FAILED_S = 1.0

Ear = Callable[[bytes], None]
Key = tuple[Market, str, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class CloseOptions:
    """When messages go out. Units: milliseconds after the close; `first_ms` 0 = only when all are final."""

    first_ms: int = 0
    deadline_ms: int = 3500


class CloseTopic:
    """The closes of one interval and some series, for everybody who wants just these."""

    def __init__(self, key: Key, klines: Klines, options: CloseOptions) -> None:
        self.key = key
        self.ears: dict[int, Ear] = {}
        self._klines = klines
        self._options = options
        self._length_ms = INTERVAL_MS[key[1]]
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Wait for one close after the other."""
        last_ms = 0
        while True:
            try:
                last_ms = await self._next(last_ms)
            except Exception:
                logger.exception("the closes of %s %s cannot be told", self.key[0], self.key[1])
                await asyncio.sleep(_FAILED_S)

    async def _next(self, last_ms: int) -> int:
        facts, length = self._klines.facts, self._length_ms
        self._want()
        if not facts.server.is_set:
            await asyncio.sleep(_UNKNOWN_S)
            return last_ms
        close_ms = max((facts.now_ms() // length + 1) * length, last_ms + length)
        while (left_ms := close_ms - _BEFORE_MS - facts.now_ms()) > 0:
            await asyncio.sleep(min(left_ms / 1000, 5.0))
            self._want()
        await self._tell(close_ms)
        return close_ms

    async def _tell(self, close_ms: int) -> None:
        """Tell one close: at most one message of what is final early, one at the deadline, one of the rest."""
        missing = self._names()
        options, now_ms = self._options, self._klines.facts.now_ms
        if not missing:
            # Nothing is kept: whoever listens sees that closes come, and that they hold nothing.
            while (left_ms := close_ms - now_ms()) > 0:
                await asyncio.sleep(left_ms / 1000)
            self._send(close_ms, {}, [])
            return
        give_up_ms = close_ms + min(_GIVE_UP_MS, self._length_ms // 2)
        # The next close is told in its turn, whatever became of this one.
        deadline_ms = min(options.deadline_ms, self._length_ms - _MARGIN_MS)
        first_ms = options.first_ms if options.first_ms < deadline_ms else 0
        for wait_ms in (first_ms, deadline_ms):
            if wait_ms and missing:
                rows, missing = self._split(await self._wait(tuple(missing), wait_ms), missing, close_ms)
                if rows or wait_ms == deadline_ms:
                    self._send(close_ms, rows, missing)
        late: dict[str, bytes] = {}
        while missing and now_ms() < give_up_ms and self.ears:
            found = await self._wait(tuple(missing), MAX_WAIT_MS)
            rows, missing = self._split(found, missing, close_ms)
            late |= rows
            if missing:
                await asyncio.sleep(_AGAIN_S)
        if late:
            self._send(close_ms, late, missing)

    def _want(self) -> None:
        """Have the series that were named kept, also while closes are far apart."""
        klines, (market, interval, symbols) = self._klines, self.key
        for name in symbols or ():
            if (name, interval) not in klines.kept:
                klines.desk.begin(market, name, interval)
        klines.use(symbols or (), interval)

    def _names(self) -> list[str]:
        _, interval, symbols = self.key
        return list(self._klines.symbols_of(interval) if symbols is None else symbols)

    async def _wait(self, names: tuple[str, ...], wait_ms: int) -> Closes:
        return await wait_for_closes(self._klines, names, self.key[1], limit=1, wait_ms=wait_ms)

    def _split(self, found: Closes, wanted: list[str], close_ms: int) -> tuple[dict[str, bytes], list[str]]:
        """Take the rows of this very candle; return them and what is still missing."""
        begin = b"[%d," % (close_ms - self._length_ms)
        rows = {}
        for name, views in found.rows.items():
            row = b"".join(views)
            if row.startswith(begin):
                rows[name] = row
        return rows, [name for name in wanted if name not in rows]

    def _send(self, close_ms: int, rows: dict[str, bytes], missing: list[str]) -> None:
        parts = ",".join(f"{orjson.dumps(name).decode()}:{row.decode()}" for name, row in rows.items())
        message = (
            f'{{"interval":"{self.key[1]}","open_time":{close_ms - self._length_ms},"rows":{{{parts}}},'
            f'"missing":{orjson.dumps(missing).decode()},"settled_ms":{self._klines.facts.now_ms() - close_ms}}}'
        ).encode()
        for ear in list(self.ears.values()):
            try:
                ear(message)
            except Exception:
                logger.exception("a close cannot be told to one who listens")


class CloseFeeds:
    """All topics somebody listens to."""

    def __init__(self, cache: MarketCache, options: CloseOptions, tasks: Tasks) -> None:
        self._cache = cache
        self._options = options
        self._tasks = tasks
        self._topics: dict[Key, CloseTopic] = {}
        self._last_number = 0

    def listen(
        self, market: Market, interval: str, symbols: tuple[str, ...] | None, ear: Ear
    ) -> Callable[[], None]:
        """Have an ear told of every close to come; return what ends that.

        Shape: `symbols` None = all series of the interval that are held at the close. A message is
            {"interval":..,"open_time":..,"rows":{symbol: row},"missing":[..],"settled_ms":..}, rows as REST's.
        """
        # Without the market's clock nothing is known of a close, whoever keeps series there.
        self._cache.states[market].start()
        key = (market, interval, symbols)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = CloseTopic(key, self._cache.kind(Klines, market), self._options)
            topic.task = self._tasks.spawn(topic.run(), name=f"closes:{market}:{interval}")
        self._last_number += 1
        number = self._last_number
        topic.ears[number] = ear

        def leave() -> None:
            topic.ears.pop(number, None)
            if not topic.ears and self._topics.get(key) is topic:
                del self._topics[key]
                if topic.task is not None:
                    topic.task.cancel()

        return leave
