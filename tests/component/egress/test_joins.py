"""Equal unsigned GETs are one call to the exchange; nothing that is anybody's own ever is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from resender.sandbox import Fault
from tests.support.client import Reply, build
from tests.support.egress_lab import (
    KEYS,
    Lab,
    code_of,
    exchange_config,
    is_refused_here,
    lab,
)
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.component

INFO = "/fapi/v1/exchangeInfo"
DEPTH = "/api/v3/depth?symbol=BTCUSDT&limit=5"


def kinds(replies: list[Reply]) -> Counter[str]:
    return Counter(reply.header("x-resender-cache") or "sent" for reply in replies)


async def slowly(one: Lab, path: str, seconds: float = 0.3) -> None:
    """Let the exchange take its time, so that calls made together are in flight together."""
    one.sandbox.faults.add(Fault("delay", match=path, seconds=seconds, times=None))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("memory_s", [0.0, 60.0])
async def test_a_thousand_clients_that_ask_for_exchange_info_make_one_call(
    memory_s: float, tmp_path: Path
) -> None:
    async with lab(tmp_path, exchange_config(um_symbols=300), exchange_info_memory_s=memory_s) as one:
        await slowly(one, "exchangeInfo", 1.5)
        gate = asyncio.Event()

        async def ask(number: int) -> Reply:
            client = one.client()
            await gate.wait()
            return await client.get(INFO, ("Accept-Encoding", "gzip"), ("User-Agent", f"bot/{number}"))

        asking = [asyncio.create_task(ask(number)) for number in range(1000)]
        await asyncio.sleep(0)
        gate.set()
        replies = await asyncio.gather(*asking)
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        assert kinds(replies)["sent"] == 1
        assert set(kinds(replies)) <= {"sent", "joined", "shared"}
        mine = [c for c in one.sandbox.calls if (c.header("user-agent") or "").startswith("bot/")]
        assert len(mine) == 1
        # The gateway reads its limits by the same answer, or by one more call of its own.
        assert one.sandbox.count("GET", INFO) <= (1 if memory_s else 2)
        assert all(reply.header("x-resender-egress") for reply in replies)


async def test_an_error_is_shared_too(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "depth")
        one.sandbox.faults.add(Fault("reset_before", match="depth"))
        replies = await one.together(30, DEPTH)
        assert {(reply.status, code_of(reply)) for reply in replies} == {(502, -6)}
        assert one.sandbox.count("GET", "/api/v3/depth") == 1
        assert (await one.get(DEPTH)).status == 200


async def test_an_answer_of_the_exchange_with_a_bad_status_is_shared_but_never_kept(tmp_path: Path) -> None:
    async with lab(tmp_path, get_memory_ms=60_000) as one:
        await slowly(one, "depth")
        one.sandbox.faults.add(Fault("status", match="depth", status=503, body=b'{"code":-1000}'))
        replies = await one.together(20, DEPTH)
        assert {reply.status for reply in replies} == {503}
        assert kinds(replies) == {"sent": 1, "joined": 19}
        assert kinds([await one.get(DEPTH)]) == {"sent": 1}
        assert kinds([await one.get(DEPTH)]) == {"shared": 1}


async def test_a_refusal_for_weight_is_not_shared_with_those_for_whom_there_is_room(tmp_path: Path) -> None:
    exchange = exchange_config(weight_limits={"spot": 100})
    async with lab(tmp_path, exchange, egress="127.0.0.2") as one:
        await one.room(5.0)
        replies = await one.together(20, "/api/v3/ticker/24hr")  # 80
        assert kinds(replies)["joined"] >= 15
        assert sum(call.path.endswith("24hr") for call in one.sandbox.calls) == 1
        assert is_refused_here(await one.get("/api/v3/ticker/24hr"))
        assert (await one.get(DEPTH)).status == 200


async def test_what_is_somebodys_own_is_never_joined(tmp_path: Path) -> None:
    async with lab(tmp_path, get_memory_ms=60_000) as one:
        await slowly(one, "/api/v3")
        key = ("X-MBX-APIKEY", KEYS[0])
        replies = await one.together(5, "/api/v3/historicalTrades?symbol=BTCUSDT", key)
        replies += await one.together(5, f"{DEPTH}&signature=abc")
        replies += await one.together(5, f"{DEPTH}&n=1&Signature=abc")  # another name, unknown to Binance
        assert kinds(replies[:10]) == {"sent": 10}
        with_body = [one.client() for _ in range(3)]
        form = (("Content-Type", "application/x-www-form-urlencoded"),)
        replies = await asyncio.gather(*(c.call("GET", DEPTH, form, b"symbol=ETHUSDT") for c in with_body))
        assert kinds(list(replies)) == {"sent": 3}
        for method in ("HEAD", "POST", "DELETE"):
            made = len(one.sandbox.calls)
            async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else _nothing():
                await asyncio.gather(*(_fire(one, method, DEPTH) for _ in range(3)))
            assert len(one.sandbox.calls) == made + 3


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _fire(one: Lab, method: str, target: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.run.port)
    writer.write(build(method, target))
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_answers_in_different_encodings_are_different_answers(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "exchangeInfo")
        encodings = ("gzip", "identity", "gzip, deflate, br")
        replies = await asyncio.gather(
            *(one.get(INFO, ("Accept-Encoding", each)) for each in encodings for _ in range(4))
        )
        assert kinds(list(replies)) == {"sent": 3, "joined": 9}
        for index, each in enumerate(encodings):
            mine = replies[index * 4 : index * 4 + 4]
            assert {reply.header("content-encoding") for reply in mine} == {
                None if each == "identity" else "gzip"
            }
            assert len({reply.body for reply in mine}) == 1


async def test_time_unit_and_sbe_are_different_answers_and_other_headers_are_ones_own(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "depth")
        replies = await asyncio.gather(
            *(
                one.get(DEPTH, ("X-MBX-TIME-UNIT", unit))
                for unit in ("MICROSECOND", "MILLISECOND")
                for _ in "ab"
            ),
            *(one.get(DEPTH, ("X-MBX-NEW-THING", "1")) for _ in "ab"),
            *(one.get(DEPTH, ("If-None-Match", "x")) for _ in "ab"),
            *(one.get(DEPTH, ("User-Agent", agent)) for agent in "ab"),
        )
        assert [reply.header("x-resender-cache") for reply in replies] == [
            None, "joined", None, "joined", None, None, None, None, None, "joined",
        ]  # fmt: skip


# -- leaving and loitering --------------------------------------------------------------------------

PART = b"x" * 50_000


@asynccontextmanager
async def streamed(
    tmp_path: Path, **settings: Any
) -> AsyncIterator[tuple[Running, RawUpstream, asyncio.Event]]:
    """Run a gateway on an upstream that sends one part of a body, and the rest after the event."""
    go_on = asyncio.Event()

    async def answer(request: Request, peer: Peer) -> None:
        head, _, _ = response(b"").partition(b"content-length")
        await peer.send(head + b"content-length: %d\r\n\r\n" % (len(PART) * 20) + PART)
        await go_on.wait()
        for _ in range(19):
            await peer.send(PART)

    async with RawUpstream() as upstream:
        upstream.answer = answer
        async with running(make_config(tmp_path, upstream.url, cache_enabled=False, **settings)) as run:
            yield run, upstream, go_on


class Half:
    """A client that reads when it is told to."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.raw = b""

    async def ask(self, run: Running, target: str) -> Half:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", run.port, limit=self.limit)
        self.writer.write(build("GET", target, (("User-Agent", "client/1"),)))
        return self

    async def begin(self) -> Half:
        self.raw = await self.reader.readuntil(b"\r\n\r\n")
        return self

    async def rest(self, timeout_s: float = 10.0) -> bytes:
        parts = [self.raw]

        async def read() -> None:
            while data := await self.reader.read(1 << 16):
                parts.append(data)

        await asyncio.wait_for(read(), timeout_s)
        self.raw = b"".join(parts)
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
        return self.raw.partition(b"\r\n\r\n")[2]

    async def leave(self) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("leaving", ["the first", "the second", "the first and the second"])
async def test_clients_that_leave_in_mid_body_take_nothing_from_the_others(
    leaving: str, tmp_path: Path
) -> None:
    async with streamed(tmp_path) as (run, upstream, go_on):
        clients = [await (await Half(1 << 16).ask(run, DEPTH)).begin() for _ in range(4)]
        assert [b"joined" in each.raw for each in clients] == [False, True, True, True]
        if "first" in leaving:
            await clients[0].leave()
        if "second" in leaving:
            await clients[1].leave()
        go_on.set()
        gone = {"the first": [0], "the second": [1]}.get(leaving, [0, 1])
        for index, each in enumerate(clients):
            if index not in gone:
                assert await each.rest() == PART * 20
        assert len(upstream.requests) == 1
        await wait_until(lambda: not run.gateway.calls.in_flight)


async def test_when_all_have_left_the_call_is_ended(tmp_path: Path) -> None:
    async with streamed(tmp_path) as (run, upstream, go_on):
        clients = [await (await Half(1 << 16).ask(run, DEPTH)).begin() for _ in range(3)]
        for each in clients:
            await each.leave()
        await wait_until(lambda: not run.gateway.calls.in_flight)
        # Nobody joins what was given up.
        go_on.set()
        late = await Half(1 << 16).ask(run, DEPTH)
        assert await late.rest() == PART * 20
        assert len(upstream.requests) == 2


async def test_whoever_asked_first_may_leave_before_the_answer(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "depth", 0.6)
        first = await Half(1 << 16).ask(one.run, DEPTH)
        await wait_until(lambda: one.sandbox.count("GET", "/api/v3/depth"))
        others = [await Half(1 << 16).ask(one.run, DEPTH) for _ in range(5)]
        await asyncio.sleep(0.2)
        await first.leave()
        await others[0].leave()
        for each in others[1:]:
            assert b'"bids"' in await each.rest()
            assert b" 200 OK" in each.raw
        assert one.sandbox.count("GET", "/api/v3/depth") == 1


async def test_when_all_have_left_before_the_answer_the_call_is_ended(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "depth", 3.0)
        first = await Half(1 << 16).ask(one.run, DEPTH)
        await wait_until(lambda: one.sandbox.count("GET", "/api/v3/depth"))
        others = [await Half(1 << 16).ask(one.run, DEPTH) for _ in range(3)]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await first.leave()
        await others[0].leave()
        assert one.gateway.calls.in_flight == 3
        await others[1].leave()
        await others[2].leave()
        await wait_until(lambda: not one.gateway.calls.in_flight)
        assert time.monotonic() - begun < 2.0


async def test_a_lonely_first_that_leaves_ends_its_call(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        await slowly(one, "depth", 2.0)
        first = await Half(1 << 16).ask(one.run, DEPTH)
        await wait_until(lambda: one.sandbox.count("GET", "/api/v3/depth"))
        begun = time.monotonic()
        await first.leave()
        await wait_until(lambda: not one.gateway.calls.in_flight)
        assert time.monotonic() - begun < 1.0
        assert one.row("127.0.0.2", "spot")["reserved"] == 0


async def test_a_slow_reader_holds_up_nobody(tmp_path: Path) -> None:
    async with streamed(tmp_path) as (run, upstream, go_on):
        slow = await (await Half(1024).ask(run, DEPTH)).begin()
        quick = [await (await Half(1 << 16).ask(run, DEPTH)).begin() for _ in range(2)]
        go_on.set()
        begun = time.monotonic()
        for each in quick:
            assert await each.rest(5.0) == PART * 20
        assert time.monotonic() - begun < 3.0
        assert await slow.rest() == PART * 20
        assert len(upstream.requests) == 1


async def test_a_body_that_breaks_off_breaks_off_for_all(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        one.sandbox.faults.add(Fault("reset_mid_body", match="exchangeInfo"))
        await slowly(one, "exchangeInfo")
        clients = [await Half(1 << 16).ask(one.run, INFO) for _ in range(6)]
        bodies = [await each.rest() for each in clients]
        lengths = {len(body) for body in bodies}
        assert len(lengths) == 1
        assert one.of_clients(INFO) == 1
        whole = await one.get(INFO)
        assert kinds([whole]) == {"sent": 1}
        assert lengths.pop() < len(whole.body)


# -- memory -----------------------------------------------------------------------------------------


async def test_nothing_but_exchange_info_is_remembered_by_default(tmp_path: Path) -> None:
    async with lab(tmp_path) as one:
        for target in (DEPTH, "/api/v3/ticker/price", "/fapi/v1/premiumIndex"):
            assert kinds([await one.get(target) for _ in range(3)]) == {"sent": 3}
        for target in (INFO, "/api/v3/exchangeInfo?symbol=BTCUSDT", "/dapi/v1/exchangeInfo"):
            assert (await one.get(target)).status == 200
            again = await one.get(target)
            assert kinds([again]) == {"shared": 1}
            assert int(again.header("x-resender-age") or -1) >= 0


async def test_a_remembered_answer_serves_for_its_time_and_tells_its_age(tmp_path: Path) -> None:
    async with lab(tmp_path, get_memory_ms=800) as one:
        first = await one.get(DEPTH)
        begun = time.monotonic()
        assert kinds([first]) == {"sent": 1}
        await asyncio.sleep(0.3)
        second = await one.get(DEPTH)
        assert kinds([second]) == {"shared": 1}
        assert 250 <= int(second.header("x-resender-age") or 0) <= 800
        assert second.body == first.body
        assert second.header("x-resender-egress") == first.header("x-resender-egress")
        assert kinds([await one.get(DEPTH + "0")]) == {"sent": 1}
        assert kinds([await one.get(DEPTH, ("Cache-Control", "no-cache"))]) == {"sent": 1}
        await asyncio.sleep(max(0.0, begun + 1.3 - time.monotonic()))
        assert kinds([await one.get(DEPTH)]) == {"sent": 1}
        assert one.sandbox.count("GET", "/api/v3/depth") == 4


async def test_a_clock_is_never_remembered(tmp_path: Path) -> None:
    async with lab(tmp_path, get_memory_ms=60_000) as one:
        for target in ("/api/v3/time", "/fapi/v1/time", "/dapi/v1/time", "/eapi/v1/time", "/api/v3/ping"):
            assert kinds([await one.get(target) for _ in range(2)]) == {"sent": 2}, target


@pytest.mark.parametrize("status", [500, 503, 404, 400])
async def test_a_failure_is_not_remembered(status: int, tmp_path: Path) -> None:
    async with lab(tmp_path, get_memory_ms=60_000) as one:
        one.sandbox.faults.add(Fault("status", match="depth", status=status))
        assert (await one.get(DEPTH)).status == status
        assert kinds([await one.get(DEPTH)]) == {"sent": 1}


async def test_the_used_weight_of_a_remembered_answer_is_of_now(tmp_path: Path) -> None:
    exchange = exchange_config(weight_limits={"spot": 6000})
    async with lab(tmp_path, exchange, egress="127.0.0.2", get_memory_ms=60_000, cache_enabled=True) as one:
        await one.room(4.0)
        target = "/api/v3/avgPrice?symbol=BTCUSDT"
        first = await one.get(target)
        for _ in range(3):
            last = await one.get("/api/v3/trades?symbol=BTCUSDT&limit=7", ("Cache-Control", "no-cache"))
        again = await one.get(target)
        assert kinds([again]) == {"shared": 1}
        used = [int(reply.header("x-mbx-used-weight-1m") or 0) for reply in (first, last, again)]
        assert used[0] < used[1] <= used[2]
