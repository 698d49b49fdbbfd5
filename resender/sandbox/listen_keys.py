"""The listen keys of the futures hosts and of portfolio margin, and the listen tokens of margin.

`ListenKeys` owns them: one key per account and host, whichever API key asks for it. No clock, no I/O.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class ListenKey(NamedTuple):
    """A key and when it ends."""

    text: str
    until_ms: int


class ListenKeys:
    """All listen keys and tokens."""

    def __init__(self, seed: int, life_ms: int) -> None:
        self.life_ms = life_ms
        self._seed = seed
        self._count = 0
        self._keys: dict[tuple[str, str], ListenKey] = {}
        self._tokens: dict[str, tuple[str, int]] = {}

    def create(self, host: str, account: str, now_ms: int) -> str:
        """Return the account's key, prolonged, or a new one when none is alive."""
        found = self.alive(host, account, now_ms)
        text = found or self._new(f"{host}:{account}")
        self._keys[host, account] = ListenKey(text, now_ms + self.life_ms)
        return text

    def _new(self, whose: str) -> str:
        self._count += 1
        return hashlib.sha256(f"{whose}:{self._count}:{self._seed}".encode()).hexdigest()

    def keep(self, host: str, account: str, now_ms: int) -> str | None:
        """Prolong the account's key; None when it has ended."""
        found = self.alive(host, account, now_ms)
        if found is not None:
            self._keys[host, account] = ListenKey(found, now_ms + self.life_ms)
        return found

    def close(self, host: str, account: str) -> str | None:
        """End the account's key and return it."""
        found = self._keys.pop((host, account), None)
        return found.text if found is not None else None

    def alive(self, host: str, account: str, now_ms: int) -> str | None:
        """Return the account's key if it is alive."""
        found = self._keys.get((host, account))
        return found.text if found is not None and found.until_ms > now_ms else None

    def owner(self, text: str, hosts: tuple[str, ...], now_ms: int) -> str | None:
        """Return the account behind a key of some hosts that is alive."""
        for (host, account), key in self._keys.items():
            if key.text == text and host in hosts and key.until_ms > now_ms:
                return account
        return None

    def end(self, hosts: tuple[str, ...], now_ms: int | None = None) -> list[tuple[str, str]]:
        """End the keys of some hosts that are over (None: all) and return host and key of each."""
        over = [
            where
            for where, key in self._keys.items()
            if where[0] in hosts and (now_ms is None or key.until_ms <= now_ms)
        ]
        return [(where[0], self._keys.pop(where).text) for where in over]

    @property
    def next_end_ms(self) -> int | None:
        """When the first of all keys ends, None when there is none."""
        return min((key.until_ms for key in self._keys.values()), default=None)

    def create_token(self, account: str, validity_ms: int, now_ms: int) -> tuple[str, int]:
        """Return a listen token of an account and when it ends."""
        text, until = self._new(f"token:{account}"), now_ms + validity_ms
        self._tokens[text] = account, until
        return text, until

    def token(self, text: str, now_ms: int) -> tuple[str, int] | None:
        """Return whose a token is and when it ends; None for one that is over or unknown."""
        found = self._tokens.get(text)
        return found if found is not None and found[1] > now_ms else None
