"""What waits in memory for the database: log records and counts of calls.

They decide what is kept and what is dropped, not when to write. `LogBuffer.add` and
`SeenCounts.note` run on the event loop, everything else on the database thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from resender.errors import StoreError
from resender.store.rows import LogRecord

BATCH_ROWS = 1000


class LogBuffer:
    """A bounded queue of records and the batch that is being written."""

    def __init__(self, size: int, tries: int) -> None:
        self._size = size
        self._max_tries = tries
        self._queue: deque[LogRecord] = deque()
        self._batch: list[LogRecord] = []
        self._tries = 0
        # Each counter is written by one thread only.
        self._overflowed = 0
        self._given_up = 0
        self.written = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._batch)

    @property
    def dropped(self) -> int:
        return self._overflowed + self._given_up

    def add(self, record: LogRecord) -> None:
        """Queue a record, or count it as dropped when the queue is full."""
        if len(self._queue) + len(self._batch) >= self._size:
            self._overflowed += 1
        else:
            self._queue.append(record)

    def flush(self, write: Callable[[Sequence[LogRecord]], int]) -> int:
        """Write one batch, and return how many records it had.

        Shape: `write` returns how many of them it took; those it refused count as dropped. A batch
            that failed is tried again by the next calls, up to the limit, then dropped.
        Raises: StoreError as `write` does.
        """
        if not self._batch:
            self._tries = 0
            self._batch = [self._queue.popleft() for _ in range(min(BATCH_ROWS, len(self._queue)))]
        count = len(self._batch)
        if not count:
            return 0
        try:
            taken = write(self._batch)
        except StoreError:
            self._tries += 1
            if self._tries >= self._max_tries:
                self._given_up += count
                self._batch = []
            raise
        self.written += taken
        self._given_up += count - taken
        self._batch = []
        return count

    def give_up(self) -> int:
        """Drop and count everything; return how many records that were."""
        count = len(self)
        self._queue.clear()
        self._batch = []
        self._given_up += count
        return count


class SeenCounts:
    """Calls and last use per whitelist entry since the last write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[int, tuple[int, int]] = {}

    def note(self, entry_id: int, now_ms: int) -> None:
        with self._lock:
            self._counts[entry_id] = (self._counts.get(entry_id, (0, 0))[0] + 1, now_ms)

    def take(self) -> dict[int, tuple[int, int]]:
        """Take the counts out."""
        with self._lock:
            taken, self._counts = self._counts, {}
            return taken

    def give_back(self, counts: dict[int, tuple[int, int]]) -> None:
        """Put counts that could not be written back."""
        with self._lock:
            for entry_id, (calls, last_ms) in counts.items():
                newer_calls, newer_ms = self._counts.get(entry_id, (0, 0))
                self._counts[entry_id] = (calls + newer_calls, max(last_ms, newer_ms))
