"""Which stream carries a kline series, and whether two streams that ought to say the same do.

On USD-M the finals of `continuousKline` come for the whole market at once some 105 ms after a close,
those of the plain stream up to three seconds later. It is used where exactly one trading symbol has a
pair and contract type, and as long as it brings what the plain stream brings: a few series are held on
both in turn and their closed rows compared, text for text. It opens nothing; `Klines` owns it.
Source: hours of September and October 2026 on the live exchange.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from resender.core.binance.markets import Market
from resender.core.binance.stream_names import continuous_stream, kline_stream
from resender.core.market.candles import Candle, parse_continuous_event, parse_event
from resender.market.exchange_facts import SymbolTable
from resender.market.kinds.base import Feed
from resender.market.series import KeptKlines

logger = logging.getLogger("resender.market")

CONTINUOUS, PLAIN = "continuous", "plain"
# Series held on both streams at once, and for how long at most.
SAMPLE = 4
_SAMPLE_S = 900.0
# A continuous stream that brought nothing is tried again after so long.
_RETRY_S = 3600.0
_INTERVALS = ("1m", "3m", "5m", "15m")  # others close too seldom to be compared in the time


class _Compared:
    """One series held on both streams; listens to the plain one."""

    is_relay = False

    def __init__(self, streams: KlineStreams, kept: KeptKlines, begun_mono: float) -> None:
        self.kept = kept
        self.stream = kline_stream(kept.symbol, kept.interval)
        self.begun_mono = begun_mono
        # The first of the two finals of a candle, by its open time: the plain stream's or not, and its row.
        self.firsts: dict[int, tuple[bool, bytes]] = {}
        self._streams = streams

    def on_frame(self, name: str, data: object, raw: bytes) -> bool | None:
        _, _, candle = parse_event(data)  # type: ignore[arg-type]
        if candle.is_final:
            self._streams.note(self, candle, is_plain=True)
        return None

    def on_live(self, names: list[str]) -> None:
        """What it brings is compared, nothing else."""

    def on_lost(self, names: list[str]) -> None:
        self.firsts.clear()


class KlineStreams:
    """The streams of the kline series of one market.

    Shape: `wanted` is "continuous" or "plain"; other markets than USD-M have plain ones only.
    """

    def __init__(
        self,
        market: Market,
        symbols: SymbolTable,
        feed: Feed,
        wanted: str,
        on_differing: Callable[[str], None] = lambda symbol: None,
    ) -> None:
        self._symbols = symbols
        self._feed = feed
        # Told of a symbol whose continuous stream is not to be believed.
        self._on_differing = on_differing
        self._is_wanted = market is Market.UM and wanted == CONTINUOUS
        # Symbols that left the continuous stream, and when it may be tried again, never if rows differed.
        self._left: dict[str, float] = {}
        self._sample: dict[str, _Compared] = {}
        self._turn = 0
        self.compared = 0
        self.differing = 0

    # --- which ------------------------------------------------------------------------------

    def choose(self, symbol: str, interval: str, mono: float) -> tuple[str, tuple[str, str] | None]:
        """Return the name of the stream a series should have now, and its contract if it is continuous."""
        contract = self._symbols.continuous.get(symbol) if self._is_wanted else None
        if contract is None or mono < self._left.get(symbol, 0.0):
            return kline_stream(symbol, interval), None
        return continuous_stream(*contract, interval), contract

    def leave(self, kept: KeptKlines, mono: float) -> bool:
        """The continuous stream of a series is mute; tell whether it had one that can be left."""
        if not kept.is_continuous:
            return False
        self._left[kept.symbol] = max(self._left.get(kept.symbol, 0.0), mono + _RETRY_S)
        logger.warning(
            "%s %s: its continuous stream brings nothing; the plain one is used for the next hour",
            kept.market, kept.symbol,
        )  # fmt: skip
        return True

    @staticmethod
    def parse(kept: KeptKlines, data: object) -> Candle:
        """Read a frame of whichever stream a series has.

        Raises: ValueError, KeyError or TypeError if it is none of it.
        """
        if not kept.is_continuous:
            symbol, interval, candle = parse_event(data)  # type: ignore[arg-type]
            is_its = symbol == kept.symbol
        else:
            pair, contract, interval, candle = parse_continuous_event(data)  # type: ignore[arg-type]
            is_its = (pair, contract) == kept.contract
        if not is_its or interval != kept.interval:
            raise ValueError("a kline of another series")
        return candle

    # --- whether they say the same ----------------------------------------------------------

    def sample(self, candidates: Iterable[KeptKlines], mono: float) -> None:
        """Hold the next few series on both streams; those that had their turn have it no more."""
        for stream, compared in list(self._sample.items()):
            kept = compared.kept
            if kept.is_dropped or not kept.is_continuous or mono - compared.begun_mono > _SAMPLE_S:
                self._end(stream)
        usable = [each for each in candidates if each.is_continuous and each.interval in _INTERVALS]
        for _ in range(min(SAMPLE - len(self._sample), len(usable))):
            self._turn += 1
            kept = usable[self._turn % len(usable)]
            compared = _Compared(self, kept, mono)
            if compared.stream not in self._sample:
                self._sample[compared.stream] = compared
                self._feed.subscribe([compared.stream], compared)

    def note_own(self, kept: KeptKlines, candle: Candle) -> None:
        """A final event of the continuous stream came."""
        if not self._sample:
            return
        compared = self._sample.get(kline_stream(kept.symbol, kept.interval))
        if compared is not None:
            self.note(compared, candle, is_plain=False)

    def note(self, compared: _Compared, candle: Candle, *, is_plain: bool) -> None:
        """One of the two finals of a candle came; the second one is compared with the first."""
        firsts = compared.firsts
        other = firsts.get(candle.open_time)
        # The same stream may say it twice, when its connection is renewed: its last word counts.
        if other is None or other[0] is is_plain:
            firsts[candle.open_time] = is_plain, candle.row
            while len(firsts) > 8:
                del firsts[next(iter(firsts))]
            return
        del firsts[candle.open_time]
        self.compared += 1
        if other[1] == candle.row:
            return
        self.differing += 1
        kept = compared.kept
        self._left[kept.symbol] = float("inf")
        logger.error(
            "%s %s %s: the continuous and the plain stream disagree about the candle of %d; "
            "the plain one is used from now on",
            *kept.key, candle.open_time,
        )  # fmt: skip
        self._end(compared.stream)
        self._on_differing(kept.symbol)

    def _end(self, stream: str) -> None:
        compared = self._sample.pop(stream)
        self._feed.unsubscribe([stream], compared)
