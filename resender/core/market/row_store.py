"""The closed rows of one series as bytes: as REST sends them, one after the other.

Pure and dumb: it neither parses nor checks. Most rows lie in one exactly sized block, the
newest few in a small buffer behind it, so that appending does not make the block grow by an
eighth in reserve. Owned by one `KlineSeries`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_FOLD_ROWS = 32
Buffer = bytes | memoryview  # a part of a body, perhaps without a copy


@dataclass(slots=True)
class Changes:
    """How often the closed rows of some series have changed: what was made of them before is void."""

    count: int = 0


class RowStore:
    """Rows in ascending order, each followed by a comma.

    Shape: `changes` counts what is done to them, perhaps together with other stores.
    Units: open times are epoch milliseconds.
    """

    __slots__ = ("_ends", "_new", "_new_rows", "_old", "changes", "layout", "opens", "row_base")

    def __init__(self, changes: Changes | None = None) -> None:
        self.changes = changes or Changes()
        self._old = b""
        self._new = bytearray()
        self._new_rows = 0
        self.opens = array("q")
        # Offsets of the rows' ends, counted from the first byte held.
        self._ends = array("I")
        # Number of the first row held, counted over the life of the store; `layout` grows when
        # numbers come to mean other rows.
        self.row_base = 0
        self.layout = 0

    def __len__(self) -> int:
        return len(self.opens)

    @property
    def size_bytes(self) -> int:
        return len(self._old) + len(self._new) + 12 * len(self.opens)

    def append(self, open_time: int, row: bytes) -> bool:
        """Append a row; return whether it is time to `fold`."""
        self.changes.count += 1
        self._new += row
        self._new += b","
        self._new_rows += 1
        self._ends.append(len(self._old) + len(self._new))
        self.opens.append(open_time)
        return self._new_rows >= _FOLD_ROWS

    def fold(self, depth: int) -> int:
        """Join the newest rows to the block and drop the oldest beyond `depth`; return how many went."""
        self.changes.count += 1
        excess = max(0, len(self.opens) - depth)
        cut = self._ends[excess - 1] if excess else 0
        kept = self._old[cut:] if cut <= len(self._old) else b""
        self._old = kept + bytes(self._new[max(0, cut - len(self._old)) :])
        self._new = bytearray()
        self._new_rows = 0
        self.opens = self.opens[excess:]
        self._ends = array("I", [end - cut for end in self._ends[excess:]]) if excess else self._ends[:]
        self.row_base += excess
        return excess

    def prepend(self, open_times: Sequence[int], rows: Sequence[bytes]) -> None:
        """Put rows before the first one."""
        self.changes.count += 1
        joined = b"".join(row + b"," for row in rows)
        ends, position = array("I"), 0
        for row in rows:
            position += len(row) + 1
            ends.append(position)
        self._old = joined + self._old
        self._ends = ends + array("I", [position + end for end in self._ends])
        self.opens = array("q", open_times) + self.opens
        self.row_base -= len(rows)
        self.layout += 1

    def restore(self, rows: bytes, open_times: Sequence[int]) -> None:
        """Replace everything by rows joined by commas."""
        self.changes.count += 1
        self._old = rows + b","
        self._new = bytearray()
        self._new_rows = 0
        self.opens = array("q", open_times)
        self._ends = array("I")
        position = 0
        for _ in open_times:
            position = self._old.index(b"],", position) + 2
            self._ends.append(position)
        self.layout += 1

    def replace(self, index: int, row: bytes) -> None:
        """Put another row in the place of one; its open time stays."""
        self.changes.count += 1
        start = self._ends[index - 1] if index else 0
        end = self._ends[index]
        grown = len(row) + 1 - (end - start)
        block = len(self._old)
        data = row + b","
        if start >= block:
            self._new[start - block : end - block] = data
        else:
            self._old = self._old[:start] + data + self._old[end:]
        if grown:
            for later in range(index, len(self._ends)):
                self._ends[later] += grown
        self.layout += 1

    def size(self, first: int, last: int) -> int:
        """Return the bytes of rows by index, commas included."""
        if first >= last:
            return 0
        return self._ends[last - 1] - (self._ends[first - 1] if first else 0)

    def part(self, first: int, last: int) -> bytes:
        """Return rows by index, each followed by a comma."""
        if first >= last:
            return b""
        start = self._ends[first - 1] if first else 0
        end, block = self._ends[last - 1], len(self._old)
        if end <= block:
            return self._old[start:end]
        if start >= block:
            return bytes(self._new[start - block : end - block])
        return self._old[start:] + self._new[: end - block]

    def views(self, first: int, last: int) -> list[Buffer]:
        """Return what `part` would, in pieces and mostly without a copy; they stay as they are."""
        if first >= last:
            return []
        start = self._ends[first - 1] if first else 0
        end, block = self._ends[last - 1], len(self._old)
        if end <= block:
            return [memoryview(self._old)[start:end]]
        if start >= block:
            return [bytes(self._new[start - block : end - block])]
        return [memoryview(self._old)[start:], bytes(self._new[: end - block])]

    def __iter__(self) -> Iterator[bytes]:
        for index in range(len(self.opens)):
            yield self.part(index, index + 1)[:-1]
