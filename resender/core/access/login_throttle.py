"""How long a log-in has to wait after failed ones.

Guessing gets slower with every failure, for an address and for an account, and nobody can lock
the owner out: the longest wait is a minute, it counts from one's own last try and never from a try
of somebody else, and whoever proves to have logged in to the account before (an address
we remember, or a browser that shows a mark of ours) does not wait for other people's failures.
It does no I/O, is told the time, and hashes nothing. One `LoginThrottle` owns its counters; they
are bounded and forgotten with the process.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_LEVEL_MAX = 12


@dataclass(slots=True)
class _Failures:
    """How many failures count now; one is forgiven after each quiet while.

    Units: monotonic seconds.
    """

    level: int = 0
    last_mono: float = 0.0


def address_key(ip: str) -> str:
    """Return what counts as one address: an IPv6 network of 64 bits belongs to one customer."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip[:64]
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def neighbours_key(address: str) -> str:
    """Return what an `address_key` has in common with addresses that are had together for nothing.

    Shape: the first 24 bits of an IPv4 address; of IPv6 48, which anybody gets from a tunnel broker.
    """
    if ":" in address:
        with suppress(ValueError):
            return str(ipaddress.ip_network(address).supernet(new_prefix=48))
    return address.rpartition(".")[0] or address


class LoginThrottle:
    """Counts failed log-ins.

    Units: seconds; `now_mono` monotonic.
    """

    def __init__(
        self,
        *,
        free: int = 3,
        longest_s: float = 60.0,
        forgive_s: float = 300.0,
        max_keys: int = 10_000,
    ) -> None:
        self._free = free
        self._longest_s = longest_s
        self._forgive_s = forgive_s
        self._max_keys = max_keys
        self._addresses: OrderedDict[str, _Failures] = OrderedDict()
        self._accounts: OrderedDict[str, _Failures] = OrderedDict()
        # Since when an address waits for an account: its last try, or the first that was refused.
        # Whoever is forgotten waits anew, so nobody may push others out: neighbours have only so
        # many places, and make room for each other.
        self._waiting: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._places: dict[str, OrderedDict[tuple[str, str], None]] = {}
        self._places_max = max(1, max_keys // 20)
        # Addresses that have logged in to an account.
        self._trusted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, ip: str, account: str, now_mono: float, *, mark: str | None = None) -> float:
        """Begin a try: return 0 if it may be looked at now, else how long it has to wait.

        A try that begins counts as failed until `succeeded`, so that many at once gain nothing.

        Shape: `mark` names a browser that has logged in to this account before: it has a counter
            of its own, and neither the address nor the account holds it.
        """
        address, account = pair = _keys(ip, account, mark)
        is_known = mark is not None or pair in self._trusted
        wait_s = self._left_s(self._addresses.get(address), now_mono)
        if not is_known:
            wait_s = max(wait_s, self._account_wait_s(pair, now_mono))
        if wait_s == 0:
            self._raise(self._addresses, address, now_mono)
            if not is_known:
                self._raise(self._accounts, account, now_mono)
                self._wait_from(pair, now_mono)
        return wait_s

    def succeeded(self, ip: str, account: str, *, mark: str | None = None) -> None:
        """Forget what this address did wrong; what others did to the account stays and fades."""
        address, account = pair = _keys(ip, account, mark)
        self._addresses.pop(address, None)
        is_known = mark is not None or pair in self._trusted
        if not is_known and (failures := self._accounts.get(account)) is not None:
            failures.level = max(0, failures.level - 1)
        self._forget_waiting(pair)
        pair = _keys(ip, account, None)
        self._trusted[pair] = None
        self._trusted.move_to_end(pair)
        self._bound(self._trusted)

    @property
    def size(self) -> int:
        """How many keys are remembered."""
        return len(self._addresses) + len(self._accounts) + len(self._waiting) + len(self._trusted)

    def _account_wait_s(self, pair: tuple[str, str], now_mono: float) -> float:
        delay_s = self._delay_s(self._accounts.get(pair[1]), now_mono)
        if delay_s == 0:
            return 0.0
        began = self._waiting.get(pair)
        # Who comes back much later than he was told to starts anew.
        if began is None or now_mono - began > self._longest_s + self._forgive_s:
            began = now_mono
            self._wait_from(pair, now_mono)
        return max(0.0, began + delay_s - now_mono)

    def _wait_from(self, pair: tuple[str, str], now_mono: float) -> None:
        self._waiting[pair] = now_mono
        self._waiting.move_to_end(pair)
        places = self._places.setdefault(neighbours_key(pair[0]), OrderedDict())
        places[pair] = None
        places.move_to_end(pair)
        if len(places) > self._places_max:
            self._forget_waiting(next(iter(places)))
        while len(self._waiting) > self._max_keys:
            self._forget_waiting(next(iter(self._waiting)))

    def _forget_waiting(self, pair: tuple[str, str]) -> None:
        if self._waiting.pop(pair, None) is None:
            return
        key = neighbours_key(pair[0])
        self._places[key].pop(pair, None)
        if not self._places[key]:
            del self._places[key]

    def _raise(self, table: OrderedDict[str, _Failures], key: str, now_mono: float) -> None:
        failures = table.setdefault(key, _Failures())
        failures.level = min(_LEVEL_MAX, self._level(failures, now_mono) + 1)
        failures.last_mono = now_mono
        table.move_to_end(key)
        self._bound(table)

    def _level(self, failures: _Failures, now_mono: float) -> int:
        forgiven = int((now_mono - failures.last_mono) / self._forgive_s)
        return max(0, failures.level - forgiven)

    def _delay_s(self, failures: _Failures | None, now_mono: float) -> float:
        over = 0 if failures is None else self._level(failures, now_mono) - self._free
        return 0.0 if over < 0 or failures is None else min(self._longest_s, 2.0**over)

    def _left_s(self, failures: _Failures | None, now_mono: float) -> float:
        if failures is None:
            return 0.0
        return max(0.0, failures.last_mono + self._delay_s(failures, now_mono) - now_mono)

    def _bound(self, table: OrderedDict[Any, Any]) -> None:
        while len(table) > self._max_keys:
            table.popitem(last=False)


class NoteBudget:
    """How many rows of the audit strangers may cause, who would else drive the old rows out.

    Units: `every_s` monotonic seconds until one more row is allowed.
    """

    def __init__(self, *, at_once: int = 200, every_s: float = 20.0) -> None:
        self._at_once = at_once
        self._every_s = every_s
        self._left = float(at_once)
        self._last_mono: float | None = None
        self._unwritten = 0

    def take(self, now_mono: float) -> int | None:
        """Return how many rows were left out since the last one, None if this one is left out too."""
        if self._last_mono is not None:
            gained = (now_mono - self._last_mono) / self._every_s
            self._left = min(self._at_once, self._left + gained)
        self._last_mono = now_mono
        if self._left < 1:
            self._unwritten += 1
            return None
        self._left -= 1
        unwritten, self._unwritten = self._unwritten, 0
        return unwritten


def _keys(ip: str, account: str, mark: str | None) -> tuple[str, str]:
    address = address_key(ip) if mark is None else f"mark {mark[:64]}"
    return address, account.strip().casefold()[:64]
