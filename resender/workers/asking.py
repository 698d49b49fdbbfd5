"""Answers out of the collector's memory for the workers beside it.

A reader keeps no market data of its own: it asks the one that does, over a socket of this machine, and what proves an
answer is looked at there, in the moment it is given. An answer that took long to get here is not used: whoever was
stopped meanwhile must not tell old data as new. `AskServer` belongs to the collector, `Asks` to a reader.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from resender.aio import Clock, Tasks, within
from resender.core.cluster.asks import Frames, Question, Reply, read_question, read_reply
from resender.core.market.requests import COLLECTOR_SILENT, COLLECTOR_SLOW, Miss
from resender.market import Hit, Outcome, Wanting

logger = logging.getLogger("resender.workers")

# An answer may take so long from the moment it holds for until it is here.
_LONGEST_S = 0.5
# No answer is waited for longer by the collector itself; what took longer was stopped on its way.
_WAITED_MS = 3000
# The collector says so often that it is there; one that has not for so long is not asked and not waited for.
_BEAT_S = 0.2
_SILENCE_S = 1.0
_BEAT, _ = Reply(0, "beat").to_pieces()
_AGAIN_S = 0.2
# So much may wait for a reader that takes nothing.
_WAITING_BYTES = 64 << 20
Answer = Callable[[Question], Outcome]


class _Wire(asyncio.Protocol):
    """One connection: what is written in one turn of the loop leaves together."""

    def __init__(
        self, on_frame: Callable[[memoryview], None], on_lost: Callable[[_Wire], None], greeting: bytes = b""
    ) -> None:
        self._on_frame = on_frame
        self._greeting = greeting
        self._on_lost = on_lost
        self._frames = Frames()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._greeting:
            self._transport.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._on_frame(frame)
        except ValueError as error:
            logger.error("another worker sent what is no frame: %s", error)
            self.close()

    def send(self, *pieces: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += pieces

    def _flush(self) -> None:
        pieces, self._out = self._out, []
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > _WAITING_BYTES:
            logger.error("another worker takes no answers any more: it is let go")
            self._transport.abort()
            return
        self._transport.writelines(pieces)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class AskServer:
    """The collector's end. Shape: `answer` finds what a question asks for, or says why it is not there."""

    def __init__(self, path: str, answer: Answer, clock: Clock, tasks: Tasks) -> None:
        self._path = path
        self._answer = answer
        self._clock = clock
        self._tasks = tasks
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self.asked = 0

    async def start(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        self._server = await asyncio.get_running_loop().create_unix_server(self._made, self._path)
        os.chmod(self._path, 0o600)
        self._tasks.spawn(self._beat(), name="worker-beat")

    async def _beat(self) -> None:
        while True:
            for wire in self._wires:
                wire.send(_BEAT)
            await asyncio.sleep(_BEAT_S)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for wire in list(self._wires):
                wire.close()
            with suppress(OSError):
                os.unlink(self._path)

    def _made(self) -> _Wire:
        def on_frame(frame: memoryview) -> None:
            self._asked(wire, read_question(frame))

        wire = _Wire(on_frame, self._wires.discard, _BEAT)
        self._wires.add(wire)
        return wire

    def _asked(self, wire: _Wire, question: Question) -> None:
        self.asked += 1
        try:
            outcome = self._answer(question)
        except Exception:
            logger.exception("a question of another worker could not be answered")
            outcome = Miss(COLLECTOR_SILENT)
        if isinstance(outcome, (Hit, Miss)):
            wire.send(*_reply(question.number, outcome, 0).to_pieces())
        else:
            self._tasks.spawn(self._wait(wire, question.number, outcome), name="worker-answer")

    async def _wait(self, wire: _Wire, number: int, outcome: Awaitable[Hit | Miss]) -> None:
        began = self._clock.mono()
        try:
            found: Hit | Miss = await outcome
        except Exception:
            logger.exception("a question of another worker could not be answered")
            found = Miss(COLLECTOR_SILENT)
        waited_ms = int((self._clock.mono() - began) * 1000)
        wire.send(*_reply(number, found, waited_ms).to_pieces())


def _reply(number: int, found: Hit | Miss, waited_ms: int) -> Reply:
    if isinstance(found, Miss):
        if isinstance(found, Wanting):
            found.leave()  # its answer comes down elsewhere
        return Reply(number, found.reason)
    body = found.body if found.packed is None else found.packed
    is_packed = found.packed is not None
    return Reply(number, "", body, is_packed, waited_ms, found.age_ms, found.cost, found.content_type)


class Asks:
    """A reader's end: one connection, made anew whenever it is lost."""

    def __init__(self, path: str, clock: Clock, tasks: Tasks) -> None:
        self._path = path
        self._clock = clock
        self._tasks = tasks
        self._wire: _Wire | None = None
        self._lost = asyncio.Event()
        self._heard_mono = float("-inf")
        self._number = 0
        self._open: dict[int, tuple[float, asyncio.Future[Hit | Miss]]] = {}
        self.hits = self.late = 0
        # Why calls went to the exchange, as far as the collector has not counted it.
        self.miss_reasons: Counter[str] = Counter()

    def count_miss(self, reason: str) -> None:
        self.miss_reasons[reason] += 1

    def start(self) -> None:
        self._tasks.spawn(self._stay_connected(), name="worker-asks")

    def stop(self) -> None:
        if self._wire is not None:
            self._wire.close()

    @property
    def is_up(self) -> bool:
        """Whether there is a collector that says so."""
        wire = self._wire
        return wire is not None and wire.is_open and self._clock.mono() - self._heard_mono < _SILENCE_S

    def ask(self, path: str, query: str, *, packed: bool, max_age_ms: int) -> Outcome:
        """Ask for a call on one of the cached paths, see `MarketCache.answer`."""
        wire = self._wire
        if wire is None or not self.is_up:
            self.count_miss(COLLECTOR_SILENT)
            return Miss(COLLECTOR_SILENT)
        self._number = number = self._number % 0xFFFFFFFF + 1
        future: asyncio.Future[Hit | Miss] = asyncio.get_running_loop().create_future()
        self._open[number] = (self._clock.mono(), future)
        wire.send(Question(number, path, query, packed, max_age_ms).to_bytes())
        return future

    def _answered(self, frame: memoryview) -> None:
        reply = read_reply(frame)
        self._heard_mono = self._clock.mono()
        asked = self._open.pop(reply.number, None)
        if asked is None or asked[1].done():
            return
        took_s = self._clock.mono() - asked[0] - min(reply.waited_ms, _WAITED_MS) / 1000
        found: Hit | Miss
        if reply.reason:
            found = Miss(reply.reason)
        elif took_s > _LONGEST_S:
            self.late += 1
            self.count_miss(COLLECTOR_SLOW)
            found = Miss(COLLECTOR_SLOW)
        else:
            self.hits += 1
            body, packed = (b"", reply.body) if reply.packed else (reply.body, None)
            age_ms = reply.age_ms + max(0, int(took_s * 1000))
            found = Hit(body, packed, age_ms, content_type=reply.content_type, cost=reply.cost)
        asked[1].set_result(found)

    def _let_go(self, reason: str) -> None:
        """What was asked and not answered is forwarded."""
        waiting, self._open = self._open, {}
        for _, future in waiting.values():
            if not future.done():
                self.count_miss(reason)
                future.set_result(Miss(reason))

    def _end(self, wire: object = None) -> None:
        self._wire = None
        self._lost.set()
        self._let_go(COLLECTOR_SILENT)

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            try:
                _, wire = await loop.create_unix_connection(
                    lambda: _Wire(self._answered, self._end), self._path
                )
            except OSError:
                await asyncio.sleep(_AGAIN_S)
                continue
            self._wire = wire
            while not self._lost.is_set():
                with suppress(asyncio.TimeoutError):
                    await within(self._lost.wait(), _BEAT_S)
                if self._open and not self.is_up:
                    self._let_go(COLLECTOR_SILENT)
