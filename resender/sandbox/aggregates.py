"""How the trades of a minute are taken together: which trade belongs to which aggregate.

Pure arithmetic on counts within a minute. Of every eight aggregates one holds two trades and
one holds three, always at the same places, so that both numbers follow from either.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

_SIZES = (1, 1, 2, 1, 1, 3, 1, 1)
_ENDS = [0, *accumulate(_SIZES)]
_GROUP, _TRADES = len(_SIZES), _ENDS[-1]


def trades_of(aggregates: int) -> int:
    """Return how many trades the first `aggregates` of a minute hold."""
    whole, rest = divmod(aggregates, _GROUP)
    return whole * _TRADES + _ENDS[rest]


def aggregate_of(nth_trade: int) -> int:
    """Return which aggregate of a minute holds its nth trade; both count from 1."""
    whole, rest = divmod(nth_trade - 1, _TRADES)
    return whole * _GROUP + bisect_left(_ENDS, rest + 1)


def aggregates_after(aggregates: int, quarters: int, of: int) -> int:
    """Return how many of a minute's aggregates happened in its first `quarters` of `of` parts.

    The first falls into the first part and the last into the last.
    """
    return 1 + (aggregates - 1) * quarters // of if aggregates and quarters else 0
