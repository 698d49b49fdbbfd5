"""What tells whether a quiet stream missed something: a second source beside the stream itself.

A connection that answers pings proves nothing about one of its streams: Binance has been seen to
acknowledge a subscription and send nothing of it any more. For candles the witness is the
all-market mini ticker, which names every symbol that traded, each second, on a connection of its
own; for book tickers it is one REST read for all quiet ones together. A witness decides nothing:
`cache.py` asks it, and what it contradicts is reported to the market. Both belong to one market
and are touched on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from resender.aio import Clock, Tasks
from resender.core.binance.stream_names import MINI_TICKERS
from resender.core.market.book_ticker import same_quote
from resender.market.reader import ReadFailed
from resender.market.series import KeptTicker

logger = logging.getLogger("resender.market")

# An array comes each second; what it says reaches back so far at most.
_WINDOW_MS = 1000
_SILENCE_S = 3.0
# Longer between two arrays: some may be missing, what came before is not vouched for.
_HOLE_MS = 3000
# Nor longer where nothing else speaks for a time: not one of them may be missing.
_STEADY_MS = 1900
# A book ticker's own event may still be on its way when a read shows another value.
TICKER_GRACE_S = 2.0
_READ_EVERY_S = 1.0
_WANTED_S = 60.0


class Feed(Protocol):
    """What a witness needs of a feed."""

    def subscribe(self, names: list[str], listener: Any) -> None: ...


class ServedFeed(Feed, Protocol):
    """What it takes to keep a witness alive."""

    async def start(self) -> None: ...
    def shift(self, name: str, mute_s: float) -> None: ...
    def proof_mono(self, name: str) -> float | None: ...


class TradeWitness:
    """Which symbols of a market traded, by `!miniTicker@arr`.

    Shape: `on_traded(symbol, event_ms, price)` is told of each symbol of each array; `latest_ms()`
        is a time the exchange cannot have passed, None if that is not known.
    Units: times are epoch milliseconds of the exchange.
    Source: web-socket-streams.md of 2026-07-21: an array of the changed symbols, each second.
    """

    is_relay = False

    def __init__(
        self,
        on_traded: Callable[[str, int, str], None],
        clock: Clock,
        latest_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._on_traded = on_traded
        self._clock = clock
        self._latest_ms = latest_ms
        # Every array since then has been seen, None if there is none.
        self.since_ms: int | None = None
        self._steady_ms: int | None = None
        self.last_ms = 0
        self.heard_mono = 0.0
        self._is_wanted = False

    def start(self, feed: Feed) -> None:
        """Subscribe; later calls do nothing."""
        if not self._is_wanted:
            self._is_wanted = True
            self.heard_mono = self._clock.mono()
            feed.subscribe([MINI_TICKERS], self)

    def silent_s(self) -> float:
        """Return for how long no array has come, 0 if none is wanted. Units: seconds."""
        return self._clock.mono() - self.heard_mono if self._is_wanted else 0.0

    @property
    def is_current(self) -> bool:
        """Whether an array has come lately."""
        return self._clock.mono() - self.heard_mono <= _SILENCE_S

    def vouches_ms(self, proven_ms: int) -> int | None:
        """Return until when nothing traded unseen, given that all until `proven_ms` was seen.

        None if arrays are missing in between or none has come lately. Whether the symbol was
        named since is the caller's to know.
        """
        if self.since_ms is None or self.since_ms > proven_ms:
            return None
        if not self.is_current:
            return None
        return self.until_ms

    def was_steady(self, since_ms: int) -> bool:
        """Tell whether every single array since a time has come."""
        return self._steady_ms is not None and self._steady_ms <= since_ms and self.is_current

    @property
    def until_ms(self) -> int:
        """Until when every trade has been named for certain."""
        return self.last_ms - _WINDOW_MS

    def on_frame(self, name: str, data: Any, raw: bytes = b"") -> bool | None:
        """Take an array. Raises: KeyError or TypeError if it is none."""
        if type(data) is not list or not data:
            return type(data) is list
        newest = 0
        latest_ms = self._latest_ms()
        for item in data:
            symbol, event_ms, price = item["s"], item["E"], item["c"]
            if type(event_ms) is not int or type(price) is not str:
                return False
            if latest_ms is not None and event_ms > latest_ms:
                continue  # a time that cannot be is believed of nobody
            if event_ms > newest:
                newest = event_ms
            self._on_traded(symbol, event_ms, price)
        if not newest:
            return None
        if self.since_ms is None or newest - self.last_ms > _HOLE_MS:
            self.since_ms = newest
        if self._steady_ms is None or newest - self.last_ms > _STEADY_MS:
            self._steady_ms = newest
        self.last_ms = max(self.last_ms, newest)
        self.heard_mono = self._clock.mono()
        return None

    def on_live(self, names: list[str]) -> None:
        """Nothing is vouched for before the first array."""

    def on_lost(self, names: list[str]) -> None:
        self.since_ms = self._steady_ms = None


class TickerWitness:
    """Compares quiet book tickers with REST, one read for all that are asked for.

    Shape: `read(entries)` makes the read and returns the time it was sent (monotonic seconds) and
        the rows by symbol; `on_mute(entry)` is told of a ticker whose stream missed a change.
    Units: `quiet_s` seconds without an own event after which a ticker needs a witness.
    """

    def __init__(
        self,
        name: str,
        entries: Callable[[], list[KeptTicker]],
        read: Callable[[list[KeptTicker]], Any],
        on_mute: Callable[[KeptTicker], None],
        *,
        quiet_s: float,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._name = name
        self._entries = entries
        self._read = read
        self._on_mute = on_mute
        self._quiet_s = quiet_s
        self._clock = clock
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._begun_mono = -1e9
        self.reads = 0

    def verify(self, not_within_s: float = _READ_EVERY_S) -> asyncio.Task[None] | None:
        """Return the read under way or begin one; None if one was begun less than so long ago."""
        if self._task is not None and not self._task.done():
            return self._task
        now = self._clock.mono()
        if now - self._begun_mono < max(_READ_EVERY_S, not_within_s):
            return None
        self._begun_mono = now
        self._task = self._tasks.spawn(self._verify(), name=f"ticker-witness:{self._name}")
        return self._task

    async def _verify(self) -> None:
        now = self._clock.mono()
        quiet = [
            entry
            for entry in self._entries()
            if entry.is_live
            and not entry.is_mute
            and entry.ticker.is_valid
            and now - entry.used_mono < _WANTED_S
            and now - entry.proof_mono > self._quiet_s / 4
        ]
        if not quiet:
            return
        quiet.sort(key=lambda entry: entry.proof_mono)  # of two only the first is read
        epochs = {entry.symbol: entry.epoch for entry in quiet}
        try:
            sent_mono, rows = await self._read(quiet)
        except ReadFailed as error:
            logger.info("%s: quiet book tickers cannot be compared: %s", self._name, error)
            return
        self.reads += 1
        for entry in quiet:
            row = rows.get(entry.symbol)
            if row is None or entry.is_dropped or epochs[entry.symbol] != entry.epoch:
                continue
            if entry.event_mono >= sent_mono or not entry.ticker.is_valid:
                continue
            if same_quote(entry.ticker.object(), row):
                entry.seeded_mono = sent_mono
                entry.unheard_mono = None
            elif entry.unheard_mono is None:
                entry.unheard_mono = sent_mono
            elif sent_mono - entry.unheard_mono > TICKER_GRACE_S:
                self._on_mute(entry)
