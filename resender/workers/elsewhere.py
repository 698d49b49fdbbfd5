"""Which calls a reader leaves to the collector: those of accounts that are watched there. Pure but for its state."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from resender.api_keys import digest_of
from resender.store import AccountRow

_digest = lru_cache(maxsize=1024)(digest_of)


class Elsewhere:
    """The keys of watched accounts, as the database has them."""

    def __init__(self) -> None:
        self._digests: frozenset[str] = frozenset()
        # An account waits for the first key of its market that Binance accepts.
        self._waits_for_key = False
        self.has_accounts = False

    def set_accounts(self, rows: Iterable[AccountRow]) -> None:
        rows = list(rows)
        self.has_accounts = bool(rows)
        self._digests = frozenset(key.digest for row in rows for key in row.keys)
        self._waits_for_key = any(not row.keys for row in rows)

    def is_watched(self, api_key: str) -> bool:
        """Tell whether calls with a key are the collector's."""
        return self._waits_for_key or (self.has_accounts and _digest(api_key) in self._digests)
