"""How long a page of the request log takes, by filter, with a million rows.

    .venv/bin/python bench/log_pages.py
    .venv/bin/python bench/log_pages.py --url postgresql://user@host/empty_database

The database must be new or made by this script: it is filled first. Figures: README-log.md.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from resender.store import LogFilters, LogRecord, Repository, open_repository

START_MS = 1_700_000_000_000
STEP_MS = 50
PATHS = (
    "/api/v3/klines",
    "/fapi/v1/klines",
    "/api/v3/order",
    "/api/v3/account",
    "/fapi/v1/order",
    "/dapi/v1/ticker/bookTicker",
)


def fill(repository: Repository, count: int) -> None:
    """Write rows of 40 addresses, 43 % of them from one; 3 % are errors, a single old one is a 418."""
    rng = random.Random(1)
    addresses = [f"10.0.0.{number}" for number in range(40)]
    shares = [30] + [1] * 39
    batch = []
    for number in range(count):
        status = 200 if rng.random() < 0.97 else rng.choice([400, 400, 403, 404, 429, 502, 504])
        if number == count // 1000:
            status = 418
        batch.append(
            LogRecord(
                time_ms=START_MS + number * STEP_MS + rng.randrange(2000),
                ip=rng.choices(addresses, shares)[0],
                method="GET",
                market=rng.choice(["spot", "spot", "um", "cm"]),
                path=rng.choice(PATHS),
                status=status,
                upstream_status=status,
                duration_ms=rng.random() * 100,
                bytes=1000,
                error="The upstream cannot be reached" if status >= 500 else None,
            )
        )
        if len(batch) == 1000:
            repository.log_write(batch)
            batch = []
    repository.log_write(batch)


def cases(count: int) -> dict[str, LogFilters]:
    middle = START_MS + count * STEP_MS // 2
    rare, common = "10.0.0.7", "10.0.0.0"
    return {
        "no filter": LogFilters(),
        "address, 1.4 % of the rows": LogFilters(ip=rare),
        "address, 43 %": LogFilters(ip=common),
        "address that never called": LogFilters(ip="192.0.2.1"),
        "market": LogFilters(market="um"),
        "status 200": LogFilters(status_min=200, status_max=200),
        "status 418, one old row": LogFilters(status_min=418, status_max=418),
        "status 4xx": LogFilters(status_min=400, status_max=499),
        "status 5xx": LogFilters(status_min=500, status_max=599),
        "status 2xx": LogFilters(status_min=200, status_max=299),
        "errors only": LogFilters(errors_only=True),
        "one hour": LogFilters(from_ms=middle - 3_600_000, to_ms=middle),
        "address and market": LogFilters(ip=rare, market="cm"),
        "address, market, errors only": LogFilters(ip=rare, market="cm", errors_only=True),
        "address and status 418": LogFilters(ip=common, status_min=418, status_max=418),
        "path, often": LogFilters(path="order"),
        "path, never": LogFilters(path="nowhere"),
        "text, never": LogFilters(text="nowhere"),
        "text, never, and address": LogFilters(text="nowhere", ip=rare),
    }


def measure(
    repository: Repository, filters: LogFilters, before: str | None, rounds: int
) -> tuple[float, int]:
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        page = repository.log_page(filters, before, 100)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times), len(page.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="database; without it a SQLite file that is removed again")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open_repository(arguments.url or f"sqlite:///{folder}/log.db") as repository:
            begin = time.perf_counter()
            if repository.log_count() == 0:
                fill(repository, arguments.rows)
                print(f"{arguments.rows:,} rows written in {time.perf_counter() - begin:.1f} s\n")
            count = repository.log_count()
            middle = f"{START_MS + count * STEP_MS // 2}-{count // 2}"
            print("| filter | newest page, ms | page in the middle, ms | rows |")
            print("|---|---:|---:|---:|")
            for name, filters in cases(count).items():
                newest, rows = measure(repository, filters, None, arguments.rounds)
                deep, _ = measure(repository, filters, middle, arguments.rounds)
                print(f"| {name} | {newest:.1f} | {deep:.1f} | {rows} |", flush=True)


if __name__ == "__main__":
    main()
