"""The states of accounts as several nodes write them into one place for the command line.

Pure. Shape of the text: {"at_ms", "accounts": {"<number>": {"state","why","orders","since_ms","at_ms"}}}.
"""

from __future__ import annotations

from typing import Any

import orjson

# What no node has told of for so long is not told any more.
_GONE_MS = 90_000


def told_states(text: str | None, now_ms: int) -> dict[int, dict[str, Any]]:
    """Read what was told of each account lately, by its number; what was not is not in it."""
    try:
        rows = orjson.loads(text or "{}")["accounts"]
        return {
            int(number): row
            for number, row in rows.items()
            if isinstance(row.get("state"), str) and row["at_ms"] > now_ms - _GONE_MS
        }
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}


def merge_states(before: str | None, told: str) -> str:
    """Return what stands there after a node has told of its accounts; those of other nodes stay a while."""
    found: dict[str, Any] = orjson.loads(told)
    at_ms = found["at_ms"]
    mine = {number: {**row, "at_ms": at_ms} for number, row in found["accounts"].items()}
    try:
        others = orjson.loads(before or "{}").get("accounts", {})
        kept = {number: row for number, row in others.items() if row.get("at_ms", 0) > at_ms - _GONE_MS}
    except (ValueError, AttributeError, TypeError):
        kept = {}
    return orjson.dumps({"at_ms": at_ms, "accounts": {**kept, **mine}}).decode()
