"""Equal calls under way are one call; a finished answer may serve equal calls for a moment.

It does not decide which calls may be joined (`core/sharing.py` does) and sends nothing itself.
`SharedAnswers` owns the answers that several clients read and the short memory, on the event loop only.

Whoever needs the next piece of a body reads it for all: a slow client holds up nobody, and one
that leaves does not take the answer away from the others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from resender.core.binance.headers import Pairs
from resender.errors import AnswerError

Key = tuple[object, ...]
RawHeaders = tuple[tuple[bytes, bytes], ...]
# A larger body is not kept for those who come late, unless it is to be remembered.
_KEEP_BYTES = 1 << 20
_CHECK_AT_ONCE_BYTES = 64 << 10
_MAX_REMEMBERED_BYTES = 24 << 20
_MEMORY_BYTES = 64 << 20


class Answer(Protocol):
    """What a shared call needs of `RestResponse`."""

    status: int
    reason: str
    headers: RawHeaders
    egress: str
    told: Pairs

    async def next_chunk(self) -> bytes: ...
    def at_end(self) -> bool: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Remembered:
    status: int
    reason: str
    headers: RawHeaders
    egress: str
    body: bytes
    made_mono: float
    memory_s: float


class _SharedCall:
    """One upstream answer and what has been read of it."""

    __slots__ = (
        "answer", "base", "chunks", "error", "is_done", "is_driven", "is_left", "key", "memory_s",
        "owner", "readers", "sender", "sent_mono", "size", "waiters",
    )  # fmt: skip

    def __init__(self, owner: SharedAnswers, key: Key, memory_s: float) -> None:
        self.owner = owner
        self.key = key
        self.memory_s = memory_s
        self.sent_mono = owner._mono() if memory_s else 0.0
        self.answer: Answer | None = None
        self.error: AnswerError | None = None
        self.chunks: list[bytes] = []
        # Pieces before this one have been let go.
        self.base = 0
        self.size = 0
        self.readers = 0
        self.is_done = False
        self.is_driven = False
        # Who sends the call, and whether it does so for the others only.
        self.sender: asyncio.Task[object] | None = None
        self.is_left = False
        self.waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await waiter

    async def drive(self) -> None:
        """Read the next piece for everybody."""
        answer = self.answer
        assert answer is not None
        self.is_driven = True
        try:
            chunk = await answer.next_chunk()
            if chunk:
                self.chunks.append(chunk)
                self.size += len(chunk)
            if not chunk or answer.at_end():
                self.end()
        except AnswerError as error:
            self.error = error
            self.end()
        finally:
            self.is_driven = False
            if self.waiters:
                self.wake()

    def end(self) -> None:
        """Nothing more comes."""
        self.is_done = True
        self.owner.landed(self)

    def leave(self) -> None:
        self.readers -= 1
        if self.is_left and self.readers == 1 and self.answer is None and self.sender is not None:
            self.sender.cancel()
        if self.readers == 0:
            self.owner.forget(self)
            if self.answer is not None:
                self.answer.close()


class SharedAnswer:
    """One client's view of an answer that others may be reading too.

    Shape: the face of `RestResponse`; `kind` is "" for the call that was sent, "joined" or
        "shared"; `age_ms` is the age of a remembered answer.
    """

    __slots__ = (
        "_call", "_is_open", "_next", "age_ms", "egress", "headers", "kind", "reason", "status", "told",
    )  # fmt: skip

    def __init__(self, call: _SharedCall, answer: Answer, kind: str, age_ms: int = 0) -> None:
        self._call = call
        self._next = 0
        self._is_open = True
        self.kind = kind
        self.age_ms = age_ms
        self.status = answer.status
        self.reason = answer.reason
        self.headers = answer.headers
        self.egress = answer.egress
        # What was told when a remembered answer was made is long past.
        self.told: Pairs = [] if kind == "shared" else answer.told

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body, b"" at its proper end.

        Raises: UpstreamLost or UpstreamTimeout when the body breaks off.
        """
        call = self._call
        while True:
            index = self._next - call.base
            if index < len(call.chunks):
                self._next += 1
                chunk = call.chunks[index]
                keep_bytes = _MAX_REMEMBERED_BYTES if call.memory_s else _KEEP_BYTES
                if call.size > keep_bytes and call.readers == 1:
                    # Nobody may join any more: what was handed over is let go.
                    call.owner.forget(call)
                    call.base = self._next
                    del call.chunks[: index + 1]
                return chunk
            if call.error is not None:
                raise call.error
            if call.is_done:
                return b""
            if call.is_driven:
                await call.wait()
            else:
                await call.drive()

    def at_end(self) -> bool:
        call = self._call
        return call.is_done and call.error is None and self._next - call.base >= len(call.chunks)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._call.leave()


class _Whole:
    """A remembered answer with the face of one that is being read."""

    __slots__ = ("_is_read", "egress", "headers", "kept", "reason", "status", "told")

    def __init__(self, kept: _Remembered) -> None:
        self.kept = kept
        self.status, self.reason = kept.status, kept.reason
        self.headers, self.egress = kept.headers, kept.egress
        self.told: Pairs = []
        self._is_read = False

    async def next_chunk(self) -> bytes:
        if self._is_read:
            return b""
        self._is_read = True
        return self.kept.body

    def at_end(self) -> bool:
        return self._is_read

    def close(self) -> None:
        pass


class SharedAnswers:
    """Answers under way by key, and those remembered.

    Shape: `is_whole(key, headers, body)` tells whether an answer may be remembered; for a large one
        it is called in a thread. None lets every answer be remembered.
    """

    def __init__(
        self,
        mono: Callable[[], float],
        is_whole: Callable[[Key, RawHeaders, bytes], bool] | None = None,
    ) -> None:
        self._mono = mono
        self._is_whole = is_whole
        self._checking: set[asyncio.Future[bool]] = set()
        self._shared: dict[Key, _SharedCall] = {}
        self._memory: OrderedDict[Key, _Remembered] = OrderedDict()
        self._memory_bytes = 0
        self.joined = 0
        self.shared = 0
        # Answers with 200 that were no whole JSON and were not remembered.
        self.unfit = 0

    async def get(
        self,
        key: Key,
        send: Callable[[], Awaitable[Answer]],
        *,
        memory_s: float = 0.0,
        use_memory: bool = True,
    ) -> SharedAnswer:
        """Return an answer to a call: a remembered one, one under way, or a new one.

        Shape: `memory_s` how long the answer may serve others; with `use_memory` False a new
            answer is wanted, or one that is just coming.
        Raises: what `send` raises, also when another call's `send` did.
        """
        if memory_s > 0 and use_memory and (kept := self._recall(key, memory_s)) is not None:
            self.shared += 1
            call = _SharedCall(self, key, 0.0)
            whole = _Whole(kept)
            call.answer = whole
            call.readers = 1
            return SharedAnswer(call, whole, "shared", max(0, int((self._mono() - kept.made_mono) * 1000)))
        while (known := self._shared.get(key)) is not None:
            known.readers += 1
            try:
                while known.answer is None and known.error is None and not known.is_done:
                    await known.wait()
            except BaseException:
                known.leave()
                raise
            if known.error is not None and known.answer is None:
                known.readers -= 1
                self.joined += 1
                raise known.error.with_traceback(None)  # one error, many clients
            if known.answer is not None:
                self.joined += 1
                return SharedAnswer(known, known.answer, "joined")
            known.readers -= 1  # whoever had sent it went away: begin anew
        call = _SharedCall(self, key, memory_s)
        call.readers = 1
        call.sender = asyncio.current_task()
        self._shared[key] = call
        try:
            answer = await send()
        except AnswerError as error:
            call.error = error
            raise
        except BaseException:
            call.is_done = True
            raise
        finally:
            if call.answer is None and (call.error is not None or call.is_done):
                self.forget(call)
                call.wake()
        call.answer = answer
        if call.waiters:
            call.wake()
        return SharedAnswer(call, answer, "")

    def stays_for_others(self, key: Key | None, task: asyncio.Task[object]) -> bool:
        """Tell whether a task whose client left has to go on, as others wait for what it sent.

        Once the answer has begun any reader can read on; when the others leave, too, it is cancelled.
        """
        call = self._shared.get(key) if key is not None else None
        if call is None or call.sender is not task or call.answer is not None or call.readers < 2:
            return False
        call.is_left = True
        return True

    def forget(self, call: _SharedCall) -> None:
        """Nobody may join this one any more."""
        if self._shared.get(call.key) is call:
            del self._shared[call.key]

    # --- memory ----------------------------------------------------------------------------

    def landed(self, call: _SharedCall) -> None:
        """An answer is complete or broken: perhaps remember it."""
        self.forget(call)
        answer = call.answer
        if (
            not call.memory_s
            or call.error is not None
            or answer is None
            or answer.status != 200
            or call.base
            or call.size > _MAX_REMEMBERED_BYTES
        ):
            return
        body = b"".join(call.chunks)
        if self._is_whole is None:
            self._remember(call, answer, body, True)
            return
        if len(body) <= _CHECK_AT_ONCE_BYTES:
            try:
                is_whole = self._is_whole(call.key, answer.headers, body)
            except Exception:
                is_whole = False
            self._remember(call, answer, body, is_whole)
            return
        # Unpacking megabytes would hold up everybody.
        checking = asyncio.get_running_loop().run_in_executor(
            None, self._is_whole, call.key, answer.headers, body
        )
        self._checking.add(checking)

        def done(found: asyncio.Future[bool]) -> None:
            self._checking.discard(found)
            if not found.cancelled() and found.exception() is None:
                self._remember(call, answer, body, found.result())

        checking.add_done_callback(done)

    def _remember(self, call: _SharedCall, answer: Answer, body: bytes, is_whole: bool) -> None:
        if not is_whole:
            self.unfit += 1
            return
        known = self._memory.get(call.key)
        if known is not None and known.made_mono > call.sent_mono:
            return  # a newer one was checked sooner
        self._drop(call.key)
        self._sweep()
        self._memory[call.key] = _Remembered(
            answer.status,
            answer.reason,
            answer.headers,
            answer.egress,
            body,
            call.sent_mono,
            call.memory_s,
        )
        self._memory_bytes += len(body)
        while self._memory_bytes > _MEMORY_BYTES:
            self._drop(next(iter(self._memory)))

    def _recall(self, key: Key, memory_s: float) -> _Remembered | None:
        kept = self._memory.get(key)
        if kept is None:
            return None
        age_s = self._mono() - kept.made_mono
        if age_s >= memory_s:
            if age_s >= kept.memory_s:
                self._drop(key)  # others may take an older one
            return None
        return kept

    def _drop(self, key: Key) -> None:
        kept = self._memory.pop(key, None)
        if kept is not None:
            self._memory_bytes -= len(kept.body)

    def _sweep(self) -> None:
        """Let go what is too old for anybody."""
        now = self._mono()
        for key in [key for key, kept in self._memory.items() if now - kept.made_mono >= kept.memory_s]:
            self._drop(key)
