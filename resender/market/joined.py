"""Answers about many series at once: joined without copying their rows, kept while nothing changes.

A whole market is megabytes. It is made and written in pieces, so that other calls get their turn, and
compressed in a thread, one at a time. What it holds is for whoever puts the answer together to know;
an answer that is kept is believed only under its stamp. Owned by the cache.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from resender.aio import Tasks
from resender.core.market.row_store import Buffer

PIECE_BYTES = 128 << 10
# Of all answers kept, and of one of them. Rows are kept joined up to here, compressed ones beyond it.
_MAX_BYTES = 32 << 20
_MAX_RAW_BYTES = 4 << 20
_MAX_KEPT = 64
_LEVEL = 1


class Pieces:
    """A body in pieces, each joined when it is needed.

    Units: `size` bytes.
    """

    __slots__ = ("_parts", "size")

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self._parts = parts
        self.size = sum(map(len, parts))

    def __iter__(self) -> Iterator[bytes]:
        piece: list[Buffer] = []
        size = 0
        for part in self._parts:
            if len(part) > PIECE_BYTES:
                part = memoryview(part)
                for first in range(0, len(part), PIECE_BYTES):
                    yield b"".join((*piece, part[first : first + PIECE_BYTES]))
                    piece, size = [], 0
                continue
            piece.append(part)
            size += len(part)
            if size >= PIECE_BYTES:
                yield b"".join(piece)
                piece, size = [], 0
        if piece:
            yield b"".join(piece)

    def join(self) -> bytes:
        return b"".join(self._parts)


def _pack(pieces: Pieces) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    packed = [compressor.compress(piece) for piece in pieces]
    return b"".join((*packed, compressor.flush()))


class Joined:
    """One answer about many series.

    Shape: `stamp` tells how long it is true, `notes` is what else was said with it; `pieces` is None once
        a large one is kept compressed.
    """

    def __init__(self, parts: Sequence[Buffer], stamp: Any, notes: Any) -> None:
        pieces = Pieces(parts)
        self._is_light = pieces.size <= _MAX_RAW_BYTES
        # No rows of a series are held on to for longer than it takes to write them.
        self.pieces: Pieces | None = Pieces((pieces.join(),)) if self._is_light else pieces
        self.stamp = stamp
        self.notes = notes
        self._packing: asyncio.Task[bytes] | None = None
        self._packed_bytes = 0
        # Others may ask for it too.
        self.is_kept = False

    @property
    def size_bytes(self) -> int:
        return self._packed_bytes + (self.pieces.size if self.pieces is not None and self._is_light else 0)

    @property
    def is_light(self) -> bool:
        """Whether it may be kept as it is; large ones are kept compressed only."""
        return self._is_light

    async def packed(self, slot: asyncio.Semaphore, tasks: Tasks) -> bytes:
        """Return it compressed; whoever asks meanwhile shares the work."""
        if self._packing is None or (self._packing.done() and not self._packed_bytes):
            self._packing = tasks.spawn(self._pack(slot), name="answer-pack")
        return await asyncio.shield(self._packing)

    async def _pack(self, slot: asyncio.Semaphore) -> bytes:
        assert self.pieces is not None
        async with slot:
            packed = await asyncio.to_thread(_pack, self.pieces)
        self._packed_bytes = len(packed)
        if not self._is_light:
            self.pieces = None
        return packed


class JoinedAnswers:
    """The answers about many series that were asked for lately."""

    def __init__(self, tasks: Tasks, max_bytes: int = _MAX_BYTES) -> None:
        self._tasks = tasks
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Joined] = OrderedDict()
        self._slot = asyncio.Semaphore(1)
        self._making: dict[Hashable, asyncio.Lock] = {}

    def get(self, key: Hashable) -> Joined | None:
        """Return what was answered last; its stamp is the caller's to check."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    @asynccontextmanager
    async def making(self, key: Hashable) -> AsyncIterator[None]:
        """Make an answer while nobody else makes an equal one."""
        lock = self._making.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._making.pop(key, None)

    def keep(self, key: Hashable, joined: Joined) -> None:
        """Keep an answer in the place of the last one."""
        joined.is_kept = True
        self._kept[key] = joined
        self._kept.move_to_end(key)
        self._trim()

    async def pack_once(self, pieces: Pieces) -> bytes:
        """Compress what nobody else asks for; a caller that leaves takes its place in the line along."""
        async with self._slot:
            return await asyncio.to_thread(_pack, pieces)

    async def packed(self, joined: Joined) -> bytes:
        """Return an answer that is kept, compressed."""
        try:
            return await joined.packed(self._slot, self._tasks)
        finally:
            self._trim()

    def _trim(self) -> None:
        for key in [key for key, each in self._kept.items() if each.size_bytes > self._max_bytes]:
            del self._kept[key]  # one must not throw out all others
        size = sum(each.size_bytes for each in self._kept.values())
        while self._kept and (size > self._max_bytes or len(self._kept) > _MAX_KEPT):
            size -= self._kept.popitem(last=False)[1].size_bytes
