"""What the cache keeps for one series or ticker: the data, who wants it, how it is doing.

Values with little behaviour; their kind decides, `backfill.py` fills. Owned by the market and
touched on the event loop only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from resender.core.binance.markets import Market
from resender.core.market.book import Book
from resender.core.market.book_ticker import BookTicker
from resender.core.market.candles import Candle
from resender.core.market.klines import KlineSeries
from resender.core.market.levels import Head
from resender.core.market.partial_book import PartialBook
from resender.core.market.streamed_rows import StreamedRow
from resender.core.market.timed_rows import TimedRows
from resender.core.market.trades import TradeTail
from resender.core.market.words import BOOK, BOOK_TICKER, FUNDING, PARTIAL_BOOK


@dataclass(slots=True)
class Kept:
    """What klines and tickers share.

    Units: `used_mono` monotonic seconds of the last call that wanted it.
    """

    market: Market
    symbol: str
    stream: str
    used_mono: float
    is_preload: bool = False
    # The stream is acknowledged on a live connection.
    is_live: bool = False
    is_dropped: bool = False
    hits: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    # The one read that settles it for all who wait, and when it was sent.
    read: asyncio.Task[None] | None = None
    read_mono: float = -1e9
    read_failed: bool = False
    # Its stream was found mute: how often, when it was moved last, and whether that has to wait.
    mutes: int = 0
    moved_mono: float = -1e9
    is_mute: bool = False
    # Calls that wait for the next event.
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def what(self) -> str:
        """The word a preload rule has for it: an interval, `bookTicker`."""
        raise NotImplementedError

    @property
    def key(self) -> tuple[Market, str, str]:
        return self.market, self.symbol, self.what

    @property
    def rows(self) -> int:
        """How many rows are held."""
        raise NotImplementedError

    @property
    def last_open(self) -> int | None:
        """Open time of the newest candle, None for what has no candles."""
        return None

    @property
    def state(self) -> str:
        """A word on how it is doing: connecting, mute, syncing, filling, live."""
        raise NotImplementedError

    def wake(self) -> None:
        """Let the calls that wait for an event look again."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


@dataclass(slots=True)
class KeptEnded(Kept):
    """Closed rows of candles that no stream brings. Units: exchange milliseconds."""

    interval: str = ""
    series: KlineSeries = field(default_factory=lambda: KlineSeries("1m", 1))
    identity: object = field(default_factory=object)
    word: str = ""
    # Its REST target up to the interval.
    target: str = ""
    # When the newest read was made and when one was asked for last; the rows that were not closed then.
    read_ms: int = 0
    asked_ms: int = 0
    end_ms: int = -1
    end: list[Candle] = field(default_factory=list)

    @property
    def what(self) -> str:
        return self.word

    @property
    def rows(self) -> int:
        return len(self.series)

    @property
    def last_open(self) -> int | None:
        return self.series.last_open

    @property
    def state(self) -> str:
        return "live" if len(self.series) else "syncing"


@dataclass(slots=True)
class KeptFunding(Kept):
    """The funding rates of one symbol. Units: `_ms` exchange milliseconds."""

    held: TimedRows = field(default_factory=TimedRows)
    # When the next rate is due, 0 if that is not known, and since which event that was said.
    next_ms: int = 0
    next_since_ms: int = 0
    event_ms: int = 0
    # The stream was lost, and has not spoken since.
    was_lost: bool = False
    event_mono: float = -1e9
    was_read: bool = False
    read_ms: int = 0

    @property
    def what(self) -> str:
        return FUNDING

    @property
    def rows(self) -> int:
        return len(self.held)

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        return "live" if self.was_read else "syncing"


@dataclass(slots=True)
class KeptStatistics(Kept):
    """Rows of one of the statistics of a symbol. Units: `taken_mono` monotonic seconds."""

    held: TimedRows = field(default_factory=TimedRows)
    word: str = ""
    taken_mono: float = -1e9

    @property
    def what(self) -> str:
        return self.word

    @property
    def rows(self) -> int:
        return len(self.held)

    @property
    def state(self) -> str:
        return "live" if len(self.held) else "syncing"


@dataclass(slots=True)
class KeptBook(Kept):
    """One order book: its best levels, or the whole of it.

    Units: `_mono` monotonic seconds.
    """

    book: PartialBook | Book = field(default_factory=lambda: PartialBook(Market.SPOT, Head()))
    # Counts the losses of its stream: a read from before one says nothing about after it.
    epoch: int = 0
    # When the newest frame came, when REST last agreed, and since when REST has shown something else.
    event_mono: float = -1e9
    seeded_mono: float = -1e9
    unheard_mono: float | None = None
    # When its symbol was last seen to trade: the book changed then.
    traded_mono: float = -1e9
    # REST and the stream differ in more than their age: what it holds cannot be told.
    is_unfit: bool = False
    unfit_mono: float = float("inf")
    # The largest limit somebody has asked for; how often what is held did not reach it.
    wanted: int = 0
    shallow: int = 0
    not_before_mono: float = -1e9
    failures: int = 0
    # It was given a moment for a client's answer already.
    is_awaited: bool = False
    # When a snapshot was last waited for.
    recording_mono: float = -1e9

    @property
    def what(self) -> str:
        return PARTIAL_BOOK if isinstance(self.book, PartialBook) else BOOK

    @property
    def proof_mono(self) -> float:
        """When what is held was last proven, by a frame or a read."""
        return max(self.event_mono, self.seeded_mono)

    @property
    def is_known(self) -> bool:
        """Whether it holds a book at all."""
        return self.book.is_valid if isinstance(self.book, PartialBook) else self.book.is_synced

    @property
    def rows(self) -> int:
        """How many levels are held of the side that has fewer."""
        if not self.is_known:
            return 0
        if isinstance(self.book, PartialBook):
            return min(len(self.book.bids), len(self.book.asks))
        return self.book.depth

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        if self.is_mute:
            return "mute"
        return "live" if self.is_known else "syncing"


@dataclass(slots=True)
class KeptRow(Kept):
    """One row of REST that a stream keeps young."""

    word: str = ""
    # Somebody wants its row, and no answer of his brings it.
    is_asked: bool = False
    row: StreamedRow = field(default_factory=lambda: StreamedRow({}))

    @property
    def what(self) -> str:
        return self.word

    @property
    def rows(self) -> int:
        return int(self.row.is_known)

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        return "live" if self.row.is_known else "syncing"


class FinalWaiter:
    """One call that waits until some series have reached a close."""

    __slots__ = ("_future", "missing")

    def __init__(self) -> None:
        # Those that are not there yet, by `id`.
        self.missing: dict[int, KeptKlines] = {}
        self._future: asyncio.Future[None] | None = None

    def watch(self, kept: KeptKlines, end_ms: int) -> None:
        """Wait for a series until its closed rows reach a time, 0 for whatever happens to it next."""
        if end_ms and kept.series.last_close + 1 >= end_ms:
            self.missing.pop(id(kept), None)
            kept.final_waiters.pop(self, None)
        else:
            self.missing[id(kept)] = kept
            kept.final_waiters[self] = end_ms

    async def wait(self, longest_s: float) -> None:
        """Wait until all of them are there, at most so long."""
        future = self._future = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({future}, timeout=longest_s)
        finally:
            self._future = None
            future.cancel()

    def note(self, kept: KeptKlines) -> None:
        """A series is there."""
        self.missing.pop(id(kept), None)
        if not self.missing and self._future is not None and not self._future.done():
            self._future.set_result(None)

    def leave(self) -> None:
        """Wait for nothing any more."""
        for kept in self.missing.values():
            kept.final_waiters.pop(self, None)
        self.missing.clear()


@dataclass(slots=True)
class KeptTraded(Kept):
    """What klines and trades share: whether each trade of the symbol has been seen, see `freshness.py`."""

    interval: str = "1s"
    # Exchange's time since when the stream is live, 0 if that is not known.
    live_ms: int = 0
    # Exchange's time of the newest own event since then, and its price.
    event_ms: int = 0
    price: str = ""
    # Exchange's time at which the witness named its symbol last, 0 if never.
    named_ms: int = 0
    # The witness has never named it although it trades: it says nothing of this symbol.
    is_uncovered: bool = False
    # Exchange's time at which the witness named a trade the stream has not brought, 0 if none.
    doubt_ms: int = 0
    doubt_price: str = ""
    # Exchange's time as of which REST knew trades the stream has not brought, 0 if none.
    unheard_ms: int = 0
    # Exchange's time at which its connection went on after a silence, 0 if it never had to.
    resumed_ms: float = 0.0

    @property
    def read_ms(self) -> int:
        """Exchange's time at which the last REST read that counts was made."""
        raise NotImplementedError


@dataclass(slots=True)
class KeptTrades(KeptTraded):
    """The newest trades of one symbol."""

    word: str = ""
    tail: TradeTail = field(default_factory=TradeTail)
    # Counts the losses of its stream: a read from before one says nothing about after it.
    epoch: int = 0
    # How often in turn a row of REST was another one than that of the stream.
    differing: int = 0
    # Rows were held without a hole at some time.
    was_synced: bool = False
    # The price of the newest event since the last loss; the one REST showed while there was none, and when
    # the last read of it that counts was made (exchange's time), 0 if none.
    told_price: str = ""
    seeded_price: str = ""
    price_ms: int = 0
    price_read_mono: float = -1e9

    @property
    def last_price(self) -> str:
        """The price of the last trade, "" if that is not known."""
        if self.tail.is_synced and self.tail.price:
            return self.tail.price
        return self.seeded_price if self.price_ms > self.event_ms else self.told_price

    @property
    def what(self) -> str:
        return self.word

    @property
    def read_ms(self) -> int:
        return self.tail.read_ms

    @property
    def rows(self) -> int:
        return len(self.tail) if self.tail.is_synced else 0

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        if self.is_mute:
            return "mute"
        return "live" if self.tail.is_synced else "syncing"


@dataclass(slots=True)
class KeptKlines(KeptTraded):
    """One kline series."""

    interval: str = ""
    series: KlineSeries = field(default_factory=lambda: KlineSeries("1m", 1))
    # Stands for the series in the keys of shared bodies; a new series gets a new one.
    identity: object = field(default_factory=object)
    # Nothing older can be had or is wanted.
    is_filled: bool = False
    # Rows asked for when the last read did not join what is held.
    sync_limit: int = 0
    failures: int = 0
    not_before_mono: float = 0.0
    is_reading: bool = False
    saved_version: int = -1
    unheard: Candle | None = None
    # Calls that wait until a candle is final, and the end of it (its close time plus one).
    final_waiters: dict[FinalWaiter, int] = field(default_factory=dict)
    # Pair and contract type if its stream is a continuous one.
    contract: tuple[str, str] | None = None
    # The word a rule has for it where that is not its interval, and its REST target up to the limit.
    word: str = ""
    target: str = ""

    def wake(self) -> None:
        Kept.wake(self)
        if self.final_waiters:
            end_ms = self.series.last_close + 1
            there = [waiter for waiter, due in self.final_waiters.items() if due <= end_ms or self.is_dropped]
            for waiter in there:
                del self.final_waiters[waiter]
                waiter.note(self)

    @property
    def read_ms(self) -> int:
        return self.series.read_ms

    @property
    def is_continuous(self) -> bool:
        return self.contract is not None

    @property
    def what(self) -> str:
        return self.word or self.interval

    @property
    def rows(self) -> int:
        return len(self.series)

    @property
    def last_open(self) -> int | None:
        return self.series.last_open

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        if self.is_mute:
            return "mute"
        if not self.series.is_synced:
            return "syncing"
        return "live" if self.is_filled else "filling"


@dataclass(slots=True)
class KeptTicker(Kept):
    """One symbol's book ticker."""

    ticker: BookTicker = field(default_factory=lambda: BookTicker(Market.SPOT))
    # Grows with every loss: a seed read before it does not count after it.
    epoch: int = 0
    seeded_mono: float = -1e9
    # When the newest own event came, and since when REST has shown another value, None if not.
    event_mono: float = -1e9
    unheard_mono: float | None = None

    @property
    def proof_mono(self) -> float:
        """When the value was last proven, by an event or a read."""
        return max(self.event_mono, self.seeded_mono)

    @property
    def what(self) -> str:
        return BOOK_TICKER

    @property
    def rows(self) -> int:
        return int(self.ticker.is_valid)

    @property
    def state(self) -> str:
        if not self.is_live:
            return "connecting"
        if self.is_mute:
            return "mute"
        return "live" if self.ticker.is_valid else "syncing"
