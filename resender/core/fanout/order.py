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
_OPEN_TIME = re.compile(rb'"k":\{"t":(-?\d+)')
CLOSED = b'"x":true'
# The frames of one stream of all symbols within an overlap.
_RECENT = 64


class Verdict(enum.Enum):
    """What an event is."""

    NEW = 0
    SEEN = 1
    AFTER_GAP = 2


class Sequence:
    """The events of one stream so far.

    Ids that go backwards on one connection would be the exchange's; after a loss it is told to start over.
    """

    __slots__ = (
        "_after_loss",
        "_is_candle",
        "_is_depth",
        "_last",
        "_last_payload",
        "_open",
        "_pattern",
        "_recent",
    )

    def __init__(self, kind: StreamKind) -> None:
        self._pattern = _PATTERNS.get(kind.order)
        self._is_depth = kind.order is Order.DEPTH
        self._is_candle = kind.flow is Flow.CANDLE
        self._last: int | None = None
        self._last_payload = b""
        self._recent: deque[int] | None = None if self._pattern is not None else deque(maxlen=_RECENT)
        # Of a candle that was open when the stream was lost; None once it has been seen to go on.
        self._open: int | None = None
        self._after_loss = False

    def lost(self) -> None:
        """The stream was lost: what comes next need not follow."""
        if self._is_candle and self._last_payload and CLOSED not in self._last_payload:
            found = _OPEN_TIME.search(self._last_payload)
            self._open = int(found[1]) if found is not None else None
            self._after_loss = self._open is not None
        self._last = None
        self._last_payload = b""
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
            is_same_time = self._pattern is _PATTERNS[Order.EVENT_TIME] and number == last
            if not is_same_time or payload == self._last_payload:
                return Verdict.SEEN
        self._last = number
        if self._pattern is _PATTERNS[Order.EVENT_TIME]:
            self._last_payload = payload
        if self._after_loss:
            self._after_loss = False
            at = _OPEN_TIME.search(payload)
            if at is not None and int(at[1]) != self._open:
                return Verdict.AFTER_GAP
        return Verdict.NEW

    def _judge_depth(self, found: re.Match[bytes]) -> Verdict:
        first, final, previous = int(found[1]), int(found[2]), found[3]
        last, self._last = self._last, final
        if last is None:
            return Verdict.NEW
        if final <= last:
            self._last = last
            return Verdict.SEEN
        follows = int(previous) == last if previous is not None else first == last + 1
        return Verdict.NEW if follows else Verdict.AFTER_GAP
