"""`Store`: the database as the server sees it.

No method blocks the event loop, and no fault of the database reaches a request. It owns the
database thread, the buffers in front of it, and what the rest of the server knows of the
whitelist, the preload rules and the log switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from resender import __version__
from resender.core.access.whitelist import normalise_entry
from resender.core.market.preload import PreloadRule
from resender.errors import StoreError
from resender.store.account_rows import AccountRow
from resender.store.alert_rows import AlertSetup
from resender.store.buffers import BATCH_ROWS, LogBuffer, SeenCounts
from resender.store.calls_admin import AdminCalls
from resender.store.calls_log import LogCalls
from resender.store.connection import parse_url
from resender.store.first_user import make_first_user
from resender.store.follow import Follower
from resender.store.repository import Repository
from resender.store.rows import LogRecord, PreloadRow, StoreStats, WhitelistEntry
from resender.store.tables import clock_ms, read_retention
from resender.store.trial import VERSION_KEY
from resender.store.worker import Chore, DatabaseThread

logger = logging.getLogger("resender.store")

P = ParamSpec("P")
T = TypeVar("T")
OnWhitelist = Callable[[tuple[WhitelistEntry, ...]], None]
OnAccounts = Callable[[tuple[AccountRow, ...]], None]
OnAlerts = Callable[[tuple[AlertSetup, ...]], None]
OnPreload = Callable[[tuple[PreloadRow, ...]], None]
SEEN_EVERY_S = 2.0
PRUNE_EVERY_S = 600.0
_OFF_FLUSH_S = 1.0


class Store(AdminCalls, LogCalls):
    """The store of a running server; everything is called on the event loop.

    Raises: StoreError if the URL cannot be used, ValueError if `initial_whitelist` cannot.
    """

    def __init__(
        self,
        url: str,
        *,
        initial_whitelist: Sequence[str] = (),
        log_queue_size: int = 10_000,
        log_retention_days: int = 30,
        log_max_rows: int = 1_000_000,
        poll_s: float = 0.5,
        flush_s: float = 0.25,
        now_ms: Callable[[], int] = clock_ms,
        busy_timeout_s: float = 5.0,
        call_timeout_s: float = 15.0,
        stop_timeout_s: float = 10.0,
        log_tries: int = 8,
    ) -> None:
        self._initial = tuple(normalise_entry(address) for address in initial_whitelist)
        self._set_retention = (log_retention_days, log_max_rows)
        self._now_ms = now_ms
        self._call_timeout_s = call_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._buffer = LogBuffer(log_queue_size, log_tries)
        self._seen = SeenCounts()
        self._thread = DatabaseThread(parse_url(url), now_ms=now_ms, busy_timeout_s=busy_timeout_s)
        self._prune = Chore(self._do_prune, PRUNE_EVERY_S)
        self._chores = [
            Chore(self._do_flush, flush_s),
            Chore(self._do_poll, poll_s),
            Chore(self._do_seen, SEEN_EVERY_S),
            self._prune,
        ]
        self._rows_since_prune = 0
        self._whitelist = Follower("whitelist_revision", Repository.whitelist_snapshot)
        self._preload = Follower("preload_revision", Repository.preload_snapshot)
        self._accounts = Follower("account_revision", Repository.account_snapshot)
        self._alerts = Follower("alert_revision", Repository.alert_snapshot)
        self._followers: tuple[Follower[Any], ...] = (
            self._whitelist, self._preload, self._accounts, self._alerts,
        )  # fmt: skip
        self._is_started = False
        self._stopped = False
        #: Whether `log` keeps what it is given. Follows changes by other processes.
        self.log_enabled = False

    # -- life ---------------------------------------------------------------------------

    async def start(
        self,
        on_whitelist: OnWhitelist,
        on_preload: OnPreload | None = None,
        on_accounts: OnAccounts | None = None,
        on_alerts: OnAlerts | None = None,
        *,
        first_password: str | None = None,
    ) -> None:
        """Open the database; deliver the whitelist and the preload rules once before returning.

        Shape: `on_whitelist` gets all entries, disabled ones too, `on_preload` all rules and `on_accounts`
            all accounts, `on_alerts` the one setup of alerts, on the event loop, and again after each change
            of them, whichever process made it.
            `first_password` is that of the first account, made with a new database; "" has one
            made up and printed; None makes no account.
        Raises: StoreError, one line for the user.
        """
        self._whitelist.listen(on_whitelist)
        self._preload.listen(on_preload)
        self._accounts.listen(on_accounts)
        self._alerts.listen(on_alerts)

        def first(repository: Repository) -> None:
            repository.whitelist_seed(self._initial)
            if first_password is not None:
                make_first_user(repository, first_password)
            self._own_retention = repository.log_retention()
            if repository.state_get(VERSION_KEY) != __version__:
                repository.state_set(VERSION_KEY, __version__)
            for follower in self._followers:
                follower.begin(self._thread.connections, follower.read(repository))
            self.log_enabled = repository.log_enabled()

        self._is_started = True
        self._thread.start(first, self._chores, self._do_last)
        try:
            await asyncio.wrap_future(self._thread.opened)
            for follower in self._followers:
                follower.deliver_first()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Write what is queued, within the time allowed, and close the database."""
        if self._stopped:
            return
        self._stopped = True
        self.log_enabled = False
        if not self._is_started:
            return
        self._thread.stop(self._stop_timeout_s)
        finished = asyncio.wrap_future(self._thread.finished)
        # The margin is for a statement under way when the time is over.
        done, _ = await asyncio.wait({finished}, timeout=self._stop_timeout_s + 5.0)
        if not done or not self._thread.join(5.0):
            logger.error(
                "the database thread did not end in time; %d log records are lost", len(self._buffer)
            )

    # -- hot path -----------------------------------------------------------------------

    def log(self, record: LogRecord) -> None:
        """Queue a record for the request log; never waits, never raises."""
        if self.log_enabled:
            self._buffer.add(record)

    def note_seen(self, entry_id: int, now_ms: int) -> None:
        """Count a call for a whitelist entry; written every few seconds."""
        self._seen.note(entry_id, now_ms)

    @property
    def stats(self) -> StoreStats:
        return StoreStats(
            log_written=self._buffer.written,
            log_dropped=self._buffer.dropped,
            log_queued=len(self._buffer),
            errors=self._thread.errors,
            last_error=self._thread.last_error,
            healthy=self._thread.healthy,
        )

    # -- calls; more of them in calls.py, calls_admin.py and calls_log.py ----------------

    async def whitelist_list(self) -> list[WhitelistEntry]:
        """List all entries with up-to-date counts of calls."""

        def work(_: Repository) -> list[WhitelistEntry]:
            self._write_seen()
            # Asked for anew: a fault while writing may have closed the connection.
            return self._thread.call(Repository.whitelist_list, is_write=False)

        result: list[WhitelistEntry] = await self._submit(work)
        return result

    async def whitelist_add(self, address: str, note: str = "", enabled: bool = True) -> WhitelistEntry:
        """As `Repository.whitelist_add`; in force when it returns."""
        return await self._change(self._whitelist, Repository.whitelist_add, address, note, enabled)

    async def whitelist_update(
        self,
        entry_id: int,
        *,
        address: str | None = None,
        note: str | None = None,
        enabled: bool | None = None,
    ) -> WhitelistEntry:
        """As `Repository.whitelist_update`; in force when it returns."""
        update = Repository.whitelist_update
        return await self._change(
            self._whitelist, update, entry_id, address=address, note=note, enabled=enabled
        )

    async def whitelist_remove(self, address_or_id: str | int) -> bool:
        """As `Repository.whitelist_remove`; in force when it returns."""
        return await self._change(self._whitelist, Repository.whitelist_remove, address_or_id)

    async def whitelist_change(self, fn: Callable[[Repository], T]) -> T:
        """Run a function that changes the whitelist, in one transaction; in force when it returns."""
        return await self._change(self._whitelist, fn)

    async def account_change(self, fn: Callable[[Repository], T]) -> T:
        """Run a function that changes the accounts, in one transaction; in force when it returns."""
        return await self._change(self._accounts, fn)

    async def alert_change(self, fn: Callable[[Repository], T]) -> T:
        """Run a function that changes channels or silences of alerts, in one transaction; in force when it returns."""
        return await self._change(self._alerts, fn)

    async def preload_list(self) -> list[PreloadRow]:
        """List all preload rules, oldest first."""
        return await self.run(Repository.preload_list)

    async def preload_change(self, fn: Callable[[Repository], T]) -> T:
        """Run a function that changes the preload rules, in one transaction; in force when it returns."""
        return await self._change(self._preload, fn)

    async def preload_add(self, rule: PreloadRule) -> PreloadRow:
        """As `Repository.preload_add`; in force when it returns."""
        return await self._change(self._preload, Repository.preload_add, rule)

    async def preload_update(self, rule_id: int, rule: PreloadRule) -> PreloadRow:
        """As `Repository.preload_update`; in force when it returns."""
        return await self._change(self._preload, Repository.preload_update, rule_id, rule)

    async def preload_remove(self, rule_id: int) -> bool:
        """As `Repository.preload_remove`; in force when it returns."""
        return await self._change(self._preload, Repository.preload_remove, rule_id)

    async def set_log_enabled(self, enabled: bool) -> None:
        """Switch the request log, here at once and in other processes when they poll."""

        def work(repository: Repository) -> None:
            repository.set_log_enabled(enabled)
            self._set_log_enabled(enabled)

        await self._submit(work, is_write=True)

    async def log_change(self, fn: Callable[[Repository], T]) -> T:
        """Run a function that changes the log's switch or retention, in one transaction.

        Shape: in force here when it returns, in other processes when they poll.
        """

        def work(repository: Repository) -> T:
            with repository.transaction():
                result = fn(repository)
                state = repository.state_all()
            self._set_log_enabled(state.get("log_enabled") == "1")
            self._follow_retention(*read_retention(state))
            return result

        result: T = await self._submit(work, is_write=True)
        return result

    async def _change(
        self,
        follower: Follower[Any],
        fn: Callable[Concatenate[Repository, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def work(repository: Repository) -> T:
            with repository.transaction():
                result = fn(repository, *args, **kwargs)
                snapshot = follower.read(repository)
            follower.publish(self._thread.connections, snapshot)
            return result

        result: T = await self._submit(work, is_write=True)
        return result

    # -- on the database thread ---------------------------------------------------------

    def _set_log_enabled(self, enabled: bool) -> None:
        self.log_enabled = enabled and not self._stopped

    def _do_flush(self) -> float | None:
        count = self._buffer.flush(self._write_batch)
        self._rows_since_prune += count
        _, max_rows = self._retention
        if max_rows > 0 and self._rows_since_prune >= max(1000, max_rows // 20):
            self._prune.due_mono = 0.0
            self._rows_since_prune = 0
        # When another batch is full already it follows at once, after the jobs that wait.
        if count and len(self._buffer) >= BATCH_ROWS:
            return 0.0
        # Nothing comes while the log is off.
        return None if self.log_enabled or len(self._buffer) else _OFF_FLUSH_S

    def _do_poll(self) -> None:
        state = self._thread.call(Repository.state_all, is_write=False)
        self._set_log_enabled(state.get("log_enabled") == "1")
        self._follow_retention(*read_retention(state))
        for follower in self._followers:
            if follower.is_new(self._thread.connections, state):
                snapshot = self._thread.call(follower.read, is_write=False)
                follower.publish(self._thread.connections, snapshot)
        if self._thread.is_write_down and not len(self._buffer):
            # Nothing is waiting that would show whether writing works again.
            self._thread.call(Repository.touch, is_write=True)

    def _do_seen(self) -> None:
        counts = self._seen.take()
        if not counts:
            return
        try:
            self._thread.call(lambda repository: repository.whitelist_seen(counts), is_write=True)
        except StoreError:
            self._seen.give_back(counts)
            raise

    def _do_prune(self) -> None:
        def begin(repository: Repository) -> None:
            self._thread.add_pieces(repository.log_prune_steps(self._now_ms(), *self._retention))

        self._thread.call(begin, is_write=False)

    def _write_batch(self, records: Sequence[LogRecord]) -> int:
        return self._thread.call(lambda repository: repository.log_write(records), is_write=True)

    def _write_log(self) -> None:
        """Write what is queued now; trouble is left to the next flush."""
        with contextlib.suppress(StoreError):
            for _ in range(len(self._buffer)):
                if not self._buffer.flush(self._write_batch):
                    break

    def _write_seen(self) -> None:
        with contextlib.suppress(StoreError):
            self._do_seen()

    def _do_last(self, deadline_mono: float) -> None:
        while len(self._buffer) and time.monotonic() < deadline_mono:
            try:
                self._buffer.flush(self._write_batch)
            except StoreError:
                time.sleep(min(0.1, max(0.0, deadline_mono - time.monotonic())))
        lost = self._buffer.give_up()
        if lost:
            logger.error("%d log records could not be written before the store stopped", lost)
        self._write_seen()
