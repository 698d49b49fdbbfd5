"""How fresh one kept series is: the last proof of it, of whatever kind, and what it would take.

Pure decisions over an entry and its market's witness; it reads nothing and opens nothing. Pings
prove a connection; only data or a witness proves a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resender.core.binance.markets import Market
from resender.core.market.candles import Candle
from resender.market.series import KeptKlines, KeptTraded
from resender.market.witness import TradeWitness

ProofKind = Literal["event", "rest", "witness"]

# How often a changed candle is pushed. Source: web-socket-streams.md of 2026-07-21; um, cm SDKs.
PUSH_MS: dict[Market, int] = {Market.SPOT: 2000, Market.UM: 250, Market.CM: 250}
SPOT_SECOND_PUSH_MS = 1000
# A connection that pushes all the time and is silent for longer than so many pushes may have lost some.
SILENT_PUSHES = 3
# A trade was named and the stream has not brought it for so long beyond its push: ask REST.
_DOUBT_MS = 2000
# REST showed trades and the stream is silent on: mute. Plain USD-M streams are seconds late at a
# close, and a late stream is no mute one.
_MUTE_MS: dict[Market, int] = {Market.SPOT: 6000, Market.UM: 10_000, Market.CM: 10_000}
# A trade is named up to a second after it, and REST's answers lag by up to another.
_LAG_MS = 2000
# While REST knows more than the stream, only a read so young is believed.
_UNHEARD_MS = 1000


@dataclass(frozen=True, slots=True)
class Proof:
    """The last proof of a series. Units: `at_ms` epoch milliseconds of the exchange."""

    at_ms: int
    kind: ProofKind


@dataclass(frozen=True, slots=True)
class Unproven:
    """Why a series cannot be believed as of now.

    Shape: `is_mute` tells that its stream has to be moved; `can_settle` that a read would help.
    """

    reason: str
    is_mute: bool = False
    can_settle: bool = True


def push_ms(market: Market, interval: str) -> int:
    """Return how often a stream pushes a changed candle. Units: milliseconds."""
    return SPOT_SECOND_PUSH_MS if interval == "1s" else PUSH_MS[market]


def _seen_ms(entry: KeptTraded, read_ms: int | None = None) -> int:
    """Return until when everything traded is held for certain: a REST answer may lag behind."""
    return max(entry.event_ms, (entry.read_ms if read_ms is None else read_ms) - _LAG_MS)


def trade_proof(
    entry: KeptTraded, witness: TradeWitness, now_ms: int, quiet_s: float, read_ms: int | None = None
) -> tuple[Proof, Unproven | None]:
    """Find the last proof that each trade was seen, and whether it is too old.

    Units: `now_ms` epoch milliseconds of the exchange; `quiet_s` seconds after which a series
        without an event of its own needs a witness, twice as many for a spot candle; `read_ms` when the
        last read was made, where that is not the series' own.
    """
    read_ms = entry.read_ms if read_ms is None else read_ms
    event_ms = entry.event_ms
    own = Proof(event_ms, "event") if event_ms >= read_ms else Proof(read_ms, "rest")
    market = entry.market
    if entry.unheard_ms:
        if now_ms - entry.unheard_ms > _MUTE_MS[market]:
            return own, Unproven("stream mute", is_mute=True)
        if now_ms - read_ms > _UNHEARD_MS:
            # Until it speaks or is moved the calls go up: a read a second for each would cost more.
            return own, Unproven("stream quiet", can_settle=False)
        return Proof(read_ms, "rest"), None
    seen_ms = _seen_ms(entry, read_ms)
    is_vouched = entry.named_ms <= seen_ms and not entry.is_uncovered and witness.was_steady(seen_ms)
    # A trade of the last push before it went on is still told; of one before that only the witness knows.
    is_vouched &= witness.until_ms >= entry.resumed_ms - push_ms(market, entry.interval)
    if entry.resumed_ms > max(event_ms, read_ms) and not is_vouched:
        # What was lost meanwhile never comes: only an own event or a read tells.
        return own, Unproven("stream quiet")
    if entry.doubt_ms > seen_ms:
        if now_ms - entry.doubt_ms > push_ms(market, entry.interval) + _DOUBT_MS:
            return own, Unproven("stream quiet")
    elif entry.named_ms <= seen_ms and not entry.is_uncovered:
        vouched = witness.vouches_ms(seen_ms)
        if vouched is not None and vouched > own.at_ms:
            own = Proof(min(vouched, now_ms), "witness")
    quiet_ms = quiet_s * (2000 if market is Market.SPOT and entry.interval != "1s" else 1000)
    if now_ms - own.at_ms > quiet_ms:
        return own, Unproven("stream quiet")
    return own, None


def settle_quiet(entry: KeptKlines, witness: TradeWitness) -> None:
    """Settle candles that ended while their symbol was not traded, without a read.

    An array names what traded in the second before it, and a REST answer may lag behind by
    another: what was seen two seconds after the last trade is the last word.
    """
    if witness.since_ms is not None and witness.is_current and not entry.is_uncovered:
        quiet_since_ms = max(witness.since_ms, entry.named_ms) + _LAG_MS
        entry.series.settle_quiet(quiet_since_ms, witness.until_ms)


def settles_quiet_soon(kept: KeptKlines, witness: TradeWitness) -> bool:
    """Tell whether `settle_quiet` only lacks the witness' word about the time up to the close."""
    if witness.since_ms is None or not witness.is_current or kept.is_uncovered:
        return False
    return kept.series.unsettled_seen_ms >= max(witness.since_ms, kept.named_ms) + _LAG_MS


def was_silent(entry: KeptTraded, now_ms: int) -> bool:
    """Tell whether a stream has brought nothing for longer than it takes to push a change."""
    since_ms = max(entry.event_ms, entry.live_ms)
    return now_ms - since_ms > push_ms(entry.market, entry.interval) + _DOUBT_MS


def note_event(entry: KeptTraded, event_ms: int, price: str) -> None:
    """A series' own event came that shows all that is held: its stream works."""
    if event_ms > entry.event_ms:
        entry.event_ms = event_ms
        entry.price = price
    entry.unheard_ms = 0
    doubt_ms = entry.doubt_ms
    if doubt_ms and (event_ms >= doubt_ms or (event_ms >= doubt_ms - 1000 and price == entry.doubt_price)):
        entry.doubt_ms = 0


def brings(candle: Candle, known: Candle | None) -> bool:
    """Tell whether an event brings what REST knew before it."""
    return (
        known is not None
        and candle.open_time == known.open_time
        and (candle.is_final or candle.trades >= known.trades)
    )


def note_traded(entry: KeptTraded, traded_ms: int, price: str) -> None:
    """The witness named a series' symbol: its stream has to have brought that, or will.

    An array covers the second before it. An event from within that second with the same last
    price has most likely told it already: no read is due at once, but nothing is vouched for.
    """
    entry.named_ms = traded_ms
    entry.is_uncovered = False
    seen_ms = _seen_ms(entry)
    if entry.doubt_ms > seen_ms or seen_ms >= traded_ms:
        return
    if entry.event_ms >= traded_ms - 1000 and entry.price == price:
        return
    entry.doubt_ms, entry.doubt_price = traded_ms, price
