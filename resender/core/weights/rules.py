"""What one call is charged, and the rules that read it from a call's parameters.

Pure and without state: a rule is built once at import from a line of a weight table and is then
only called. It knows no endpoint; the tables are `spot.py` and its siblings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call costs, and what kind of call it is.

    Shape: `pool` is "spot", "futures" (USD-M and COIN-M), "options", "pm", "sapi:<path>" (metered
        by IP) or "sapi-uid:<path>" (by user); `extra` is a further counter and what it is charged,
        for endpoints with an allowance of their own; `is_order` tells calls that place, change or
        cancel orders; `is_public` unsigned market data with the same answer for everybody.
    """

    weight: int
    pool: str
    extra: tuple[str, int] | None = None
    is_order: bool = False
    is_public: bool = False


Make = Callable[[int], Charge]
Rungs = tuple[tuple[int, Charge], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A weight that depends on parameters.

    Shape: `read` takes a raw query (latin-1 text as received); `dearest` is the highest it gives.
    """

    read: Callable[[str], Charge]
    dearest: Charge


_PRESENCE = re.compile(r"([A-Za-z]+):([0-9]+)/([0-9]+)")
_LADDER = re.compile(r"limit=([0-9]+):((?:[0-9]+=[0-9]+,)+)([0-9]+)")
_EACH = re.compile(r"each:([0-9]+)/([0-9]+)")
_EFFECT = "sideEffectType"
_NO_BORROWING = re.compile(rf"(?:^|&){_EFFECT}=(?:NO_SIDE_EFFECT|AUTO_REPAY)(?:&|$)")


def build(text: str, make: Make) -> Charge | Rule:
    """Turn the weight column of a table into a fixed charge or a rule.

    Shape: `7` always 7; `symbol:1/40` 1 with that parameter in the query, 40 without;
        `limit=500:99=1,499=2,1000=5,10` by the limit: 1 up to 99, 10 above 1000, that of 500 where
        none is sent; `each:4/200` 4 for each symbol asked for, at most 200; `count:20=2,100=40,80`
        by the number of symbols, 80 for all; `borrow:1500/6` 1500 for a margin order that borrows.
    Raises: ValueError for anything else.
    """
    if text.isdecimal():
        return make(int(text))
    if text.startswith("count:"):
        *steps, top = text[6:].split(",")
        return _by_count(_rungs(steps, make), make(int(top)))
    if found := _EACH.fullmatch(text):
        return _for_each(make, int(found[1]), int(found[2]))
    if found := _PRESENCE.fullmatch(text):
        if found[1] == "borrow":
            return _by_borrowing(make(int(found[2])), make(int(found[3])))
        return _by_presence(found[1], make(int(found[2])), make(int(found[3])))
    if found := _LADDER.fullmatch(text):
        return _by_limit(int(found[1]), _rungs(found[2].rstrip(",").split(","), make), make(int(found[3])))
    raise ValueError(f"no weight rule: {text!r}")


def _rungs(steps: list[str], make: Make) -> Rungs:
    pairs = [step.split("=") for step in steps]
    return tuple((int(bound), make(int(weight))) for bound, weight in pairs)


def _rung(rungs: Rungs, value: int, top: Charge) -> Charge:
    for bound, charge in rungs:
        if value <= bound:
            return charge
    return top


def has_hidden_name(query: str) -> bool:
    """Tell whether the name of a parameter is percent-encoded, which hides it from the rules."""
    at = query.find("%")
    while at >= 0:
        if query.find("=", query.rfind("&", 0, at) + 1, at) < 0:
            return True
        # It stands in a value, as in every base64 signature: on to the next parameter.
        end = query.find("&", at)
        at = query.find("%", end) if end >= 0 else -1
    return False


def has_parameter(query: str, name: str) -> bool:
    """Tell whether a parameter was sent exactly once and with a value."""
    start = f"&{name}="
    text = f"&{query}&"
    at = text.find(start)
    return (
        at >= 0
        and text[at + len(start)] != "&"
        and text.find(start, at + 1) < 0
        and f"&{name}&" not in text
        and not has_hidden_name(query)
    )


def _by_presence(name: str, with_it: Charge, without: Charge) -> Rule:
    dearest = with_it if with_it.weight > without.weight else without

    def read(query: str) -> Charge:
        if has_parameter(query, name):
            return with_it
        # Sent empty, twice, or hidden: the dearer of the two.
        return dearest if name in query or has_hidden_name(query) else without

    return Rule(read, dearest)


def _by_limit(default: int, rungs: Rungs, top: Charge) -> Rule:
    usual = _rung(rungs, default, top)

    def read(query: str) -> Charge:
        if has_hidden_name(query):
            return top
        count = query.count("limit")
        if not count:
            return usual
        if query.startswith("limit="):
            at = 6
        else:
            at = query.find("&limit=") + 7
            if at == 6:
                return usual
        end = query.find("&", at)
        text = query[at:] if end < 0 else query[at:end]
        # Zero, a repeated or an unreadable limit: whatever Binance makes of it is not dearer.
        if count > 1 or not text.isdecimal() or len(text) > 8:
            return top
        limit = int(text)
        return _rung(rungs, limit, top) if limit else top

    return Rule(read, top)


def count_symbols(query: str) -> int:
    """Count the names of a `symbols=["A","B"]` query by their quotes.

    Shape: 0 if there is no such parameter, -1 if it is not understood.
    """
    if has_hidden_name(query):
        return -1
    sent = query.count("symbols")
    if not sent:
        return 0
    if sent > 1:
        return -1
    return (query.count('"') + query.count("%22")) // 2 or -1


def _by_count(rungs: Rungs, all_of_them: Charge) -> Rule:
    def read(query: str) -> Charge:
        count = count_symbols(query)
        if count < 0:
            return all_of_them
        if not count:
            return rungs[0][1] if has_parameter(query, "symbol") else all_of_them
        return _rung(rungs, count, all_of_them)

    return Rule(read, all_of_them)


def _for_each(make: Make, weight: int, most: int) -> Rule:
    charges = [make(weight * count) for count in range(most // weight)]
    dearest = make(most)

    def read(query: str) -> Charge:
        count = count_symbols(query)
        if not count and has_parameter(query, "symbol"):
            count = 1
        return charges[count] if 0 < count < len(charges) else dearest

    return Rule(read, dearest)


def _by_borrowing(borrowing: Charge, plain: Charge) -> Rule:
    def read(query: str) -> Charge:
        if has_hidden_name(query):
            return borrowing
        count = query.count(_EFFECT)
        return plain if not count or (count == 1 and _NO_BORROWING.search(query)) else borrowing

    return Rule(read, borrowing)
