"""The database thread: one job after the other, chores between them, and faults that heal."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
import pytest

from resender.errors import StoreError
from resender.store import Repository
from resender.store.connection import parse_url
from resender.store.worker import Chore, DatabaseThread

PATIENCE_S = 10.0


def nothing(repository: Repository) -> None:
    """Do nothing."""


def make(url: str, **options: Any) -> DatabaseThread:
    return DatabaseThread(parse_url(url), now_ms=lambda: 1, busy_timeout_s=1.0, **options)


@contextmanager
def running(
    thread: DatabaseThread, *chores: Chore, first: Callable[[Repository], Any] = nothing
) -> Iterator[DatabaseThread]:
    idle = Chore(lambda: None, 3600.0, due_mono=time.monotonic() + 3600.0)
    thread.start(first, [*chores, idle], lambda deadline: None)
    thread.opened.result(PATIENCE_S)
    try:
        yield thread
    finally:
        thread.stop(1.0)
        thread.finished.result(PATIENCE_S)
        assert thread.join(PATIENCE_S)


def ask(thread: DatabaseThread, run: Callable[[Repository], Any] = nothing, *, is_write: bool = False) -> Any:
    return thread.submit(run, is_write=is_write).result(PATIENCE_S)


def broken(text: str) -> Callable[[Repository], Any]:
    def run(repository: Repository) -> None:
        raise peewee.OperationalError(text) from sqlite3.OperationalError(text)

    return run


def test_jobs_are_done_one_after_the_other_in_their_order(url: str) -> None:
    with running(make(url)) as thread:
        done: list[int] = []
        futures = [thread.submit(lambda _, n=n: done.append(n), is_write=False) for n in range(50)]
        for future in futures:
            future.result(PATIENCE_S)
        assert done == list(range(50))


def test_everything_runs_on_one_thread_that_is_not_the_callers(url: str) -> None:
    with running(make(url)) as thread:
        names = {ask(thread, lambda _: threading.current_thread().name) for _ in range(3)}
        assert names == {"resender-store"}


def test_what_a_job_raises_is_its_own_and_not_a_fault_of_the_database(url: str) -> None:
    def refuse(repository: Repository) -> None:
        raise ValueError("not so")

    with running(make(url)) as thread:
        with pytest.raises(ValueError, match="not so"):
            ask(thread, refuse)
        assert thread.healthy
        assert thread.errors == 0


def test_outcome_of_the_opening_is_told_to_who_starts_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    thread = make(f"sqlite:///{tmp_path / 'file' / 'store.db'}")
    thread.start(nothing, [], lambda deadline: None)
    with pytest.raises(StoreError):
        thread.opened.result(PATIENCE_S)
    thread.finished.result(PATIENCE_S)


def test_what_is_done_first_may_refuse_the_start(url: str) -> None:
    def refuse(repository: Repository) -> None:
        raise ValueError("too weak")

    thread = make(url)
    thread.start(refuse, [], lambda deadline: None)
    with pytest.raises(ValueError, match="too weak"):
        thread.opened.result(PATIENCE_S)
    thread.finished.result(PATIENCE_S)


def test_no_job_is_taken_before_the_start_and_after_the_stop(url: str) -> None:
    thread = make(url)
    with pytest.raises(StoreError, match="not running"):
        thread.submit(nothing, is_write=False)
    with running(thread):
        pass
    with pytest.raises(StoreError, match="not running"):
        thread.submit(nothing, is_write=False)


def test_too_many_jobs_are_refused_at_once(url: str) -> None:
    go = threading.Event()
    with running(make(url, max_jobs=2)) as thread:
        begun = threading.Event()

        def hold(repository: Repository) -> None:
            begun.set()
            go.wait(PATIENCE_S)

        held = thread.submit(hold, is_write=False)
        assert begun.wait(PATIENCE_S)
        waiting = [thread.submit(nothing, is_write=False) for _ in range(2)]
        with pytest.raises(StoreError, match="2 calls are waiting"):
            thread.submit(nothing, is_write=False)
        go.set()
        for future in (held, *waiting):
            future.result(PATIENCE_S)


def test_job_that_was_taken_back_is_not_done(url: str) -> None:
    go, done = threading.Event(), []
    with running(make(url)) as thread:
        held = thread.submit(lambda _: go.wait(PATIENCE_S), is_write=False)
        gone = thread.submit(lambda _: done.append(1), is_write=True)
        assert gone.cancel()
        go.set()
        held.result(PATIENCE_S)
        ask(thread)
        assert done == []


def test_jobs_that_wait_when_it_stops_are_told_so(url: str) -> None:
    go = threading.Event()
    thread = make(url)
    with running(thread):
        thread.submit(lambda _: go.wait(PATIENCE_S), is_write=False)
        waiting = thread.submit(nothing, is_write=False)
        thread.stop(1.0)
        go.set()
    with pytest.raises(StoreError, match="stopping"):
        waiting.result(PATIENCE_S)


# -- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_write", [False, True])
def test_fault_is_counted_logged_once_and_over_when_it_works_again(
    url: str, is_write: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with running(make(url)) as thread:
        for _ in range(3):
            with pytest.raises(StoreError, match="locked"):
                ask(thread, broken("database is locked"), is_write=is_write)
        assert (thread.errors, thread.healthy, thread.is_write_down) == (3, False, is_write)
        ask(thread, is_write=is_write)
        assert thread.healthy
        assert thread.last_error is not None
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_reading_does_not_prove_that_writing_works_again(url: str) -> None:
    with running(make(url)) as thread:
        with pytest.raises(StoreError, match="full"):
            ask(thread, broken("database or disk is full"), is_write=True)
        ask(thread)
        assert not thread.healthy
        ask(thread, is_write=True)
        assert thread.healthy


def test_values_the_database_refuses_do_not_make_it_sick(url: str) -> None:
    def refuse(repository: Repository) -> None:
        raise peewee.IntegrityError("UNIQUE constraint failed")

    with running(make(url)) as thread:
        with pytest.raises(StoreError):
            ask(thread, refuse, is_write=True)
        assert (thread.healthy, thread.errors, thread.connections) == (True, 0, 1)


def test_connection_that_is_worth_nothing_is_opened_anew(url: str) -> None:
    with running(make(url)) as thread:
        with pytest.raises(StoreError):
            ask(thread, broken("disk I/O error"))
        ask(thread, lambda repository: repository.whitelist_list())
        assert thread.connections == 2
        with pytest.raises(StoreError):
            ask(thread, broken("database is locked"))
        ask(thread)
        assert thread.connections == 2, "another process has it for a moment"


def test_file_that_was_replaced_is_opened_anew_and_a_missing_one_not_made(url: str, path: Path) -> None:
    with running(make(url)) as thread:
        ask(thread, lambda repository: repository.whitelist_add("10.0.0.1"), is_write=True)
        for each in path.parent.glob(path.name + "*"):
            each.rename(each.with_name("moved-" + each.name))
        with pytest.raises(StoreError):
            ask(thread, lambda repository: repository.whitelist_list())
        assert not path.exists(), "it would forget the whitelist"
        (path.parent / f"moved-{path.name}").rename(path)
        entries = ask(thread, lambda repository: repository.whitelist_list())
        assert [entry.address for entry in entries] == ["10.0.0.1"]


# -- chores and long work -------------------------------------------------------------------------


def test_chore_is_done_again_and_again_between_the_jobs(url: str) -> None:
    done = threading.Semaphore(0)
    with running(make(url), Chore(lambda: done.release(), 0.001)) as thread:
        for _ in range(5):
            assert done.acquire(timeout=PATIENCE_S)
            ask(thread)


def test_mistake_in_a_chore_ends_neither_the_thread_nor_the_other_chores(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Semaphore(0)
    with running(make(url), Chore(lambda: 1 / 0, 0.001), Chore(lambda: done.release(), 0.001)) as thread:
        for _ in range(3):
            assert done.acquire(timeout=PATIENCE_S)
        ask(thread)
        assert thread.errors == 1, "it is not tried again at once"
        assert thread.last_error is not None
        assert "ZeroDivisionError" in thread.last_error
    assert "periodic task" in caplog.text


def test_long_work_is_done_in_pieces_with_jobs_between_them(url: str) -> None:
    seen: list[str] = []
    with running(make(url)) as thread:

        def steps() -> Generator[int, None, None]:
            for _ in range(20):
                seen.append("piece")
                if len(seen) == 3:
                    thread.submit(lambda _: seen.append("job"), is_write=False)
                yield 2

        total: Future[int] = Future()
        ask(thread, lambda _: thread.add_pieces(steps(), total))
        assert total.result(PATIENCE_S) == 40
        assert seen[3] == "job"


def test_long_work_that_fails_tells_who_waits_for_it(url: str) -> None:
    def steps() -> Generator[int, None, None]:
        yield 1
        raise peewee.OperationalError("disk I/O error") from sqlite3.OperationalError("disk I/O error")

    with running(make(url)) as thread:
        total: Future[int] = Future()
        ask(thread, lambda _: thread.add_pieces(steps(), total))
        with pytest.raises(StoreError):
            total.result(PATIENCE_S)
        ask(thread)


def test_last_work_is_done_before_the_database_is_closed(url: str) -> None:
    thread = make(url)
    seen: list[Any] = []

    def last(deadline_mono: float) -> None:
        seen.append(thread.call(lambda repository: repository.whitelist_revision(), is_write=False))
        seen.append(deadline_mono > time.monotonic())

    thread.start(nothing, [Chore(lambda: None, 3600.0)], last)
    thread.opened.result(PATIENCE_S)
    thread.stop(5.0)
    thread.finished.result(PATIENCE_S)
    assert seen == [0, True]
