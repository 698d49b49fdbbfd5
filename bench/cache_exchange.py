"""Run the simulated exchange as a process that a benchmark starts, questions and ends.

`cache_exchange.py CA_FILE '{"um_symbols": 400}'` takes fields of SandboxConfig as JSON, writes the
authority its clients have to trust into the file, prints its addresses as one line of JSON, then
answers each line on standard input with its counters as one line. The end of standard input ends
it, so it never outlives a benchmark that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.core.binance.markets import Market
from resender.core.market.costs import DEFAULT_LIMITS
from resender.sandbox.authority import throwaway_authority
from resender.sandbox.config import Gap, SandboxConfig
from resender.sandbox.sandbox import Sandbox

STREAM_MARKETS = (Market.SPOT, Market.UM, Market.CM)


def counters(sandbox: Sandbox, peak: dict[str, int]) -> dict[str, Any]:
    """Return what the exchange has done so far.

    Shape: `calls` counts REST calls by path and `limit`; `peak_weight` is the most that any window
        of a pool had used when somebody asked.
    """
    calls: Counter[str] = Counter()
    for call in sandbox.calls:
        limit = next((pair[6:] for pair in call.query.split("&") if pair.startswith("limit=")), "")
        calls[f"{call.path}{f' limit={limit}' if limit else ''}"] += 1
    frames = {market.value: sandbox._hubs[market].frames_sent for market in STREAM_MARKETS}
    used = {pool: sandbox.weight("127.0.0.1", pool) for pool in DEFAULT_LIMITS}
    for pool, weight in used.items():
        peak[pool] = max(peak.get(pool, 0), weight)
    return {
        "frames": frames,
        "calls": dict(calls),
        "used_weight": used,
        "peak_weight": dict(peak),
        "violations": len(sandbox.violations),
    }


async def main(ca_file: str, options: dict[str, Any]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    options["gaps"] = [Gap(*each) for each in options.get("gaps", ())]
    async with Sandbox(SandboxConfig(**options)) as sandbox:
        throwaway_authority().write_ca(ca_file)
        print(json.dumps(sandbox.urls), flush=True)
        peak: dict[str, int] = {}
        while await reader.readline():
            print(json.dumps(counters(sandbox, peak)), flush=True)


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
