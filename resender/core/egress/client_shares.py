"""What each client address has used of the weight: for fairness and for the admin page.

Pure and bounded; the oldest addresses are forgotten first. Owned by `Governor`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

_MAX_CLIENTS = 2000


class _Client:
    __slots__ = ("calls", "pools", "refused", "total")

    def __init__(self) -> None:
        self.calls = 0
        self.total = 0
        self.refused = 0
        # pool -> [window, weight in it]
        self.pools: dict[str, list[int]] = {}


class ClientShares:
    """Weight by client address; `share` of 1 means that nobody is held back."""

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def _client(self, address: str) -> _Client:
        client = self._clients.get(address)
        if client is None:
            if len(self._clients) >= _MAX_CLIENTS:
                self._clients.popitem(last=False)
            client = self._clients[address] = _Client()
        return client

    def fits(self, address: str, pool: str, weight: int, window: int, allowed: float) -> bool:
        """Tell whether a client may use so much more of a pool in this window."""
        client = self._clients.get(address)
        known = client.pools.get(pool) if client is not None else None
        used = known[1] if known is not None and known[0] == window else 0
        return used + weight <= allowed

    def add(self, address: str, pool: str, weight: int, window: int) -> None:
        """Count a call that is sent."""
        client = self._clients.get(address) or self._client(address)
        client.calls += 1
        client.total += weight
        known = client.pools.get(pool)
        if known is None or known[0] != window:
            if len(client.pools) > 50:  # sapi has a pool for each path
                client.pools.clear()
            client.pools[pool] = [window, weight]
        else:
            known[1] += weight

    def take_back(self, address: str, pool: str, weight: int, window: int) -> None:
        """A call that was counted has not been sent after all."""
        client = self._clients.get(address)
        if client is None:
            return
        client.calls -= 1
        client.total -= weight
        known = client.pools.get(pool)
        if known is not None and known[0] == window:
            known[1] = max(0, known[1] - weight)

    def refuse(self, address: str) -> None:
        self._client(address).refused += 1

    def status(self, window: int) -> list[dict[str, Any]]:
        """List the clients, most weight first.

        Shape: [{"ip","calls","weight_minute","weight_total","refused"}]; `window` is the present one.
        """
        rows: list[dict[str, Any]] = [
            {
                "ip": address,
                "calls": client.calls,
                "weight_minute": sum(known[1] for known in client.pools.values() if known[0] == window),
                "weight_total": client.total,
                "refused": client.refused,
            }
            for address, client in self._clients.items()
        ]
        rows.sort(key=lambda row: (row["weight_minute"], row["weight_total"]), reverse=True)
        return rows
