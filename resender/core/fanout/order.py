"""Whether an event is new, seen before, or shows that one before it is missing.

Pure; one `Sequence` belongs to one stream. Two connections overlap while one replaces the other, so the
same event may come twice.
"""

from __future__ import annotations

import enum
import re
from collections import deque

from resender.core.binance.stream_kinds import Flow, Order, StreamKind

_PATTERNS = {order: re.compile(order.value) for order in Order if order.value}
_TIMES = re.compile(rb'"k":\{"t":(-?\d+),"T":(-?\d+)')
CLOSED = b'"x":true'
# The frames of one stream of all symbols within an overlap.
_RECENT = 64
_SAME_TIME = 16


class Verdict(enum.Enum):
    """What an event is."""

    NEW = 0
    SEEN = 1
    AFTER_GAP = 2


# A deque takes its first block of memory at once: streams that need none share this one, which stays empty.
_NOTHING: deque[bytes] = deque(maxlen=0)


class Sequence:
    """The events of one stream so far.

    Ids that go backwards on one connection would be the exchange's; after a loss it is told to start over.
    """

    __slots__ = (
        "_expected",
        "_is_candle",
        "_is_depth",
        "_is_timed",
        "_last",
        "_pattern",
        "_recent",
        "_same_time",
    )

    def __init__(self, kind: StreamKind) -> None:
        self._pattern = _PATTERNS.get(kind.order)
        self._is_depth = kind.order is Order.DEPTH
        self._is_candle = kind.flow is Flow.CANDLE
        self._last: int | None = None
        self._is_timed = kind.order is Order.EVENT_TIME
        # Several events may have the time of the last one.
        self._same_time: deque[bytes] = deque(maxlen=_SAME_TIME) if self._is_timed else _NOTHING
        self._recent: deque[int] | None = None if self._pattern is not None else deque(maxlen=_RECENT)
        # When the candle opens that must come first after a loss: the one that was open, or the next one.
        self._expected: int | None = None

    def lost(self) -> None:
        """The stream was lost: what comes next need not follow."""
        newest = self._same_time[-1] if self._same_time else b""
        if self._is_candle and (found := _TIMES.search(newest)) is not None:
            self._expected = int(found[2]) + 1 if CLOSED in newest else int(found[1])
        self._last = None
        self._same_time.clear()
        if self._recent is not None:
            self._recent.clear()

    def judge(self, payload: bytes) -> Verdict:
        """Take the next event.

        Shape: of a depth event AFTER_GAP means that updates between it and the one before are missing;
            of a candle that one has closed unseen while the stream was lost.
        """
        if self._recent is not None:
            mark = hash(payload)
            if mark in self._recent:
                return Verdict.SEEN
            self._recent.append(mark)
            return Verdict.NEW
        assert self._pattern is not None
        found = self._pattern.search(payload, 0, 4096)
        if found is None:
            return Verdict.NEW
        if self._is_depth:
            return self._judge_depth(found)
        number, last = int(found[1]), self._last
        if last is not None and number <= last:
            if number < last or not self._is_timed or payload in self._same_time:
                return Verdict.SEEN
        elif self._is_timed:
            self._same_time.clear()
        self._last = number
        if self._is_timed:
            self._same_time.append(payload)
        if self._expected is not None and (at := _TIMES.search(payload)) is not None:
            expected, opens = self._expected, int(at[1])
            if opens >= expected:
                self._expected = None
            return Verdict.AFTER_GAP if opens > expected else Verdict.NEW
        return Verdict.NEW

    def _judge_depth(self, found: re.Match[bytes]) -> Verdict:
        first, final, previous = int(found[1]), int(found[2]), found[3]
        last, self._last = self._last, final
        if last is None:
            return Verdict.NEW
        if final <= last:
            self._last = last
            return Verdict.SEEN
        # Two connections of spot may cut the updates at different places: an overlap leaves nothing out.
        follows = int(previous) == last if previous is not None else first <= last + 1
        return Verdict.NEW if follows else Verdict.AFTER_GAP
