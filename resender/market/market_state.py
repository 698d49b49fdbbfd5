"""One market of the cache: its facts, its kinds, and what each of them keeps.

It does not answer clients; the kinds do. It listens to the feeds, hands each frame to the kind that
keeps it, and moves streams that fell mute. Everything changes on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from resender.aio import Clock, Tasks, end_tasks
from resender.core.binance.markets import Market
from resender.core.market.words import BUSY
from resender.market.exchange_facts import ExchangeFacts, SymbolTable
from resender.market.kinds.base import Desk, Feed, Feeds, Kind, KindOptions, Shared, Tools
from resender.market.reader import Reader
from resender.market.series import Kept
from resender.market.trade_watch import WITNESS_ROLE, TradeWatch

logger = logging.getLogger("resender.market")

# A stream found mute is moved at once, the next times after growing pauses.
_MUTE_PAUSE_S = 15.0
_MUTE_MAX_S = 600.0
_MUTE_FORGET_S = 1800.0

T = TypeVar("T", bound="Kind[Any]")


class MarketState:
    """Everything the cache keeps of one market."""

    is_relay = False

    def __init__(
        self,
        reader: Reader,
        kinds: Sequence[type[Kind[Any]]],
        options: KindOptions,
        *,
        feeds: Feeds,
        desk: Desk,
        shared: Shared,
        clock: Clock,
        tasks: Tasks,
        refresh_s: float,
        on_symbols: Callable[[MarketState], None],
        on_limit: Callable[[Market, int], None] = lambda market, limit: None,
    ) -> None:
        self.market = reader.market
        self.reader = reader
        self._clock = clock
        self._tasks = tasks
        self._quiet_s = options.quiet_s
        self._on_symbols = on_symbols
        self.facts = ExchangeFacts(
            reader,
            clock=clock,
            tasks=tasks,
            refresh_s=refresh_s,
            on_symbols=self._symbols_changed,
            on_limit=on_limit,
            pause_s=lambda: shared.pause_s(),
        )
        self.watch_feed: Feed = feeds.feed(self.market, "miniTicker", WITNESS_ROLE)
        self.watch = TradeWatch(
            self.market,
            self.watch_feed,
            quiet_s=options.quiet_s,
            latest_ms=self.facts.latest_ms,
            clock=clock,
            tasks=tasks,
        )
        # What was asked for before the symbols were known.
        self.requested: dict[tuple[str, str], None] = {}
        # How much is kept that no rule stands behind.
        self.on_demand = 0
        # And of that what brings much, see `BUSY`.
        self.on_demand_busy = 0
        self._moved = 0
        # Who keeps something out of each stream; one may serve several kinds.
        self._by_stream: dict[str, tuple[tuple[Kind[Any], Kept], ...]] = {}
        self._starting: asyncio.Task[None] | None = None
        self.kinds: tuple[Kind[Any], ...] = tuple(
            kind(
                Tools(
                    market=self.market,
                    facts=self.facts,
                    feed=feeds.feed(self.market, kind.stream),
                    watch=self.watch,
                    reader=reader,
                    desk=desk,
                    mute=self.mute,
                    restream=self.restream,
                    clock=clock,
                    tasks=tasks,
                    options=options,
                    shared=shared,
                )
            )
            for kind in kinds
            if kind.words(self.market)
        )
        self._kind_of = {word: kind for kind in self.kinds for word in kind.words(self.market)}

    def kind(self, wanted: type[T]) -> T:
        """Return the kind of this class."""
        for kind in self.kinds:
            if isinstance(kind, wanted):
                return kind
        raise LookupError(f"{self.market} has no {wanted.name}")

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow this market; the first call does it, later ones do nothing."""
        if self._starting is None:
            self._starting = self._tasks.spawn(self._start(), name=f"market-start:{self.market}")
            self.facts.start()
            self.watch.start()
            for kind in self.kinds:
                kind.start()

    async def _start(self) -> None:
        for kind in self.kinds:
            await kind.feed.start()

    async def stop(self) -> None:
        if self._starting is not None:
            await end_tasks([self._starting])
        await self.facts.stop()
        await self.watch.stop()
        for kind in self.kinds:
            await kind.stop()

    @property
    def is_started(self) -> bool:
        return self.facts.is_started

    @property
    def symbols(self) -> SymbolTable:
        return self.facts.symbols

    @property
    def feeds(self) -> list[Feed]:
        """Every feed it listens to, each once."""
        found: list[Feed] = [*(kind.feed for kind in self.kinds), self.watch_feed]
        return list({id(feed): feed for feed in found}.values())

    @property
    def mutes(self) -> int:
        """How often a stream was found mute."""
        return self._moved + self.watch.mutes

    # --- what is kept ----------------------------------------------------------------------

    def entries(self) -> list[Kept]:
        """List all that is kept."""
        return [kept for kind in self.kinds for kept in kind.kept.values()]

    def request_later(self, symbol: str, what: str) -> None:
        """Remember what was asked for before the symbols were known."""
        self.requested[symbol, what] = None

    def add(self, symbol: str, what: str, *, is_preload: bool = False) -> Kept | None:
        """Begin to keep an interval of a symbol, or its bookTicker; None if it cannot be traded."""
        kind = self._kind_of.get(what)
        if kind is None or symbol not in self.facts.symbols:
            return None
        known: Kept | None = kind.kept.get((symbol, what))
        if known is not None:
            if is_preload:
                self.set_preload(known, True)
            return known
        if not kind.can_keep(symbol, what):
            return None
        kept: Kept = kind.make(symbol, what, self._clock.mono(), is_preload=is_preload)
        kind.kept[symbol, what] = kept
        self._count(kept, not is_preload)
        kind.begin(kept)
        self._follow(kind, kept)
        return kept

    def _follow(self, kind: Kind[Any], kept: Kept) -> None:
        """Take the stream of something kept, if it has one."""
        if not kept.stream:
            return
        others = self._by_stream.get(kept.stream, ())
        self._by_stream[kept.stream] = (*others, (kind, kept))
        kind.feed.subscribe([kept.stream], self)
        if others and any(other.is_live for _, other in others):
            # It is there already, and nobody else will say so.
            asyncio.get_running_loop().call_soon(self._tell_live, kind, kept, kept.stream)

    def _tell_live(self, kind: Kind[Any], kept: Kept, stream: str) -> None:
        followers = [each for _, each in self._by_stream.get(stream, ())]
        is_there = any(each is kept for each in followers) and any(each.is_live for each in followers)
        if is_there and not kept.is_live:
            self._note_live(kind, kept)
            kind.settled_live()

    def _unfollow(self, kept: Kept) -> Kind[Any]:
        """Leave the stream of something kept, if it has one."""
        if not kept.stream:
            return self._kind_of[kept.what]
        followers = self._by_stream.pop(kept.stream)
        kind = next(kind for kind, each in followers if each is kept)
        left = tuple(each for each in followers if each[1] is not kept)
        if left:
            self._by_stream[kept.stream] = left
        else:
            kind.feed.unsubscribe([kept.stream], self)
        return kind

    def set_preload(self, kept: Kept, is_preload: bool) -> None:
        """A rule stands behind something kept from now on, or no longer."""
        self._count(kept, kept.is_preload - is_preload)
        kept.is_preload = is_preload

    def _count(self, kept: Kept, change: int) -> None:
        self.on_demand += change
        if kept.what in BUSY:
            self.on_demand_busy += change

    def remove(self, kept: Kept) -> None:
        """Stop keeping something."""
        kind = self._unfollow(kept)
        kept.is_dropped = True
        kept.is_live = False
        self._count(kept, -(not kept.is_preload))
        del kind.kept[kept.symbol, kept.what]
        kind.end(kept)
        kept.wake()

    def _symbols_changed(self) -> None:
        for kept in self.entries():
            if kept.symbol not in self.facts.symbols:
                logger.info("%s: %s cannot be traded any more and is dropped", self.market, kept.symbol)
                self.remove(kept)
        for kind in self.kinds:
            kind.symbols_changed()  # before another symbol may get the stream one has had
        requested, self.requested = self.requested, {}
        for symbol, what in requested:
            self.add(symbol, what)
        self._on_symbols(self)

    def kind_of(self, kept: Kept) -> Kind[Any]:
        """Return the kind of something kept."""
        return self._kind_of[kept.what]

    def proof(self, kept: Kept) -> tuple[int | None, str]:
        """Tell how old the last proof of something kept is and of which kind, see `Kind.proof`."""
        return self._kind_of[kept.what].proof(kept)

    # --- what the streams say --------------------------------------------------------------

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        found = self._by_stream.get(name)
        if found is None:
            return None
        if len(found) == 1:
            kind, kept = found[0]
            return kind.event(kept, data)
        verdicts, unusable = [], None
        for kind, kept in found:
            try:
                verdicts.append(kind.event(kept, data))
            except (ValueError, KeyError, TypeError) as error:
                unusable = error  # what one cannot use the others may
        if unusable is not None:
            raise unusable
        return False if False in verdicts else None

    def on_live(self, names: list[str]) -> None:
        touched = {}
        for name in names:
            for kind, kept in self._by_stream.get(name, ()):
                self._note_live(kind, kept)
                touched[kind.name] = kind
        for kind in touched.values():
            kind.settled_live()

    @staticmethod
    def _note_live(kind: Kind[Any], kept: Kept) -> None:
        kept.is_live = True
        kept.is_mute = False
        kind.live(kept)

    def on_lost(self, names: list[str]) -> None:
        for name in names:
            for kind, kept in self._by_stream.get(name, ()):
                kept.is_live = False
                kind.lose(kept)

    # --- mute streams ----------------------------------------------------------------------

    def mute(self, kept: Kept) -> None:
        """A witness contradicts a stream: no hits, and another connection, at growing intervals."""
        now = self._clock.mono()
        if kept.is_dropped or kept.is_mute or not kept.is_live:
            return
        if now - kept.moved_mono > _MUTE_FORGET_S:
            kept.mutes = 0
        kept.mutes += 1
        self._moved += 1
        kept.is_mute = True
        pause_s = 0.0 if kept.mutes == 1 else min(_MUTE_MAX_S, _MUTE_PAUSE_S * 2 ** (kept.mutes - 2))
        logger.warning(
            "%s %s %s: its stream brings nothing although there is something new; "
            "it is subscribed again on another connection%s",
            *kept.key, f" in {pause_s:.0f} s" if pause_s else "",
        )  # fmt: skip
        self._tasks.spawn(self._move(kept, pause_s), name=f"stream-move:{kept.stream}")

    async def _move(self, kept: Kept, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if kept.is_dropped or not kept.is_mute:
            return  # it has spoken meanwhile
        kept.moved_mono = self._clock.mono()
        kind = self._kind_of[kept.what]
        other = kind.other_stream(kept)
        if other is None:
            kind.feed.shift(kept.stream, self._quiet_s)
        else:
            self.restream([(kept, other)])

    def restream(self, moves: Sequence[tuple[Kept, str]]) -> None:
        """Give series other streams: what they hold is in doubt until those are live.

        Shape: one may get the stream that another one of them has had.
        """
        kinds = [self._unfollow(kept) for kept, _ in moves]
        for kind, (kept, _) in zip(kinds, moves, strict=True):
            if kept.is_live:
                kept.is_live = False
                kind.lose(kept)
        for kind, (kept, name) in zip(kinds, moves, strict=True):
            kept.stream = name
            self._follow(kind, kept)
