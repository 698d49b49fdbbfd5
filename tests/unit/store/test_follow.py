"""A table that is followed: what was changed is delivered once, in order, ahead of the job's own result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resender.store.follow import Follower


class Followed:
    """A follower of a table that is made up, and what was delivered."""

    def __init__(self) -> None:
        self.got: list[tuple[Any, ...]] = []
        self.follower: Follower[str] = Follower("revision", lambda repository: (0, ()))
        self.follower.listen(self.got.append)

    def is_new(self, connection: int, revision: int | None) -> bool:
        return self.follower.is_new(connection, {} if revision is None else {"revision": str(revision)})


async def test_first_rows_are_delivered_when_the_start_is_ready_for_them() -> None:
    one = Followed()
    one.follower.begin(1, (5, ("a",)))
    assert one.got == []
    one.follower.deliver_first()
    one.follower.deliver_first()
    assert one.got == [("a",)]


async def test_another_revision_or_connection_is_read_again() -> None:
    one = Followed()
    one.follower.begin(1, (5, ()))
    assert not one.is_new(1, 5)
    assert one.is_new(1, 6)
    assert one.is_new(1, 4), "a database that was put back"
    assert one.is_new(2, 5), "after a new connection nothing read before is certain"
    one.follower.publish(2, (5, ()))
    assert not one.is_new(2, 5)


async def test_table_nobody_has_ever_changed_has_revision_0() -> None:
    one = Followed()
    one.follower.begin(1, (0, ()))
    assert not one.is_new(1, None)


async def test_rows_published_by_another_thread_arrive_on_the_loop_in_order() -> None:
    one = Followed()
    one.follower.begin(1, (0, ()))
    one.follower.deliver_first()

    def work() -> None:
        for number in range(3):
            one.follower.publish(1, (number + 1, (str(number),)))

    await asyncio.to_thread(work)
    assert one.got == [(), ("0",), ("1",), ("2",)]


async def test_first_rows_that_come_late_do_not_hide_newer_ones() -> None:
    one = Followed()
    one.follower.begin(1, (0, ("old",)))
    one.follower.publish(1, (1, ("new",)))
    await asyncio.sleep(0)
    one.follower.deliver_first()
    assert one.got == [("new",)]


async def test_table_nobody_listens_to_is_never_read() -> None:
    one = Followed()
    one.follower.listen(None)
    assert not one.is_new(9, 9)


async def test_what_the_first_delivery_raises_comes_out() -> None:
    def refuse(rows: tuple[str, ...]) -> None:
        raise ValueError("not these")

    follower: Follower[str] = Follower("revision", lambda repository: (0, ()))
    follower.listen(refuse)
    follower.begin(1, (0, ("a",)))
    with pytest.raises(ValueError, match="not these"):
        follower.deliver_first()


def test_closed_loop_is_served_no_more() -> None:
    got: list[Any] = []
    follower: Follower[str] = Follower("revision", lambda repository: (0, ()))

    async def listen() -> None:
        follower.listen(got.append)

    asyncio.run(listen())
    follower.publish(1, (1, ("a",)))
    assert got == []
