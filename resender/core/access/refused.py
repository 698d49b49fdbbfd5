"""The addresses that were refused lately, for the list from which an owner may allow them.

Pure and bounded: strangers decide what comes in here. It is fed where a call is refused and
belongs to the gateway.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_ADDRESSES = 200
_MAX_ADDRESS = 64
_MAX_PATH = 200


@dataclass(slots=True)
class Refused:
    """One address that may not call.

    Shape: `path` of its latest call, without the query.
    Units: `_ms` epoch milliseconds.
    """

    address: str
    count: int
    first_ms: int
    last_ms: int
    path: str


class RecentRefused:
    """The addresses refused last, at most `MAX_ADDRESSES`."""

    def __init__(self, size: int = MAX_ADDRESSES) -> None:
        self._size = size
        self._rows: OrderedDict[str, Refused] = OrderedDict()
        # Calls refused since the start, also those of addresses that have fallen out.
        self.total = 0

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, address: str, path: str, now_ms: int) -> None:
        """Count a refused call; it takes the same time whatever has been seen before."""
        self.total += 1
        if not address or len(address) > _MAX_ADDRESS:
            return
        path = path[:_MAX_PATH].partition("?")[0]
        row = self._rows.get(address)
        if row is None:
            if len(self._rows) >= self._size:
                self._rows.popitem(last=False)
            self._rows[address] = Refused(address, 1, now_ms, now_ms, path)
            return
        row.count += 1
        row.last_ms = now_ms
        row.path = path
        self._rows.move_to_end(address)

    def items(self) -> list[Refused]:
        """List the addresses, the latest first."""
        return list(reversed(self._rows.values()))

    def forget(self, address: str) -> bool:
        """Take one address off the list; tell whether it was there."""
        return self._rows.pop(address, None) is not None

    def clear(self) -> None:
        self._rows.clear()
