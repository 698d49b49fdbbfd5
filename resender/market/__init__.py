"""Market data in memory: what is kept, how fresh it is, and the answers made of it.

What is named here is all that other parts of the program use; the modules below are the package's own.
"""

from __future__ import annotations

from resender.market.bodies import worth_packing
from resender.market.cache import CACHED_MARKETS, CacheOptions, MarketCache
from resender.market.close_feed import CLOSE_INTERVALS, CloseFeeds, CloseOptions
from resender.market.joined import Joined, JoinedAnswers, Pieces
from resender.market.kinds import PATHS, BookTickers, Klines
from resender.market.kinds.base import Hit, Outcome, Wanting
from resender.market.kinds.closes import MAX_WAIT_MS, Closes, holds, wait_for_closes
from resender.market.series import Kept, KeptBook, KeptKlines

__all__ = [
    "CACHED_MARKETS",
    "CLOSE_INTERVALS",
    "MAX_WAIT_MS",
    "PATHS",
    "BookTickers",
    "CacheOptions",
    "CloseFeeds",
    "CloseOptions",
    "Closes",
    "Hit",
    "Joined",
    "JoinedAnswers",
    "Kept",
    "KeptBook",
    "KeptKlines",
    "Klines",
    "MarketCache",
    "Outcome",
    "Pieces",
    "Wanting",
    "holds",
    "wait_for_closes",
    "worth_packing",
]
