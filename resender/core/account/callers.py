"""Whose signed calls are believed: pairs of client address and API key that Binance itself accepted lately.

A signature cannot be checked without the secret; that Binance took one from this address and key can be seen.
Keys are held as digests only. Pure. Units: monotonic seconds.
Source: research.md B7.
"""

from __future__ import annotations

from collections import OrderedDict

_MAX_PAIRS = 4096
# Binance says that a key is none, not valid here, or has been taken away.
REFUSED_CODES = frozenset({-2014, -2015, -2008})


class Callers:
    """The pairs."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._pairs: OrderedDict[tuple[str, str], float] = OrderedDict()

    def accepted(self, address: str, digest: str, mono: float) -> None:
        """Binance took a signed call of this pair."""
        self._pairs[address, digest] = mono
        self._pairs.move_to_end((address, digest))
        while len(self._pairs) > _MAX_PAIRS:
            self._pairs.popitem(last=False)

    def refused(self, digest: str) -> None:
        """Binance refused the key: nobody is believed with it."""
        for pair in [pair for pair in self._pairs if pair[1] == digest]:
            del self._pairs[pair]

    def is_believed(self, address: str, digest: str, mono: float) -> bool:
        at = self._pairs.get((address, digest))
        return at is not None and mono - at <= self._keep_s

    def addresses(self, digest: str, mono: float) -> list[str]:
        """Return who is believed with a key."""
        return [
            address
            for (address, owner), at in self._pairs.items()
            if owner == digest and mono - at <= self._keep_s
        ]
