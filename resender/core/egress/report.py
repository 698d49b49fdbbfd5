"""The weight of every pool at every egress, put into rows for people and programs.

Pure: reads a `Governor`, changes nothing but the windows that have passed.
"""

from __future__ import annotations

import math
from typing import Any

from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.state import POOLS_OF


def weight_rows(governor: Governor, mono: float) -> list[dict[str, Any]]:
    """Describe every budget for people.

    Shape: [{"egress","pool","used","reserved","limit","window_s","closed_s","closed_status",
        "state": ok|closed|banned|set_aside,"problem": ""|"region"|"waf"|"unreachable","markets"}].
    Units: seconds.
    """
    low_ms = governor.clock.low_ms(mono)
    rows: list[dict[str, Any]] = []
    for egress in governor.egresses:
        markets = [market for market in Market if egress.spec.serves(market)]
        for pool in sorted(egress.budgets.keys() | egress.closed.keys()):
            if "#" in pool:  # of one account
                continue
            budget = egress.budgets.get(pool)
            spent = budget.spent(low_ms) if budget is not None else 0
            closure = egress.closure(pool, mono)
            of_pool = [market for market in markets if pool in POOLS_OF[market]]
            quarantine = [m for m in of_pool if egress.is_quarantined(m, mono) or m in egress.suspect]
            problem = next((egress.problems[m] for m in of_pool if m in egress.problems), "")
            state = "set_aside" if quarantine else "ok"
            if closure is not None:
                state = "banned" if closure.status == 418 else "closed"
            rows.append(
                {
                    "egress": egress.name,
                    "pool": pool,
                    "used": budget.used if budget is not None else 0,
                    "reserved": spent - budget.used if budget is not None else 0,
                    "limit": governor.limit(pool) if budget is None else budget.limit,
                    "window_s": governor.window_ms / 1000,
                    "closed_s": math.ceil(closure.until_mono - mono) if closure is not None else 0,
                    "closed_status": closure.status if closure is not None else 0,
                    "state": state,
                    "problem": problem or ("unreachable" if quarantine else ""),
                    "markets": [market.value for market in of_pool],
                }
            )
    return rows
