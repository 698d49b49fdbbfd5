"""Funding rates that were paid: they never change, and the mark price stream tells when the next one is due.

What is held is complete until that time. REST shows a new row up to minutes after it; until then calls are
forwarded. See `kinds/base.py` for what drives this.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import quote

from resender.aio import end_tasks
from resender.core.binance.endpoints import FUNDING_RATES
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import symbol_stream
from resender.core.market.requests import FundingRequest, Miss, parse_funding
from resender.core.market.timed_rows import MAX_ROWS, read_timed
from resender.core.market.words import FUNDING
from resender.market.kinds.base import Hit, Kind, Lack, Outcome, Parse, Tools, settle_task
from resender.market.reader import ReadFailed
from resender.market.series import KeptFunding

logger = logging.getLogger("resender.market")

_SETTLE_TIMEOUT_S = 3.0
_REREAD_S = 30.0
_HOUR_MS = 3_600_000
# Funding is paid at full hours; its row is there five minutes later, as was seen on the live exchange.
_LAG_MS = 600_000
# The time in a row is some milliseconds off the hour.
_JITTER_MS = 60_000
# The stream pushes each second, or each three.
_QUIET_S = 10.0
# 500 calls in five minutes are allowed, to the clients too.
_AHEAD_S = 2.0
_NEVER_MS = 1 << 62


class FundingRates(Kind[KeptFunding]):
    """The funding rates of one market."""

    name = "fundingRate"
    stream = "markPrice"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._settle_slots = tools.shared.settle_slots
        self._reading_ahead: asyncio.Task[None] | None = None

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        return frozenset({FUNDING}) if market in FUNDING_RATES else frozenset()

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {FUNDING_RATES[market]: parse_funding} if market in FUNDING_RATES else {}

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptFunding:
        stream = symbol_stream(symbol, "markPrice@1s")
        return KeptFunding(self.market, symbol, stream, now_mono, is_preload)

    def start(self) -> None:
        self._reading_ahead = self.tasks.spawn(self._read_ahead(), name=f"funding-ahead:{self.market}")

    async def stop(self) -> None:
        if self._reading_ahead is not None:
            await end_tasks([self._reading_ahead])

    async def _read_ahead(self) -> None:
        """Read what rules want, one after the other, when nothing else needs the weight."""
        while True:
            await asyncio.sleep(_AHEAD_S)
            mono = self.clock.mono()
            for kept in self.kept.values():
                if kept.is_preload and mono - kept.read_mono >= _REREAD_S and self._is_due(kept):
                    kept.read_mono = mono
                    kept.read = self.tasks.spawn(
                        self._read(kept, is_urgent=False), name=f"funding:{kept.symbol}"
                    )
                    break

    def _is_due(self, kept: KeptFunding) -> bool:
        """Tell whether a read would show what is not held yet."""
        if self.is_held_up(kept) or not self.facts.server.is_set or settle_task(kept) is not None:
            return False
        return (
            not kept.was_lost
            and bool(kept.next_ms)
            and self.facts.now_ms() < kept.next_ms
            and not self._is_held(kept)
        )

    def _is_held(self, kept: KeptFunding) -> bool:
        return kept.was_read and self._is_complete(kept)

    # --- the four calls --------------------------------------------------------------------

    def event(self, kept: KeptFunding, data: Any) -> bool | None:
        next_ms, event_ms = data["T"], data["E"]
        if data["s"] != kept.symbol or type(next_ms) is not int or type(event_ms) is not int:
            raise ValueError("a mark price of another symbol, or without its times")
        # At a full hour that nobody has seen a rate may have been paid, out of its turn even.
        is_gap = kept.was_lost and event_ms // _HOUR_MS != kept.event_ms // _HOUR_MS
        kept.was_lost = False
        if next_ms != kept.next_ms or is_gap:
            kept.next_ms, kept.next_since_ms = next_ms, event_ms
        kept.event_ms = max(kept.event_ms, event_ms)
        kept.event_mono = self.clock.mono()
        return None

    def lose(self, kept: KeptFunding) -> None:
        """Nothing was paid meanwhile if the next event tells the same time and no full hour lies between."""
        kept.was_lost = True

    def proof(self, kept: KeptFunding) -> tuple[int | None, str]:
        if not kept.is_live or not len(kept.held) or not kept.next_ms:
            return None, ""
        return int((self.clock.mono() - kept.event_mono) * 1000), "event"

    # --- answers ---------------------------------------------------------------------------

    def answer(self, request: FundingRequest, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for the rates of a symbol."""
        kept = self.kept.get((request.symbol, FUNDING))
        if kept is None:
            return self.desk.miss(None, self.desk.begin(self.market, request.symbol, FUNDING))
        kept.used_mono = self.clock.mono()
        found = self._try(kept, request)
        if isinstance(found, Hit):
            self.desk.count_hit(kept)
            return found
        if found.can_settle:
            return self._settle(kept, request)
        return self.desk.miss(kept, found.reason)

    def _try(self, kept: KeptFunding, request: FundingRequest) -> Hit | Lack:
        if self.is_held_up(kept):
            return Lack("stream not live")
        if not self.facts.server.is_set:
            return Lack("starting")
        end_ms = _NEVER_MS if request.end_ms is None else request.end_ms
        if request.start_ms is None:
            rows = kept.held.latest(request.limit)
            is_open = True
        else:
            rows = kept.held.from_time(request.start_ms, end_ms, request.limit)
            is_open = end_ms > kept.held.newest_ms and (rows is None or len(rows) < request.limit)
        if is_open and (lack := self._open_end(kept)) is not None:
            return lack
        if rows is None:
            return Lack("range not held", can_settle=not kept.was_read and request.start_ms is None)
        return Hit(b"[%b]" % b",".join(rows), None, self.proof(kept)[0] or 0)

    def _open_end(self, kept: KeptFunding) -> Lack | None:
        """Tell why there may be a row that is not held."""
        if kept.was_lost or not kept.next_ms or self.clock.mono() - kept.event_mono > _QUIET_S:
            return Lack("stream quiet")
        if self.facts.server.latest_ms(self.clock.mono()) >= kept.next_ms:
            return Lack("not settled")
        if not self._is_held(kept):
            return Lack("not read yet", can_settle=True)
        return None

    @staticmethod
    def _is_complete(kept: KeptFunding) -> bool:
        """Tell whether nothing was paid that is not held.

        Since the next time is what it is nothing was; before that perhaps at the full hour.
        """
        hour_ms = (kept.next_since_ms + _JITTER_MS) // _HOUR_MS * _HOUR_MS
        if hour_ms >= kept.next_ms:  # that one is yet to come
            hour_ms -= _HOUR_MS
        return kept.held.newest_ms >= hour_ms - _JITTER_MS or kept.read_ms >= hour_ms + _LAG_MS

    async def _settle(self, kept: KeptFunding, request: FundingRequest) -> Hit | Miss:
        """Read the newest rows, one read for all who wait."""
        reading, mono = settle_task(kept), self.clock.mono()
        if reading is None and mono - kept.read_mono >= _REREAD_S:
            kept.read_mono = mono
            reading = kept.read = self.tasks.spawn(self._read(kept), name=f"funding-read:{kept.symbol}")
        if reading is not None:
            await asyncio.wait({reading}, timeout=_SETTLE_TIMEOUT_S)
        found = self._try(kept, request)
        if isinstance(found, Hit):
            self.desk.count_hit(kept)
            return found
        return self.desk.miss(kept, found.reason)

    async def _read(self, kept: KeptFunding, *, is_urgent: bool = True) -> None:
        made_ms = self.facts.now_ms()
        target = f"{FUNDING_RATES[self.market]}?symbol={quote(kept.symbol, safe='')}&limit={MAX_ROWS}"
        try:
            async with self._settle_slots:
                permit = self.reader.admit(target, is_urgent=is_urgent)
                body = await self.reader.get(target, permit)
            rows = read_timed(body, "fundingTime")
        except ReadFailed as error:
            logger.info("%s %s %s cannot be read: %s", *kept.key, error)
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s %s %s: an answer of a wrong shape (%s)", *kept.key, error)
            return
        if kept.is_dropped:
            return
        if not kept.held.take(rows, is_whole=len(rows) < MAX_ROWS):
            logger.warning("%s %s %s: a rate that was paid has changed", *kept.key)
        kept.was_read = True
        kept.read_ms = max(kept.read_ms, made_ms)
