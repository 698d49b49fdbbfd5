"""Whether an account's state may be called exact: its stream, its silences, its snapshots.

Pure: it is told the time and what happened. Units: monotonic seconds throughout.
Source: research.md B6: socket first, then snapshots, the second at least 5 s after the socket was proven alive.
"""

from __future__ import annotations

from dataclasses import dataclass

_SECOND_AFTER_S = 5.0
_MAX_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot that fitted; of all symbols if `symbol` is None."""

    symbol: str | None
    asked_mono: float


class Proof:
    """What one account's answers rest on.

    Shape: with `why` it says in a word what is missing.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self.is_open = False
        self.why = "no stream"
        self.since_mono = 0.0
        self.heard_mono = 0.0
        self._snapshots: list[Snapshot] = []

    def opened(self, mono: float) -> None:
        """The stream has been proven alive; nothing that happens from now on is missed."""
        self.is_open = True
        self.restart("no snapshot yet", mono)
        self.heard_mono = mono

    def heard(self, mono: float) -> None:
        """The stream gave a sign of life."""
        self.heard_mono = mono

    def closed(self, why: str) -> None:
        """The stream is gone."""
        self.is_open = False
        self.why = why
        self._snapshots.clear()

    def restart(self, why: str, mono: float) -> None:
        """What was known may be wrong: only snapshots from now on count."""
        self.why = why
        self.since_mono = mono
        self._snapshots.clear()

    def snapshot(self, symbol: str | None, asked_mono: float) -> None:
        """A snapshot was taken and fitted."""
        if not self.is_open or asked_mono < self.since_mono:
            return
        mine = [kept for kept in self._snapshots if kept.symbol == symbol]
        if len(mine) >= 2:
            self._snapshots.remove(min(mine, key=lambda kept: kept.asked_mono))
        if symbol is not None and len(self._snapshots) >= _MAX_KEPT:
            return
        self._snapshots.append(Snapshot(symbol, asked_mono))

    def lack(self, symbol: str | None, mono: float) -> str | None:
        """Return what an answer about a symbol, or about all, lacks; None if it is proven."""
        if not self.is_open:
            return self.why
        if mono - self.heard_mono > self._silence_s:
            return "stream silent"
        return self._lack_snapshots(symbol)

    def _lack_snapshots(self, symbol: str | None) -> str | None:
        asked = [kept.asked_mono for kept in self._snapshots if kept.symbol in (None, symbol)]
        if not asked:
            return self.why
        if len(asked) < 2 or max(asked) < self.since_mono + _SECOND_AFTER_S:
            return "second snapshot needed"
        return None

    def compared_mono(self, symbol: str | None) -> float:
        """Return when the last snapshot about a symbol, or about all, was asked for."""
        asked = [kept.asked_mono for kept in self._snapshots if kept.symbol in (None, symbol)]
        return max(asked, default=self.since_mono)

    def wants_snapshot(self, mono: float) -> bool:
        """Tell whether one of all symbols would help now, for who can make it."""
        if not self.is_open or self._lack_snapshots(None) is None:
            return False  # nothing is missing, or a sign of life, which no snapshot is
        whole = [kept for kept in self._snapshots if kept.symbol is None]
        return not whole or mono >= self.since_mono + _SECOND_AFTER_S
