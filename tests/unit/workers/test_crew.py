"""What workers tell the collector, over a real socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from resender.aio import Clock, Tasks
from resender.core.access.refused import RecentRefused
from resender.core.binance.markets import Market
from resender.metrics import Metrics
from resender.savings import Savings
from resender.workers import Crew, Member
from tests.support.running import wait_until


class One:
    """The figures of one worker."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics, self.savings, self.refused = Metrics(), Savings(self.clock), RecentRefused()
        self.tasks = Tasks()


class Node:
    def __init__(self, path: str) -> None:
        self.path = path
        self.own = One()
        self.crew = Crew(
            path, metrics=self.own.metrics, savings=self.own.savings, refused=self.own.refused,
            clock=self.own.clock,
        )  # fmt: skip
        self.members: list[One] = []

    def join(self, number: int) -> One:
        one = One()
        self.members.append(one)
        Member(
            self.path, number,
            metrics=one.metrics, savings=one.savings, refused=one.refused,
            figures=lambda: (3, 2, 1.5),
            weights=lambda: [{"egress": "default", "pool": "spot", "used": 7, "reserved": 2, "limit": 6000}],
            clock=one.clock, tasks=one.tasks,
        ).start()  # fmt: skip
        return one

    def sample(self, text: bytes, line: str) -> float:
        found = re.search(rf"^{re.escape(line)} (\S+)$", text.decode(), re.MULTILINE)
        return float(found.group(1)) if found else -1.0


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Node]:
    made = Node(str(folder / "crew.sock"))
    await made.crew.start()
    try:
        yield made
    finally:
        for one in made.members:
            await one.tasks.cancel()
        await made.crew.stop()


async def test_figures_of_all_workers_are_those_of_the_node(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        one.own.metrics.count_request(Market.SPOT, "GET", 200, 0.01, 100)
        other = one.join(1)
        other.metrics.count_request(Market.SPOT, "GET", 200, 0.01, 50)
        other.metrics.count_request(Market.UM, "POST", 400, 0.2, 0)
        other.savings.note(("spot", "klines"), 4)
        await wait_until(lambda: one.own.metrics.tally.calls == 3)
        tally = one.own.metrics.tally
        assert (tally.errors, tally.sent_bytes, sum(tally.latency)) == (1, 150, 3)
        assert one.own.savings.total["spot", "klines"] == 4
        assert one.crew.in_flight == 3
        assert one.crew.weights() == {("default", "spot"): (7, 2)}
        (row,) = one.crew.rows()
        assert (row["number"], row["up"], row["calls"], row["streams"], row["lag_ms"]) == (1, True, 2, 2, 1.5)
        text = await one.crew.render()
        for line, value in (
            ('resender_requests_total{market="spot",method="GET",status="200"}', 2),
            ('resender_requests_total{market="um",method="POST",status="400"}', 1),
            ('resender_request_duration_seconds_count{market="spot"}', 2),
            ("resender_bytes_sent_total", 150),
        ):
            assert one.sample(text, line) == value, line
        assert one.sample(text, 'resender_build_info{version="0.2.0"}') in (1, -1.0)


async def test_what_was_told_is_not_counted_twice_and_a_new_process_begins_anew(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        first = one.join(1)
        first.metrics.tally.note(200, 1.0, 10)
        await wait_until(lambda: one.own.metrics.tally.calls == 1)
        await asyncio.sleep(1.2)  # told again twice
        assert one.own.metrics.tally.calls == 1
        await first.tasks.cancel()
        await wait_until(lambda: not one.crew.rows()[0]["up"])
        assert (one.crew.in_flight, one.crew.weights()) == (0, {})
        second = one.join(1)
        second.metrics.tally.note(200, 1.0, 10)
        await wait_until(lambda: one.own.metrics.tally.calls == 2)
        assert [row["up"] for row in one.crew.rows()] == [True]


async def test_strangers_refused_elsewhere_are_on_the_list(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        other = one.join(2)
        for _ in range(3):
            other.refused.note("203.0.113.9", "/api/v3/time", 1000)
        await wait_until(lambda: len(one.own.refused))
        (row,) = one.own.refused.items()
        assert (row.address, row.count, row.path) == ("203.0.113.9", 3, "/api/v3/time")
        await asyncio.sleep(0.7)
        assert one.own.refused.items()[0].count == 3


async def test_worker_that_is_silent_does_not_hold_up_the_metrics(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "crew.sock"))
        writer.write(
            b'{"number":5,"pid":1,"in_flight":0,"streams":0,"lag_ms":0,'
            b'"weights":[],"tally":[0,0,0,' + str([0] * 84).encode() + b'],"saved":[],"refused":[]}\n'
        )
        await wait_until(lambda: one.crew.rows())
        began = asyncio.get_running_loop().time()
        assert b"resender_requests" in await one.crew.render()
        assert asyncio.get_running_loop().time() - began < 3.0
        writer.close()


async def test_nonsense_ends_one_connection_only(tmp_path: Path) -> None:
    async with node(tmp_path) as one:
        for text in (b"no json\n", b"[]\n", b'{"number":1}\n', b'{"families":[],"id":9}\n'):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "crew.sock"))
            writer.write(text)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 2.0) == b""
            writer.close()
        other = one.join(3)
        other.metrics.tally.note(200, 1.0, 1)
        await wait_until(lambda: one.own.metrics.tally.calls == 1)
