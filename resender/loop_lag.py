"""How late the event loop is, and what made it wait.

A beat on the loop, and a thread that looks where the loop is when a beat is overdue. One `LoopLag` belongs to
one gateway; it changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

_BEAT_S = 0.02
# A loop that has had next to no work for so many beats rests: it is looked at less often until it has some. What it
# works is told by its thread's own time: on a busy machine a beat may be a little late although nothing here holds it.
_CALM_BEATS = 250
_CALM_WORK_S = 0.004
_CALM_LATE_S = 0.02
_REST_S = 0.1
# Overdue by so much: somebody holds the loop.
_LATE_S = 0.005
_MAX_PLACES = 200
# `recent_s` looks back so far, and at most twice as far.
_RECENT_S = 3.0
_OWN = "resender"


class LoopLag:
    """The lag of the loop it was started on.

    Shape: `worst` are the longest waits by the place that held the loop, a function of ours if one was under way.
    Units: seconds.
    """

    def __init__(self) -> None:
        self.worst: dict[str, float] = {}
        # Told of the lag of every beat.
        self.on_lag: Callable[[float], None] = lambda seconds: None
        self._recent = [0.0, 0.0]
        self._turn = 0.0
        self._due = 0.0
        self._place = ""
        self._calm = 0
        self._worked = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def recent_s(self) -> float:
        """The longest lag of the last seconds."""
        return max(self._recent)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        watched = threading.get_ident()
        self._end.clear()
        self._due = time.perf_counter() + _BEAT_S
        self._handle = loop.call_later(_BEAT_S, self._beat, loop)
        self._thread = threading.Thread(target=self._watch, args=(watched,), name="loop-lag", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._handle is not None:
            self._handle.cancel()
        if self._thread is not None:
            self._thread.join(1.0)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.perf_counter()
        late = max(0.0, now - self._due)
        self.on_lag(late)
        if now - self._turn > _RECENT_S:
            self._recent, self._turn = [0.0, self._recent[0]], now
        self._recent[0] = max(self._recent[0], late)
        place, self._place = self._place, ""
        if late > _LATE_S:
            self._note(place or "unknown", late)
        worked = time.thread_time()
        is_calm = worked - self._worked < _CALM_WORK_S and late < _CALM_LATE_S
        self._calm = self._calm + 1 if is_calm else 0
        self._worked = worked
        next_s = _REST_S if self._calm >= _CALM_BEATS else _BEAT_S
        self._due = now + next_s
        self._handle = loop.call_later(next_s, self._beat, loop)

    def _note(self, place: str, late: float) -> None:
        if place not in self.worst and len(self.worst) >= _MAX_PLACES:
            del self.worst[min(self.worst, key=lambda each: self.worst[each])]
        self.worst[place] = max(late, self.worst.get(place, 0.0))

    def _watch(self, watched: int) -> None:
        while not self._end.is_set():
            wait_s = self._due + _LATE_S - time.perf_counter()
            if wait_s > 0:
                self._end.wait(wait_s + 0.001)
                continue
            if not self._place:
                self._place = _place_in(watched)
            self._end.wait(_LATE_S)


def _place_in(thread: int) -> str:
    """Name what a thread is doing.

    Python before 3.11.9 holds the lock of all thread states while it makes these frames. If garbage is collected
    within, a finalizer may let another thread go on, and if that one starts a third it waits for that lock with the
    GIL in its hand: nothing in the process moves again. Source: https://github.com/python/cpython/issues/106883.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _place_of(sys._current_frames().get(thread))
    finally:
        if was_enabled:
            gc.enable()


def _place_of(frame: FrameType | None) -> str:
    """Name the innermost function of ours in a stack, or the innermost at all."""
    innermost = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        name = f"{module}.{frame.f_code.co_name}"
        innermost = innermost or name
        if module.partition(".")[0] == _OWN:
            return name
        frame = frame.f_back
    return innermost
