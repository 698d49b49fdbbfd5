"""Print what one open order of a watched account takes in memory, in bytes: `accounts_memory.py ACCOUNTS ORDERS`.

Orders are told by events, as a stream tells them, or read from REST; each list is answered once, so the rows that
are kept for answers are counted too. Memory is what Python allocated (tracemalloc), not that of the process.
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.core.account.dialects import SPOT, read_event
from resender.core.account.lore import Lore
from resender.core.account.orders import Orders, read_rows

PATH = "/api/v3/openOrders"
NOW_MS = 1_795_000_000_000


def event(number: int) -> dict[str, Any]:
    text = {
        "e": "executionReport", "E": NOW_MS, "s": "BTCUSDT", "c": f"client-order-{number:08}", "S": "BUY",
        "o": "LIMIT", "f": "GTC", "q": "0.01000000", "p": f"{50000 + number / 100:.8f}", "P": "0.00000000",
        "F": "0.00000000", "g": -1, "C": "", "x": "NEW", "X": "NEW", "r": "NONE", "i": 10**9 + number,
        "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None, "T": NOW_MS + number,
        "t": -1, "I": number, "w": True, "m": False, "M": False, "O": NOW_MS + number, "Z": "0.00000000",
        "Y": "0.00000000", "Q": "0.00000000", "V": "EXPIRE_MAKER", "W": NOW_MS + number,
    }  # fmt: skip
    # As it comes: every text an object of its own.
    found: dict[str, Any] = json.loads(json.dumps(text))
    return found


def made(accounts: int, orders: int, *, from_rest: bool) -> list[Orders]:
    lore, every = Lore(SPOT), []
    for account in range(accounts):
        one = Orders(SPOT, lore, keep_ms=86_400_000)
        one.merge(PATH, [], None, NOW_MS)
        for number in range(orders):
            one.apply(read_event(SPOT, event(account * orders + number), NOW_MS))
        body = one.listed(PATH)
        assert body is not None
        if from_rest:
            one = Orders(SPOT, lore, keep_ms=86_400_000)
            one.merge(PATH, read_rows(body), None, NOW_MS + 10**6)
            assert one.listed(PATH) == body
        every.append(one)
    return every


def measure(accounts: int, orders: int, *, from_rest: bool) -> float:
    made(1, orders, from_rest=from_rest)
    gc.collect()
    tracemalloc.start()
    kept = made(accounts, orders, from_rest=from_rest)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / sum(len(one.open) for one in kept)


if __name__ == "__main__":
    counts = int(sys.argv[1]), int(sys.argv[2])
    print(json.dumps({"events": measure(*counts, from_rest=False), "rest": measure(*counts, from_rest=True)}))
