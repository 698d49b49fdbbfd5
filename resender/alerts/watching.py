"""What is wrong with the gateway now: a look at its services, every few seconds.

It reads public snapshots and changes nothing. What happens at one moment is told by whoever sees it.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resender.access import Access
from resender.aio import Clock
from resender.core.alerts.board import Finding
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.reachability import UNREACHABLE
from resender.status import Status
from resender.store import Store

if TYPE_CHECKING:
    from resender.cluster import Cluster

_STRANGERS_S = 600.0
_TOLD = frozenset({UNREACHABLE, "region", "timeout", "firewall"})
_CLOCK_OFF_MS = 1000
_CERTIFICATE_DAYS = 14
# There may be thousands of series to look at.
_CACHE_EVERY_S = 5.0
_DISK_EVERY_S = 30.0
_CERTIFICATE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class AlertOptions:
    """When something is worth telling, see the settings ALERT_..."""

    cache_s: float
    free_disk_mb: int
    refused: int


class Watch:
    """Looks. Shape: `certificate_ends` gives when the TLS certificate ends, None where there is none."""

    def __init__(
        self,
        options: AlertOptions,
        *,
        status: Status,
        store: Store,
        access: Access,
        exchange_clock: ExchangeClock,
        clock: Clock,
        folder: Path,
        cluster: Cluster | None = None,
        certificate_ends: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._options = options
        self._status = status
        self._store = store
        self._access = access
        self._exchange_clock = exchange_clock
        self._clock = clock
        self._folder = folder
        self._cluster = cluster
        self._certificate_ends = certificate_ends
        # Moment and number of the refused calls so far, over the last ten minutes.
        self._refused: deque[tuple[float, int]] = deque()
        self._free_mb: int | None = None
        self._disk_mono = self._certificate_mono = self._cache_mono = float("-inf")
        self._dark: list[Finding] = []
        self._days: int | None = None

    def look(self) -> list[Finding]:
        """Return everything that is wrong at this moment."""
        mono = self._clock.mono()
        found = [*self._egresses(), *self._upstreams(), *self._cache(mono), *self._nodes()]
        stats = self._store.stats
        if not stats.healthy:
            found.append(Finding("database", "", {"why": str(stats.last_error or "")[:200].rstrip(".")}))
        found += self._disk(mono)
        found += self._time()
        found += self._certificate(mono)
        found += self._strangers(mono)
        return found

    def _egresses(self) -> list[Finding]:
        found: list[Finding] = []
        down: dict[str, tuple[set[str], str]] = {}
        for row in self._status.weights():
            name, pool = row["egress"], row["pool"]
            if row["closed_s"] > 0:
                kind = "banned" if row["closed_status"] == 418 else "paused"
                values = {"egress": name, "pool": pool, "seconds": row["closed_s"]}
                found.append(Finding(kind, f"{name} {pool}", values))
            elif row["state"] == "set_aside":
                markets, why = down.setdefault(name, (set(), row["problem"]))
                markets.update(row["markets"])
        for name, (markets, why) in down.items():
            values = {"egress": name, "markets": ", ".join(sorted(markets)), "why": why or UNREACHABLE}
            found.append(Finding("egress", name, values))
        return found

    def _upstreams(self) -> list[Finding]:
        found = []
        for each in self._status.upstreams():
            market = each.market.value
            if not self._status.is_out_of_reach(each, _TOLD):
                continue
            if each.kind == "region":
                found.append(Finding("region", market, {"market": market}))
            else:
                found.append(Finding("unreachable", market, {"market": market, "why": each.text}))
        return found

    def _cache(self, mono: float) -> list[Finding]:
        if mono - self._cache_mono < _CACHE_EVERY_S:
            return self._dark
        self._cache_mono = mono
        self._dark = [
            Finding(
                "cache", each.market.value,
                {"market": each.market.value, "live": each.wanted_live, "wanted": each.wanted},
            )
            for each in self._status.markets()
            if each.wanted and not each.is_live
        ]  # fmt: skip
        return self._dark

    def _nodes(self) -> list[Finding]:
        if self._cluster is None or not self._cluster.link.is_up:
            return []
        return [
            Finding("node", node.name, {"node": node.name, "seconds": node.seen_ms // 1000})
            for node in self._cluster.nodes()
            if not node.is_up
        ]

    def _disk(self, mono: float) -> list[Finding]:
        if mono - self._disk_mono >= _DISK_EVERY_S:
            self._disk_mono = mono
            try:
                self._free_mb = shutil.disk_usage(self._folder).free // 1_000_000
            except OSError:
                self._free_mb = None
        if self._free_mb is None or self._free_mb >= self._options.free_disk_mb:
            return []
        return [Finding("disk", "", {"free_mb": self._free_mb})]

    @property
    def clock_off_ms(self) -> int:
        """How far this machine's clock is off for certain, 0 where that is not known."""
        clock, mono, now_ms = self._exchange_clock, self._clock.mono(), self._clock.now_ms()
        if not (clock.is_set or clock.has_date):
            return 0
        return max(0, int(max(clock.low_ms(mono) - now_ms, now_ms - clock.high_ms(mono))))

    @property
    def free_mb(self) -> int | None:
        """What was free on the disk of the data at the last look, None if that cannot be told."""
        return self._free_mb

    def _time(self) -> list[Finding]:
        off_ms = self.clock_off_ms
        return [Finding("clock", "", {"off_ms": off_ms})] if off_ms > _CLOCK_OFF_MS else []

    def _certificate(self, mono: float) -> list[Finding]:
        if self._certificate_ends is None:
            return []
        if mono - self._certificate_mono >= _CERTIFICATE_EVERY_S:
            self._certificate_mono = mono
            ends = self._certificate_ends()
            self._days = (ends - datetime.now(timezone.utc)).days if ends is not None else None
        if self._days is None or self._days >= _CERTIFICATE_DAYS:
            return []
        return [Finding("certificate", "", {"days": max(0, self._days)})]

    def _strangers(self, mono: float) -> list[Finding]:
        total, history = self._access.refused.total, self._refused
        history.append((mono, total))
        while history[0][0] < mono - _STRANGERS_S:
            history.popleft()
        count = total - history[0][1]
        if count < self._options.refused:
            return []
        latest: list[Any] = self._access.refused.items()[:1]
        address = latest[0].address if latest else "?"
        return [Finding("strangers", "", {"count": count, "address": address})]
