"""`Alerts`: looks at the gateway, and has its channels told what begins, what is over and what has happened.

A channel that does not answer delays no other, and nothing of this touches the path of a call. One belongs to one
gateway; of several workers only the collector has one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resender.aio import Clock, Tasks, within
from resender.alerts.sending import NotSent, Sender
from resender.alerts.watching import AlertOptions, Watch
from resender.core.alerts.board import Board, Event, Finding, Open
from resender.core.alerts.kinds import KINDS, Level
from resender.core.alerts.outbox import Outbox, parse_quiet
from resender.core.alerts.words import sentence
from resender.errors import StoreError
from resender.store import AlertChannelRow, AlertSetup, Repository, Store

logger = logging.getLogger("resender.alerts")

LOOK_S = 2.0
_TURN_S = 1.0
# A message that was not taken is tried again after so long; then the channel rests, longer and longer.
_AGAIN_S = (5.0, 30.0, 120.0)
_REST_S, _LONGEST_REST_S = 60.0, 1800.0
# Alerts of before the start that are older are not looked for; nor does anything wait longer for them.
_BEFORE_S = 2.0
_RESUMED_MS = 7 * 24 * 3_600_000
# What is said at the end of the process has so long to leave.
_LAST_S = 3.0
# What one source tells again and again is told once in so long.
_SAME_S = 600.0
_MAX_SAME = 1000
_MAX_TOLD = 500


@dataclass(slots=True)
class _Channel:
    row: AlertChannelRow
    outbox: Outbox
    task: asyncio.Task[Any] | None = None
    problem: str = ""
    sent: int = 0
    failed: int = 0
    last_ms: int | None = None
    # Units: monotonic seconds, and seconds.
    rests_until: float = 0.0
    rest_s: float = _REST_S


@dataclass(slots=True)
class _Told:
    """What has become of an event, by channel."""

    number: int | None = None
    by_channel: dict[str, str] = field(default_factory=dict)


class Alerts:
    """The alerts of one gateway."""

    def __init__(
        self, options: AlertOptions, watch: Watch, sender: Sender, *, store: Store, clock: Clock, tasks: Tasks
    ) -> None:
        self._board = Board({"cache": options.cache_s})
        self.watch = watch
        self.sender = sender
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._channels: dict[int, _Channel] = {}
        self._silences: dict[str, int] = {}
        self._same: dict[tuple[str, str], float] = {}
        self._wake = asyncio.Event()
        self._look_mono = float("-inf")
        # What was in force when the process ended, and whether it had been told, by the channel's name.
        self._before: dict[str, list[tuple[Event, bool]]] = {}
        # What has become of the latest events.
        self._told: OrderedDict[tuple[str, str, int], _Told] = OrderedDict()

    # --- what the rest of the program sees ------------------------------------------------------

    @property
    def in_force(self) -> list[Open]:
        """The alerts in force, the oldest first."""
        return self._board.in_force

    @property
    def silences(self) -> dict[str, int]:
        """Until when kinds are silent, `*` for all. Units: epoch milliseconds."""
        now_ms = self._clock.now_ms()
        return {kind: until for kind, until in self._silences.items() if until > now_ms}

    def state_of(self, channel_id: int) -> dict[str, Any]:
        """Tell how a channel is doing. Shape: {"problem", "sent", "failed", "last", "left_out"}."""
        found = self._channels.get(channel_id)
        if found is None:
            return {"problem": "", "sent": 0, "failed": 0, "last": None, "left_out": 0}
        return {
            "problem": found.problem, "sent": found.sent, "failed": found.failed, "last": found.last_ms,
            "left_out": found.outbox.left_out,
        }  # fmt: skip

    def set_setup(self, setups: Sequence[AlertSetup]) -> None:
        """Take the channels and silences as they are now; what waits for one that stays goes on waiting."""
        setup = setups[0] if setups else AlertSetup()
        self._silences = dict(setup.silences)
        rows = {row.id: row for row in setup.channels if row.enabled}
        for kind in self.silences:
            for channel in self._channels.values():
                self._not_told(channel, channel.outbox.silence(kind), "silent")
        for gone in self._channels.keys() - rows.keys():
            task = self._channels.pop(gone).task
            if task is not None:
                task.cancel()
        for number, row in rows.items():
            try:
                quiet = parse_quiet(row.quiet)
            except ValueError:  # written by hand
                quiet = None
            least = Level.CRITICAL if row.least == Level.CRITICAL.word else Level.WARNING
            known = self._channels.get(number)
            if known is None:
                self._channels[number] = _Channel(row, Outbox(least, quiet))
                self._catch_up(self._channels[number])
            else:
                if known.row != row:
                    known.rests_until = 0.0
                known.row, known.outbox.least, known.outbox.quiet = row, least, quiet

    def note(self, kind: str, subject: str, **values: str | int) -> None:
        """Tell of something that has happened; the same of one subject once in ten minutes."""
        mono = self._clock.mono()
        key = (kind, subject)
        if mono - self._same.get(key, float("-inf")) < _SAME_S:
            return
        if len(self._same) >= _MAX_SAME:
            self._same.clear()
        self._same[key] = mono
        self._add(Event(KINDS[kind], subject, values, self._clock.now_ms()))

    async def test(self, row: AlertChannelRow) -> None:
        """Send a test to one channel now. Raises: NotSent."""
        await self.sender.send(row, [Event(KINDS["test"], "", {}, self._clock.now_ms())])

    # --- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks.spawn(self._run(), name="alerts")

    async def stop(self) -> None:
        """Give what is on its way a moment to leave."""
        tasks = {channel.task for channel in self._channels.values() if channel.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_S)

    async def _run(self) -> None:
        await self._resume()
        while True:
            try:
                self._turn()
            except Exception:
                logger.exception("a look for alerts has failed; the next one follows")
            try:
                await within(self._wake.wait(), _TURN_S)
            except asyncio.TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def _resume(self) -> None:
        """Go on with what was in force when the process ended: nobody is told a second time, and all of its end."""
        now_ms, mono = self._clock.now_ms(), self._clock.mono()
        try:
            rows = await within(
                self._store.run(Repository.alert_events_open, self.sender.node, now_ms - _RESUMED_MS),
                _BEFORE_S,
            )
        except (StoreError, asyncio.TimeoutError) as error:
            logger.warning("alerts of before the start are not known: %s", error)
            return
        for row in rows:
            if row.kind not in KINDS or not KINDS[row.kind].has_end:
                continue
            self._board.resume(Finding(row.kind, row.subject, row.details), row.time_ms, now_ms, mono)
            event = Event(KINDS[row.kind], row.subject, row.details, row.time_ms)
            self._told[_name(event)] = _Told(row.id, dict(row.told))
            for name, what in row.told.items():
                if what not in ("silent", "over"):
                    self._before.setdefault(name, []).append((event, what == "ok"))
        for channel in self._channels.values():
            self._catch_up(channel)

    def _catch_up(self, channel: _Channel) -> None:
        """Let a channel know what it was told before the start, and have it told what it was not."""
        for event, is_told in self._before.pop(channel.row.name, ()):
            if is_told:
                channel.outbox.remember([event.key])
            else:
                channel.outbox.add(event)

    def _turn(self) -> None:
        mono, now_ms = self._clock.mono(), self._clock.now_ms()
        if mono - self._look_mono >= LOOK_S:
            self._look_mono = mono
            for event in self._board.look(self.watch.look(), now_ms, mono):
                self._add(event)
        for channel in self._channels.values():
            if mono >= channel.rests_until and (channel.task is None or channel.task.done()):
                events = channel.outbox.take(now_ms, mono)
                if events:
                    channel.task = self._tasks.spawn(
                        self._send(channel, events), name=f"alert:{channel.row.id}"
                    )

    def _add(self, event: Event) -> None:
        log = logger.info if event.lasted_s is not None else logger.warning
        log("alert: %s", sentence(event, "en"))
        is_silent = self._is_silent(event)
        told = _Told()
        for channel in self._channels.values():
            if event.lasted_s is not None and not channel.outbox.has_told(event):
                self._not_told(channel, channel.outbox.forget(event), "over")
            if is_silent:
                channel.outbox.forget(event)
                told.by_channel[channel.row.name] = "silent"
            elif channel.outbox.add(event):
                told.by_channel[channel.row.name] = "waiting"
                channel.rests_until = 0.0
        self._told[_name(event)] = told
        while len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)
        self._tasks.spawn(self._write(event, told), name="alert-history")
        self._wake.set()

    def _is_silent(self, event: Event) -> bool:
        now_ms = self._clock.now_ms()
        return any(self._silences.get(kind, 0) > now_ms for kind in ("*", event.kind.name))

    async def _write(self, event: Event, told: _Told) -> None:
        lasted_s = int(event.lasted_s) if event.lasted_s is not None else None
        first = dict(told.by_channel)
        try:
            told.number = number = await self._store.run(
                lambda repository: repository.alert_event_add(
                    self.sender.node, event.kind.name, event.subject, event.kind.level.word, lasted_s,
                    event.values, first, event.at_ms,
                )
            )  # fmt: skip
            if (now := dict(told.by_channel)) != first:  # it was sent meanwhile
                await self._store.run(lambda repository: repository.alert_event_told(number, now))
        except StoreError as error:
            logger.warning("the history of alerts lacks one: %s", error)

    async def _send(self, channel: _Channel, events: Sequence[Event]) -> None:
        """Send one message, with patience; what is not taken is written down and waits for the channel's next turn."""
        for pause_s in (*_AGAIN_S, None):
            try:
                await self.sender.send(channel.row, events)
            except NotSent as error:
                channel.problem = str(error)
            except Exception as error:
                channel.problem = type(error).__name__
                logger.exception("a message could not be sent to channel %s", channel.row.name)
            else:
                channel.problem = ""
                channel.rest_s = _REST_S
                channel.sent += 1
                channel.last_ms = self._clock.now_ms()
                await self._note_told(channel, events, "ok")
                return
            if pause_s is None:
                break
            await asyncio.sleep(pause_s)
        channel.failed += 1
        logger.error("alert channel %s: %s", channel.row.name, channel.problem)
        channel.rests_until = self._clock.mono() + channel.rest_s
        channel.rest_s = min(2 * channel.rest_s, _LONGEST_REST_S)
        over = channel.outbox.give_back(events, self._clock.now_ms())
        silent = [event for kind in self.silences for event in channel.outbox.silence(kind)]
        for these, what in ((events, channel.problem), (over, "over"), (silent, "silent")):
            await self._note_told(channel, these, what)

    def _not_told(self, channel: _Channel, events: Sequence[Event], what: str) -> None:
        """Write down what will not be told: it was over, or silent, before its time came."""
        if events:
            self._tasks.spawn(self._note_told(channel, events, what), name="alert-history")

    async def _note_told(self, channel: _Channel, events: Sequence[Event], what: str) -> None:
        for event in events:
            told = self._told.get(_name(event))
            if told is None:
                continue
            told.by_channel[channel.row.name] = what
            if told.number is None:
                continue
            number, by_channel = told.number, dict(told.by_channel)
            try:
                await self._store.run(Repository.alert_event_told, number, by_channel)
            except StoreError:
                return


def _name(event: Event) -> tuple[str, str, int]:
    return (*event.key, event.at_ms)
