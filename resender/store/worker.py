"""The database thread: one connection, one job at a time, and the upkeep between jobs.

It knows nothing of logs or whitelists. It owns the repository and whether the database is well;
only the thread itself touches either, other threads hand it jobs and read flags.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from resender.aio import Backoff
from resender.errors import StoreError
from resender.store.connection import Target, file_identity, open_database
from resender.store.faults import DatabaseFault, Fault, explain, is_database_error
from resender.store.repository import Repository

logger = logging.getLogger("resender.store")

T = TypeVar("T")
Call = Callable[[Repository], Any]
_RETRY_CAP_S = 5.0


@dataclass(slots=True)
class Chore:
    """Work the thread does by itself.

    Shape: `run` returns the pause in seconds until the next time, or None for `every_s`. After a
        `StoreError` it is tried again sooner or later than that: at most five seconds later.
    """

    run: Callable[[], float | None]
    every_s: float
    due_mono: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, _RETRY_CAP_S))


@dataclass(slots=True)
class _Job:
    run: Call
    is_write: bool
    future: Future[Any]


@dataclass(slots=True)
class _Pieces:
    steps: Generator[int, None, None]
    future: Future[int] | None
    total: int = 0


class DatabaseThread:
    """Runs functions of a repository on its own thread, one after the other.

    While a job waits, chores that are due and pieces of long work take turns with it.
    """

    def __init__(
        self, target: Target, *, now_ms: Callable[[], int], busy_timeout_s: float, max_jobs: int = 256
    ) -> None:
        self._target = target
        self._now_ms = now_ms
        self._busy_timeout_s = busy_timeout_s
        self._jobs: queue.Queue[_Job | None] = queue.Queue(max_jobs)
        self._chores: list[Chore] = []
        self._pieces: list[_Pieces] = []
        self._repository: Repository | None = None
        self._identity: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._last: Callable[[float], None] = lambda deadline_mono: None
        self._stop_by_mono = 0.0
        self.opened: Future[None] = Future()
        self.finished: Future[None] = Future()
        #: Counts connections: after a new one nothing read before is certain.
        self.connections = 0
        self.errors = 0
        self.last_error: str | None = None
        self._down: str | None = None  # None, "read" or "write"

    @property
    def healthy(self) -> bool:
        return self._down is None

    @property
    def is_write_down(self) -> bool:
        return self._down == "write"

    def start(self, first: Call, chores: list[Chore], last: Callable[[float], None]) -> None:
        """Start the thread; `opened` tells the outcome of opening and of `first`.

        Shape: `last` runs before the database is closed, with the monotonic time it has to be done by.
        """
        self._chores = chores
        self._last = last
        # From here on nobody can cancel them.
        self.opened.set_running_or_notify_cancel()
        self.finished.set_running_or_notify_cancel()
        # A daemon, so that a driver stuck in a dead network cannot keep the process from ending.
        self._thread = threading.Thread(target=self._main, args=(first,), name="resender-store", daemon=True)
        self._thread.start()

    def stop(self, within_s: float) -> None:
        """Ask the thread to end; `finished` tells when it has."""
        self._stop_by_mono = time.monotonic() + within_s
        self._stopping = True
        # With a full queue it is busy and looks at the flag soon.
        with contextlib.suppress(queue.Full):
            self._jobs.put_nowait(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; tell whether it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, run: Call, *, is_write: bool) -> Future[Any]:
        """Queue a job; the future may be cancelled until the job begins.

        Raises: StoreError if the thread is stopping or too many jobs wait.
        """
        if self._stopping or self._thread is None:
            raise StoreError("The store is not running.")
        job = _Job(run, is_write, Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise StoreError(
                f"The database is busy: {self._jobs.maxsize} calls are waiting for it."
            ) from None
        return job.future

    def call(
        self,
        run: Callable[[Repository], T],
        *,
        is_write: bool,
        has_written: Callable[[T], bool] = lambda result: True,
    ) -> T:
        """Run a function now; only for code that is on the thread already.

        Shape: `has_written` tells from the result whether a function that may write did so.
        Raises: StoreError for trouble with the database, which also counts as a fault; what the
            function raises otherwise.
        """
        try:
            result = run(self._open_repository())
        except Exception as error:
            if not (is_database_error(error) or isinstance(error, StoreError)):
                raise
            fault = explain(error, self._target.where)
            if not getattr(fault, "is_counted", False):
                self._failed(fault, is_write)
            if fault is error:
                raise
            raise fault from error
        self._worked(is_write and has_written(result))
        return result

    def add_pieces(self, steps: Generator[int, None, None], future: Future[int] | None = None) -> None:
        """Do long work a piece at a time; only on the thread."""
        self._pieces.append(_Pieces(steps, future))

    def _main(self, first: Call) -> None:
        try:
            try:
                # The first fault goes to whoever starts the store; it is no change of state.
                self._repository = self._connect(create=True)
                first(self._repository)
            except BaseException as error:
                known = is_database_error(error) or isinstance(error, StoreError)
                self.opened.set_exception(explain(error, self._target.where) if known else error)
                return
            self.opened.set_result(None)
            while not self._stopping:
                self._turn()
            self._last(self._stop_by_mono)
        finally:
            self._stopping = True
            self._refuse_rest()
            self._close()
            self.finished.set_result(None)

    def _turn(self) -> None:
        now = time.monotonic()
        pause = 0.0 if self._pieces else max(0.0, min(chore.due_mono for chore in self._chores) - now)
        try:
            job = self._jobs.get(timeout=pause) if pause else self._jobs.get_nowait()
        except queue.Empty:
            job = None
        if job is not None:
            self._do(job)
        for chore in self._chores:
            if chore.due_mono <= time.monotonic():
                self._do_chore(chore)
        if self._pieces and self._jobs.empty():
            self._do_piece(self._pieces[0])

    def _do(self, job: _Job) -> None:
        if not job.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call(job.run, is_write=job.is_write)
        except BaseException as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    def _do_chore(self, chore: Chore) -> None:
        pause: float | None
        try:
            pause = chore.run()
            chore.backoff.reset()
        except StoreError:
            pause = max(chore.backoff.next_s(), min(chore.every_s, _RETRY_CAP_S))
        except Exception as error:
            # A mistake in one chore must not end the thread and with it all the others.
            logger.exception("a periodic task of the database thread failed")
            self.errors += 1
            self.last_error = f"{type(error).__name__}: {error}"
            pause = _RETRY_CAP_S
        chore.due_mono = time.monotonic() + (chore.every_s if pause is None else pause)

    def _do_piece(self, piece: _Pieces) -> None:
        try:
            count = self.call(lambda repository: next(piece.steps, None), is_write=True, has_written=bool)
        except Exception as error:
            if not isinstance(error, StoreError):
                logger.exception("clearing the request log failed")
            self._end_piece(piece, error)
            return
        if count is None:
            self._end_piece(piece, None)
        else:
            piece.total += count

    def _end_piece(self, piece: _Pieces, error: Exception | None) -> None:
        # Closing the connection may have ended it before.
        if piece not in self._pieces:
            return
        self._pieces.remove(piece)
        piece.steps.close()
        if piece.future is None:
            return
        if error is None:
            piece.future.set_result(piece.total)
        else:
            piece.future.set_exception(error)

    def _connect(self, *, create: bool) -> Repository:
        database = open_database(self._target.url, busy_timeout_s=self._busy_timeout_s, create=create)
        if self._target.path is not None:
            self._identity = file_identity(self._target.path)
        self.connections += 1
        return Repository(database, self._now_ms)

    def _open_repository(self) -> Repository:
        # A deleted file can still be written through its open handle: into nowhere.
        if self._repository is not None and self._is_moved():
            self._close()
        if self._repository is None:
            # Never a new, empty database while running: it would forget the whitelist.
            self._repository = self._connect(create=False)
        return self._repository

    def _close(self) -> None:
        # Pieces belong to the connection they began on.
        for piece in list(self._pieces):
            self._end_piece(piece, StoreError("The connection to the database ended before the work did."))
        if self._repository is not None:
            if self._is_moved():
                # SQLite would take the log left behind for that of the file now in its place.
                self._repository.empty_wal()
            self._repository.close()
            self._repository = None

    def _is_moved(self) -> bool:
        path = self._target.path
        return path is not None and file_identity(path) != self._identity

    def _failed(self, fault: StoreError, is_write: bool) -> None:
        kind = getattr(fault, "kind", Fault.OTHER)
        if isinstance(fault, DatabaseFault):
            fault.is_counted = True
        if kind is Fault.DATA:
            return
        self.errors += 1
        self.last_error = str(fault)
        if self._down is None:
            logger.error(
                "%s Requests are still served; writing goes on when the database works again.", fault
            )
        if self._down is None or is_write:
            self._down = "write" if is_write else "read"
        if kind in (Fault.OTHER, Fault.RIGHTS):
            self._close()

    def _worked(self, is_write: bool) -> None:
        # Reading does not prove that a database whose disk was full can be written again.
        if self._down is not None and (is_write or self._down == "read"):
            self._down = None
            logger.warning("The database %s works again.", self._target.where)

    def _refuse_rest(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(StoreError("The store is stopping."))
