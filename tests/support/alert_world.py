"""`Alerts` on a loop on which waiting takes no time, with real tables and channels whose messages end here."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

from resender.aio import Clock, Tasks
from resender.alerts import AlertOptions, Alerts
from resender.core.alerts.board import Event, Finding
from resender.errors import StoreError
from resender.store import AlertChannelRow, AlertEventRow, AlertSetup, Repository, open_repository
from tests.support.alert_events import AT_MS
from tests.support.fast_loop import FastLoop


def fast(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Have a test run on a loop that does not wait."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = FastLoop()
        try:
            loop.run_until_complete(cast(Any, test(*args, **kwargs)))
        finally:
            loop.close()

    # Else the fixtures would be looked for on a coroutine.
    return run


class Post:
    """In place of `Sender`: what each channel was sent, and when.

    Shape: `ways` by channel is called before a message is taken; it may wait or raise.
    """

    node = "gw1"

    def __init__(self) -> None:
        self.ways: dict[str, Callable[[AlertChannelRow, Sequence[Event]], Awaitable[None]]] = {}
        self.tried: list[tuple[float, AlertChannelRow, tuple[Event, ...]]] = []
        self.sent: list[tuple[float, AlertChannelRow, tuple[Event, ...]]] = []

    async def send(self, row: AlertChannelRow, events: Sequence[Event]) -> None:
        mono = asyncio.get_running_loop().time()
        self.tried.append((mono, row, tuple(events)))
        if (way := self.ways.get(row.name)) is not None:
            await way(row, events)
        self.sent.append((asyncio.get_running_loop().time(), row, tuple(events)))

    def of(self, name: str) -> list[tuple[str, str, bool]]:
        """List what a channel was told: kind, subject, whether it is over."""
        return [
            (event.kind.name, event.subject, event.lasted_s is not None)
            for _, row, events in self.sent
            if row.name == name
            for event in events
        ]


class Tables:
    """In place of `Store`: real tables; `problem` makes it fail, `delay_s` slow."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.problem = ""
        self.delay_s = 0.0

    async def run(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.delay_s)
        if self.problem:
            raise StoreError(self.problem)
        return work(self.repository, *args, **kwargs)

    write = run

    async def alert_change(self, work: Any) -> Any:
        return await self.run(work)


class AlertWorld:
    """Alerts with a look that finds what a test says."""

    def __init__(
        self, folder: Path, cache_s: float = 120.0, *, after_s: float = 0.0, problem: str = ""
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time() - after_s
        clock = Clock(now_ms=lambda: self.now_ms, mono=self.loop.time)
        self._opened = open_repository(f"sqlite:///{folder}/alerts.db", now_ms=lambda: self.now_ms)
        self.tables = Tables(self._opened.__enter__())
        self.tables.problem = problem
        self.post, self.tasks = Post(), Tasks()
        self.wrong: list[Finding] = []
        self.is_blind = False
        self.looks = 0
        options = AlertOptions(cache_s=cache_s, free_disk_mb=1000, refused=100)
        self.alerts = Alerts(
            options, cast(Any, self), cast(Any, self.post),
            store=cast(Any, self.tables), clock=clock, tasks=self.tasks,
        )  # fmt: skip

    @property
    def now_ms(self) -> int:
        return AT_MS + int((self.loop.time() - self.begun) * 1000)

    @property
    def passed_s(self) -> float:
        return self.loop.time() - self.begun

    def look(self) -> list[Finding]:
        self.looks += 1
        if self.is_blind:
            raise RuntimeError("a look that failed")
        return list(self.wrong)

    async def __aenter__(self) -> AlertWorld:
        self.alerts.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.alerts.stop()
        await self.tasks.cancel()
        self._opened.__exit__(None, None, None)

    def channel(
        self, name: str, number: int = 0, *, least: str = "warning", quiet: str = "", enabled: bool = True,
        language: str = "en", sealed: str = "x",
    ) -> AlertChannelRow:  # fmt: skip
        number = number or sum(map(ord, name))
        return AlertChannelRow(number, name, "webhook", sealed, "{}", language, least, quiet, enabled, AT_MS)

    def setup(self, *channels: AlertChannelRow | str, **silences: int) -> None:
        """Put channels and silences in force. Shape: `all_` stands for `*`."""
        rows = tuple(self.channel(each) if isinstance(each, str) else each for each in channels)
        kinds = {"*" if kind == "all_" else kind: until for kind, until in silences.items()}
        self.alerts.set_setup((AlertSetup(rows, kinds),))

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def history(self) -> list[AlertEventRow]:
        """What was written, the oldest first."""
        return self.tables.repository.alert_events(limit=200)[::-1]

    def told(self) -> list[dict[str, Any]]:
        return [row.told for row in self.history()]
