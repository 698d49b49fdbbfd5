"""What every kind of cached endpoint offers, and what it is handed to do it with.

A kind keeps one sort of data of one market (`klines`, `bookTicker`). Four calls drive what it keeps:
`event` (a frame of its stream), `lose` (the stream was lost), `proof` (how fresh it is) and the reads it
makes by itself when an answer lacks something. Answering is `answer`. A kind opens no connection and
knows no other kind; `MarketState` owns it and hands it `Tools`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.market.klines import FINAL_AFTER_MS
from resender.core.market.requests import Miss
from resender.core.market.row_store import Buffer
from resender.market.bodies import Bodies
from resender.market.close_pause import PauseS, no_pause
from resender.market.exchange_facts import ExchangeFacts
from resender.market.joined import JoinedAnswers, Pieces
from resender.market.reader import Reader
from resender.market.series import Kept
from resender.market.trade_watch import TradeWatch

_SETTLE_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer out of memory.

    Shape: `body` as Binance sends it, or `packed` the same compressed by gzip and `body` empty, or
        `pieces` of a body too large for one; `parts` instead if it is to become part of another answer.
    Units: `age_ms` since the last proof that it is current; `cost` weight of a read made for it alone.
    """

    body: bytes
    packed: bytes | None
    age_ms: int
    pieces: Pieces | None = None
    parts: Sequence[Buffer] = ()
    content_type: str = "application/json;charset=UTF-8"
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Wanting(Miss):
    """A miss whose answer the cache would like to see when it comes down.

    Shape: `take(body)` gets the whole body of a 200 answer, unpacked, `leave()` is called if there is none.
    """

    take: Callable[[bytes], None] = lambda body: None
    leave: Callable[[], None] = lambda: None


Outcome = Hit | Miss | Awaitable["Hit | Miss"]
# Reads the query of a call: a request for `Kind.answer`, or a `Miss` for whatever is odd.
Parse = Callable[[Market, str], Any]


@dataclass(frozen=True, slots=True)
class Lack:
    """What a kept series lacks for an answer now.

    Shape: `can_settle` tells that a small REST read would help, `may_come` that the stream may bring it
        within moments, `is_mute` that the stream has to be moved.
    """

    reason: str
    can_settle: bool = False
    may_come: bool = False
    is_mute: bool = False


@dataclass(frozen=True, slots=True)
class KindOptions:
    """Settings of the kinds. Units: names ending in `_s` seconds, `_ms` milliseconds."""

    depth: int = 1500
    settle_wait_ms: int = 250
    quiet_s: float = 10.0
    final_after_ms: int = FINAL_AFTER_MS
    um_kline_stream: str = "plain"


class Feed(Protocol):
    """What a market needs of `resender.upstream.streams.feeds.Feed`."""

    async def start(self) -> None: ...
    def subscribe(self, names: list[str], listener: Any) -> None: ...
    def unsubscribe(self, names: list[str], listener: Any) -> None: ...
    def shift(self, name: str, mute_s: float) -> None: ...
    def proof_mono(self, name: str) -> float | None: ...
    def is_proven(self, name: str) -> bool: ...
    def carrier(self, name: str) -> object: ...
    @property
    def connections(self) -> list[Any]: ...


class Feeds(Protocol):
    """What the cache needs of `resender.upstream.streams.feeds.Feeds`."""

    def feed(self, market: Market, what: str, role: str = "") -> Any: ...


class Desk(Protocol):
    """What the cache does for all kinds alike."""

    def count_hit(self, kept: Kept) -> None: ...
    def miss(self, kept: Kept | None, reason: str) -> Miss: ...
    def begin(self, market: Market, symbol: str, what: str) -> str: ...
    def fill(self, market: Market) -> None: ...


class Shared:
    """What the kinds of all markets share: the bodies in memory, and how many settle at once."""

    def __init__(self, tasks: Tasks) -> None:
        self.bodies = Bodies()
        self.joined = JoinedAnswers(tasks)
        # How long what can wait has to wait because candles close. Units: seconds.
        self.pause_s: PauseS = no_pause
        # A whole market may need settling at the same moment: not all on connections of their own.
        self.settle_slots = asyncio.Semaphore(_SETTLE_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a kind works with.

    Shape: `feed` carries its streams, `watch` is the witness of its market's trades; `mute(kept)` moves the
        stream of a series to another connection, `restream(kept, name)` gives it another stream.
    """

    market: Market
    facts: ExchangeFacts
    feed: Feed
    watch: TradeWatch
    reader: Reader
    desk: Desk
    mute: Callable[[Kept], None]
    restream: Callable[[Sequence[tuple[Any, str]]], None]
    clock: Clock
    tasks: Tasks
    options: KindOptions
    shared: Shared


K = TypeVar("K", bound=Kept)


class Kind(Generic[K]):
    """One sort of data of one market."""

    name: ClassVar[str]
    # Which stream of the market carries it, a key of `STREAM_PATHS`.
    stream: ClassVar[str]

    def __init__(self, tools: Tools) -> None:
        self.market = tools.market
        self.facts = tools.facts
        self.feed = tools.feed
        self.reader = tools.reader
        self.desk = tools.desk
        self.options = tools.options
        self.clock = tools.clock
        self.tasks = tools.tasks
        self._mute = tools.mute
        self._restream = tools.restream
        # What is kept, by symbol and the word a preload rule has for it.
        self.kept: dict[tuple[str, str], K] = {}

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """The market begins to be followed."""

    async def stop(self) -> None:
        """The market is not followed any more."""

    # --- what is kept ----------------------------------------------------------------------

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        """Return the words of preload rules this kind stands for."""
        raise NotImplementedError

    def can_keep(self, symbol: str, what: str) -> bool:
        """Tell whether there is such a thing of a symbol that is traded."""
        return True

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> K:
        """Make what is kept of a symbol; its stream is subscribed by the market."""
        raise NotImplementedError

    def begin(self, kept: K) -> None:
        """Something is kept from now on; its stream is not live yet."""

    def end(self, kept: K) -> None:
        """Something is kept no longer."""

    def symbols_changed(self) -> None:
        """The exchange's symbols were read again; what is traded no more is not kept any longer."""

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: K, data: Any) -> bool | None:
        """Take a frame of its stream.

        Raises: ValueError, KeyError or TypeError if it cannot be used.
        """
        raise NotImplementedError

    def live(self, kept: K) -> None:
        """Its stream has been subscribed: what happened before is not known."""

    def other_stream(self, kept: K) -> str | None:
        """Return the stream to take in the place of one that is mute, None to move the one it has."""
        return None

    def settled_live(self) -> None:
        """All streams of one message are live: reads may be due."""

    def lose(self, kept: K) -> None:
        """Its stream was lost: what is held may have changed unseen."""
        raise NotImplementedError

    def proof(self, kept: K) -> tuple[int | None, str]:
        """Tell how old the last proof is and of which kind; None if there is none now.

        Shape: kinds are `event`, `rest`, `witness` and "". Units: milliseconds.
        """
        raise NotImplementedError

    # --- answers ---------------------------------------------------------------------------

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        """Return the REST paths it answers, with what reads the query of a call there."""
        raise NotImplementedError

    def answer(self, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call, perhaps after a short wait, or say why not.

        Units: `max_age_ms` milliseconds up to which the client consents to a value that was true but may
            not be any more; 0 if it does not. Kinds that prove what they say need no consent.
        """
        raise NotImplementedError

    def is_held_up(self, kept: K) -> bool:
        """Tell whether the connection of its stream is silent or its subscription is gone."""
        return not kept.is_live or self.feed.proof_mono(kept.stream) is None

    @property
    def witness_reads(self) -> int:
        """How often REST was read to compare what is quiet."""
        return 0


def settle_task(kept: Kept) -> asyncio.Task[None] | None:
    """Return the read of a series that is under way, None if there is none."""
    return kept.read if kept.read is not None and not kept.read.done() else None
