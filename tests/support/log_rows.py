"""Rows of the request log, made up and written into the database of a running gateway."""

from __future__ import annotations

from typing import Any

from resender.gateway import Gateway
from resender.store import LogRecord

T0 = 1_767_225_600_000


def record(number: int, **changes: Any) -> LogRecord:
    values: dict[str, Any] = {
        "time_ms": T0 + number,
        "ip": f"203.0.113.{number % 3}",
        "method": "GET",
        "market": ("spot", "um", "")[number % 3],
        "path": f"/api/v3/{'order' if number % 5 == 0 else 'klines'}",
        "status": 200 if number % 10 else 403,
        "upstream_status": 200 if number % 10 else None,
        "duration_ms": number / 8,
        "bytes": number,
        "error": None if number % 10 else "Forbidden",
    }
    return LogRecord(**(values | changes))


async def fill(gateway: Gateway, records: list[LogRecord]) -> None:
    for start in range(0, len(records), 5000):
        part = records[start : start + 5000]
        await gateway.store.run(lambda repository, part=part: repository.log_write(part))
