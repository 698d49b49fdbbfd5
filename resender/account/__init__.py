"""Accounts that are watched: orders and balances in memory, exact or not answered.

What is named here is all that other parts of the program use; the modules below are the package's own.
"""

from __future__ import annotations

from resender.account.accounts import Accounts, SeenKey
from resender.account.key_check import KeyRefused, check_key
from resender.account.passing import Passing
from resender.account.ports import AccountOptions
from resender.account.state import LIVE
from resender.account.watched import Answer, Lacking, WatchedAccount

__all__ = [
    "LIVE",
    "AccountOptions",
    "Accounts",
    "Answer",
    "KeyRefused",
    "Lacking",
    "Passing",
    "SeenKey",
    "WatchedAccount",
    "check_key",
]
