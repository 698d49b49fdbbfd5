"""All stream connections of one market and one URL path, kept inside the venue's limits.

It packs streams onto connections, reconnects, and replaces a connection before the venue cuts it; what a
frame means is its owner's. `StreamPool` owns its lines, their links, its session and its tasks; one thread.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import re
from collections.abc import Callable, Coroutine, Iterable, Set
from dataclasses import dataclass
from typing import Any

from resender.aio import Backoff, Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import check_stream_name
from resender.core.binance.stream_pacing import CONNECT_WINDOW_S, StreamLimits, rotation_age_s
from resender.core.window_budget import WindowBudget
from resender.upstream.streams.handover import Handover
from resender.upstream.streams.link import OnFrame, StreamLink, StreamStats
from resender.upstream.streams.session import Opens, StreamBroken, StreamSession

__all__ = ["ConnectionInfo", "StreamLimits", "StreamPool", "StreamStats"]

logger = logging.getLogger("resender.upstream")

_GOOD_LIFE_S = 10.0  # a connection that lived and delivered for so long was a good one
_BACKOFF_CAP_S = 10.0  # answers are back soon after a fault; the connect budget holds all the same
_ROTATION_POLL_S, _HANDOVER_POLL_S, _CLOSE_S = 0.25, 0.02, 3.0
_PATH = re.compile(r"(?:/[a-z]+)*")


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """One connection as the admin page and the metrics see it.

    Shape: `streams` counts what it carries or will carry again; `last_frame_ms` is the time since
        the last data frame, None before the first.
    """

    market: Market
    path: str
    streams: int
    age_s: float
    last_frame_ms: int | None
    reconnects: int
    is_live: bool


class _Slot:
    """The place of one connection: its streams stay when the link below them is replaced."""

    def __init__(self, pool: StreamPool, number: int, random: random_module.Random) -> None:
        self.pool = pool
        self.number = number
        self.names: dict[str, None] = {}
        self.link: StreamLink | None = None
        self.next: StreamLink | None = None  # the link a rotation is preparing
        self.backoff = Backoff(cap_s=_BACKOFF_CAP_S, random=random)
        self.rotation_backoff = Backoff(random=random)
        self.rotate_at = float("inf")
        self.rotated_at = float("-inf")
        self.reconnects, self.is_closed = 0, False
        self.task: asyncio.Task[None] | None = None

    def link_acked(self, link: StreamLink, names: list[str]) -> None:
        if link is self.link:
            self.pool._tell_live(link, names)

    def link_broken(self, link: StreamLink, names: list[str]) -> None:
        if link is not self.link:
            return
        heir = self.next
        if heir is not None and not heir.is_broken:
            # The old connection died during its rotation. What it lost is not known, so its
            # streams are lost and those the new one carries are live anew.
            self.next = None
            self.pool._handovers.pop(heir).forget()
            self.reconnects += 1
            self.pool.stats.reconnects += 1
            self.pool._install(self, heir)
        try:
            if names:
                self.pool._on_lost(names)
        finally:
            if heir is not None and heir is self.link:
                self.pool._tell_live(heir, heir.live_names())

    def link_leaving(self, link: StreamLink) -> None:
        if link is self.link:
            self.pool._rotate_soon(self)


class StreamPool:
    """All connections of one market and one URL path (combined mode, `<path>/stream`).

    Shape: path is "" on spot and cm, "/market" or "/public" on um; `role` tells pools of one path apart in names.
        `on_frame` gets ("btcusdt@kline_1m", {"e": "kline", ...}, b'{"stream":...') for every data frame in order of
        arrival and returns False or raises ValueError, KeyError or TypeError if the data is unusable; `on_live` gets
        streams that have become subscribed: re-read them by REST before trusting them; `on_lost` gets streams no live
        connection carries any more, at once. `raw_names` are handed over unread; of `relayed_names` frames come in
        order even while one connection replaces another.
    The callbacks run on the loop and must not block; they may call `want` and `drop`.
    """

    def __init__(
        self,
        market: Market,
        base_url: str,
        path: str,
        limits: StreamLimits,
        *,
        on_frame: OnFrame,
        on_live: Callable[[list[str]], None],
        on_lost: Callable[[list[str]], None],
        tasks: Tasks,
        clock: Clock,
        random: random_module.Random | None = None,
        session_factory: Callable[[], Opens] | None = None,
        connects: WindowBudget | None = None,
        role: str = "",
        query: str = "",
        raw_names: Set[str] = frozenset(),
        relayed_names: Set[str] = frozenset(),
    ) -> None:
        if not _PATH.fullmatch(path):
            raise ValueError(f"{path!r} is no stream path")
        self.market = market
        self.path = path
        self._name = f"stream:{market}{path}{role and ':' + role}"
        self._query = query
        self._raw_names = raw_names
        self._relayed_names = relayed_names
        self.stats = StreamStats()
        self._limits = limits
        self._on_frame = on_frame
        self._on_live = on_live
        self._on_lost = on_lost
        self._tasks = tasks
        self._clock = clock
        self._random = random or random_module.Random()
        self._session: Opens = (
            session_factory() if session_factory else StreamSession(base_url, limits.connect_timeout_s)
        )
        self._connects = connects or WindowBudget(limits.connects_per_5_min, CONNECT_WINDOW_S)
        self._slots: list[_Slot] = []
        self._slot_of: dict[str, _Slot] = {}
        self._last_number = 0
        self._mine: set[asyncio.Task[None]] = set()
        self._links: dict[asyncio.Task[None], StreamLink] = {}
        self._handovers: dict[StreamLink, Handover] = {}
        self._rotation_wake = asyncio.Event()
        self._is_running = False

    # -- for the owner -------------------------------------------------------------------

    async def start(self) -> None:
        await self._session.start()
        self._is_running = True
        self._spawn(self._rotate_when_due(), f"{self._name}:rotate")
        for slot in self._slots:
            self._begin(slot)

    async def stop(self) -> None:
        """End every connection; no callback is called any more, nothing is proven any more."""
        self._is_running = False
        for slot in self._slots:
            self._close(slot)
        self._slots.clear()
        self._slot_of.clear()
        for link in self._links.values():
            link.retire()
        if self._links:
            # They close their sockets in their own tasks; cancelling again would cut that short.
            await asyncio.wait(set(self._links), timeout=_CLOSE_S)
        while self._mine:
            waiting = set(self._mine)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        await self._session.stop()

    def want(self, names: Iterable[str]) -> None:
        """Carry these streams from now on. Cheap and idempotent; one tick's calls become one message.

        Raises: ValueError for a name that cannot be one; then none is taken.
        """
        added: dict[_Slot, list[str]] = {}
        for name in [check_stream_name(name) for name in names if name not in self._slot_of]:
            if name in self._slot_of:
                continue  # twice in one call
            slot = self._slot_with_room()
            self._slot_of[name] = slot
            slot.names[name] = None
            added.setdefault(slot, []).append(name)
        for slot, new in added.items():
            for link in (slot.link, slot.next):
                if link is not None:
                    link.subscribe(new)

    def drop(self, names: Iterable[str]) -> None:
        """Carry these streams no longer; unknown names are ignored."""
        removed: dict[_Slot, list[str]] = {}
        for name in names:
            slot = self._slot_of.pop(name, None)
            if slot is not None:
                del slot.names[name]
                removed.setdefault(slot, []).append(name)
        for slot, old in removed.items():
            for link in (slot.link, slot.next):
                if link is not None:
                    link.unsubscribe(old)
            if not slot.names:
                # Not at once: the caller may want other streams next.
                asyncio.get_running_loop().call_soon(self._close_if_empty, slot)

    def shift(self, name: str, mute_s: float) -> None:
        """Carry a stream on another connection: on this one it brings nothing, though it lives.

        A connection that has brought no data frame of any stream for `mute_s` is given up whole.
        The stream is lost at once and live again when the new connection has subscribed it.
        """
        slot = self._slot_of.get(name)
        if slot is None:
            return
        self.stats.shifted += 1
        link = slot.link
        if link is not None and not link.is_broken:
            last = link.opened if link.last_frame is None else link.last_frame
            if len(slot.names) == 1 or self._clock.mono() - last > mute_s:
                link.give_up("it answers pings but brings no data")
                return
        self.drop([name])
        self._on_lost([name])
        other = self._slot_with_room(excluding=slot)
        self._slot_of[name] = other
        other.names[name] = None
        for link in (other.link, other.next):
            if link is not None:
                link.subscribe([name])

    def proof_mono(self, name: str) -> float | None:
        """Return when the connection of a live stream last gave a sign of life (monotonic seconds).

        Shape: None if the stream is not live, or its connection is lost or silent for `silence_s`.
        """
        slot = self._slot_of.get(name)
        if slot is None or (link := slot.link) is None or not link.is_live(name):
            return None
        return link.proof_mono()

    def is_proven(self, name: str) -> bool:
        """Tell whether the connection of a live stream has delivered a data frame since it was opened."""
        slot = self._slot_of.get(name)
        return slot is not None and slot.link is not None and slot.link.is_live(name) and slot.link.frames > 0

    def carrier(self, name: str) -> object:
        """Return what stands for the connection of a stream."""
        return self._slot_of.get(name)

    @property
    def connections(self) -> list[ConnectionInfo]:
        return [self._info(slot) for slot in self._slots]

    def _info(self, slot: _Slot) -> ConnectionInfo:
        link = slot.link if slot.link is not None and not slot.link.is_broken else None
        last = link.last_frame if link is not None else None
        return ConnectionInfo(
            market=self.market,
            path=self.path,
            streams=len(slot.names),
            age_s=link.age_s() if link is not None else 0.0,
            last_frame_ms=None if last is None else int((self._clock.mono() - last) * 1000),
            reconnects=slot.reconnects,
            is_live=link is not None and link.proof_mono() is not None,
        )

    # -- lines ---------------------------------------------------------------------------

    def _slot_with_room(self, excluding: _Slot | None = None) -> _Slot:
        """Return the fullest line that has room, so that the emptier ones can run empty."""
        limit = self._limits.streams_per_connection
        roomy = [slot for slot in self._slots if len(slot.names) < limit and slot is not excluding]
        if roomy:
            return max(roomy, key=lambda slot: len(slot.names))
        self._last_number += 1
        slot = _Slot(self, self._last_number, self._random)
        self._slots.append(slot)
        if self._is_running:
            self._begin(slot)
        return slot

    def _begin(self, slot: _Slot) -> None:
        slot.task = self._spawn(self._keep_slot(slot), f"{self._label(slot)}:keep")

    def _label(self, slot: _Slot) -> str:
        return f"{self._name}#{slot.number}"

    def _spawn(self, coro: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._tasks.spawn(coro, name=name)
        self._mine.add(task)
        task.add_done_callback(self._mine.discard)
        return task

    def _close_if_empty(self, slot: _Slot) -> None:
        if not slot.names and not slot.is_closed:
            self._close(slot)
            self._slots.remove(slot)

    def _close(self, slot: _Slot) -> None:
        slot.is_closed = True
        for link in (slot.link, slot.next):
            if link is not None:
                link.retire()
        if slot.task is not None:
            slot.task.cancel()

    async def _keep_slot(self, slot: _Slot) -> None:
        """Give a line a link, again and again, until it is closed."""
        is_first = True
        while not slot.is_closed:
            link = slot.link
            if link is not None and not link.is_broken:
                await link.broken.wait()
                continue
            if link is not None:
                if link.frames and link.age_s() >= _GOOD_LIFE_S:
                    slot.backoff.reset()
                slot.link = None
                await asyncio.sleep(slot.backoff.next_s())
            try:
                fresh = await self._open(slot)
            except StreamBroken as error:
                pause_s = max(error.retry_after_s, slot.backoff.next_s())
                logger.warning("%s: %s; next try in %.1f s", self._label(slot), error, pause_s)
                await asyncio.sleep(pause_s)
                continue
            if not is_first:
                slot.reconnects += 1
                self.stats.reconnects += 1
            is_first = False
            self._install(slot, fresh)
            fresh.subscribe(slot.names)

    async def _open(self, slot: _Slot, *, is_heir: bool = False) -> StreamLink:
        """Open a link for a line, within the connect limit.

        Raises: StreamBroken.
        """
        while (wait_s := self._connects.wait_s(self._clock.mono())) > 0:
            await asyncio.sleep(min(wait_s, 1.0))
        self._connects.take(self._clock.mono())
        self.stats.connects += 1
        try:
            socket = await self._session.open(
                f"{self.path}/stream{self._query}", self._limits.max_message_bytes
            )
        except StreamBroken:
            raise
        except Exception as error:
            logger.exception("%s: unexpected failure", self._label(slot))
            raise StreamBroken(type(error).__name__) from None
        handover = Handover(self._on_frame, self._relayed_names, is_keeping=is_heir)
        link = StreamLink(
            f"{self._label(slot)}/{self.stats.connects}",
            socket,
            self._limits,
            owner=slot,
            on_frame=handover.on_frame if is_heir else self._on_frame,
            clock=self._clock,
            spawn=self._spawn,
            stats=self.stats,
            raw_names=self._raw_names,
        )
        task = self._spawn(link.run(), f"{link.label}:read")
        self._links[task] = link
        task.add_done_callback(self._links.pop)
        if is_heir:
            self._handovers[link] = handover
        return link

    def _tell_live(self, link: StreamLink, names: list[str]) -> None:
        try:
            if names:
                self._on_live(names)
        except Exception:
            logger.exception("%s: the callback for live streams failed", link.label)
            link.give_up("a callback failed")

    def _install(self, slot: _Slot, link: StreamLink) -> None:
        slot.link = link
        slot.rotate_at = link.opened + rotation_age_s(self._limits.max_age_s, self._random)
        if link.is_leaving:
            self._rotate_soon(slot)

    # -- rotation ------------------------------------------------------------------------

    def renew(self) -> None:
        """Open every connection anew, one after the other and without a gap."""
        for slot in self._slots:
            self._rotate_soon(slot)

    def _rotate_soon(self, slot: _Slot) -> None:
        """Rotate at once; with growing pauses if that keeps happening."""
        now = self._clock.mono()
        pause_s = 0.0
        if now - slot.rotated_at < _GOOD_LIFE_S:
            pause_s = slot.rotation_backoff.next_s()
        else:
            slot.rotation_backoff.reset()
        slot.rotate_at = min(slot.rotate_at, now + pause_s)
        self._rotation_wake.set()

    async def _rotate_when_due(self) -> None:
        """Rotate the line that is due the longest, one at a time."""
        loop = asyncio.get_running_loop()
        while True:
            now = self._clock.mono()
            due = [slot for slot in self._slots if slot.rotate_at <= now and slot.link is not None]
            if due:
                slot = min(due, key=lambda slot: slot.rotate_at)
                slot.rotate_at = float("inf")
                old = slot.link
                if not await self._rotate(slot) and slot.link is old:
                    slot.rotate_at = self._clock.mono() + slot.rotation_backoff.next_s()
                continue
            self._rotation_wake.clear()
            timer = loop.call_later(_ROTATION_POLL_S, self._rotation_wake.set)
            try:
                await self._rotation_wake.wait()
            finally:
                timer.cancel()

    async def _rotate(self, slot: _Slot) -> bool:
        """Replace a line's link without a gap; False if that failed and the old one still serves."""
        old = slot.link
        if old is None or old.is_broken:
            return True
        try:
            new = await self._open(slot, is_heir=True)
        except StreamBroken as error:
            logger.warning("%s: no connection for the rotation: %s", self._label(slot), error)
            return False
        handover = self._handovers[new]
        if slot.is_closed or slot.link is not old or old.is_broken:
            del self._handovers[new]
            new.retire()
            return True
        slot.next = new
        new.subscribe(slot.names)
        try:
            if await self._overlap(slot, old, new):
                slot.next = None
                gained = [name for name in new.live_names() if not old.is_live(name)]
                slot.rotated_at = self._clock.mono()
                self._install(slot, new)
                old.retire()
                self.stats.rotations += 1
                logger.info("%s: rotated", self._label(slot))
                if not handover.release():
                    new.give_up("a frame cannot be used")
                self._tell_live(new, gained)
            return slot.link is not old
        finally:
            if slot.next is new:
                slot.next = None
            self._handovers.pop(new, None)
            if slot.link is not new:
                new.retire()

    async def _overlap(self, slot: _Slot, old: StreamLink, new: StreamLink) -> bool:
        """Let both links run until the new one carries all the old one does, and has shown it."""
        step_s = self._limits.ack_timeout_s
        handover = self._handovers[new]

        async def until(is_done: Callable[[], bool], timeout_s: float) -> bool:
            """Wait; False if a link broke, the line was closed or time ran out."""
            end = self._clock.mono() + timeout_s
            while slot.next is new and not (new.is_broken or slot.is_closed or handover.is_full):
                if is_done():
                    return True
                if self._clock.mono() >= end:
                    break
                await asyncio.sleep(_HANDOVER_POLL_S)
            return False

        if not await until(lambda: new.covers(old), 4 * step_s):
            return False
        # A frame from before the new subscriptions may still be on its way on the old connection:
        # when the pong to a ping sent now has come, it has come too.
        number = old.request_ping()
        await until(lambda: old.pongs_seen >= number, step_s)
        if old.frames:
            before = old.frames
            if not await until(lambda: new.frames > 0, step_s) and old.frames > before:
                return False  # the old one delivers, the new one does not
        return await until(lambda: new.covers(old), 4 * step_s)
