"""Candles of a pair and contract type, which go on from one contract to the next.

Everything about them is as with klines but for their streams and their place in REST. See `klines.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

from resender.core.binance.endpoints import CONTINUOUS_KLINES
from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.stream_names import continuous_stream
from resender.core.market.requests import ContinuousRequest, parse_continuous
from resender.core.market.words import CONTINUOUS
from resender.market.exchange_facts import CONTRACTS
from resender.market.kinds.base import Outcome, Parse
from resender.market.kinds.klines import Klines
from resender.market.series import KeptKlines

_PERPETUAL = CONTRACTS[0]


def _word(interval: str, contract: str) -> str:
    """Return the word of what is kept: the contract is named where it is not the perpetual one."""
    return f"{CONTINUOUS}_{interval}" + ("" if contract == _PERPETUAL else f"@{contract}")


class ContinuousKlines(Klines):
    """The continuous kline series of one market of futures, each kept under the symbol that trades now."""

    name = "continuousKlines"

    @classmethod
    def words(cls, market: Market) -> frozenset[str]:
        if market not in CONTINUOUS_KLINES:
            return frozenset()
        return frozenset(_word(interval, each) for interval in INTERVALS[market] for each in CONTRACTS)

    @classmethod
    def paths(cls, market: Market) -> dict[str, Parse]:
        return {CONTINUOUS_KLINES[market]: parse_continuous} if market in CONTINUOUS_KLINES else {}

    def start(self) -> None:
        """Their streams are chosen once."""

    def make(self, symbol: str, what: str, now_mono: float, *, is_preload: bool) -> KeptKlines:
        name, _, contract = what.partition("@")
        interval = name.partition("_")[2]
        pair, contract = self._contracts_of(symbol, contract or _PERPETUAL)[0]
        path = CONTINUOUS_KLINES[self.market]
        return KeptKlines(
            self.market,
            symbol,
            continuous_stream(pair, contract, interval),
            now_mono,
            is_preload,
            interval=interval,
            series=self.new_series(interval),
            contract=(pair, contract),
            word=what,
            target=f"{path}?pair={quote(pair, safe='')}&contractType={contract}",
            # Which symbol trades as a quarterly contract changes: the witness is not asked about it.
            is_uncovered=contract not in ("PERPETUAL", "TRADIFI_PERPETUAL"),
        )

    def can_keep(self, symbol: str, what: str) -> bool:
        return bool(self._contracts_of(symbol, what.partition("@")[2] or _PERPETUAL))

    def _contracts_of(self, symbol: str, contract: str) -> list[tuple[str, str]]:
        contracts = self.facts.symbols.contracts.items()
        return [key for key, each in contracts if each == symbol and key[1] == contract]

    def begin(self, kept: KeptKlines) -> None:
        super().begin(kept)
        if kept.is_uncovered:
            self._of_symbol[kept.symbol].remove(kept)

    def end(self, kept: KeptKlines) -> None:
        if not any(each is kept for each in self._of_symbol.get(kept.symbol, ())):
            self._of_symbol.setdefault(kept.symbol, []).append(kept)
        super().end(kept)

    def other_stream(self, kept: KeptKlines) -> str | None:
        return None

    def symbols_changed(self) -> None:
        """Their streams stay what they are."""

    def answer(self, request: Any, *, packed: bool, max_age_ms: int = 0) -> Outcome:
        """Answer a call for continuous candles."""
        assert isinstance(request, ContinuousRequest)
        klines, word = request.klines, _word(request.klines.interval, request.contract)
        if request.contract not in CONTRACTS:
            return self.desk.miss(None, "odd parameter")
        symbols = self.facts.symbols
        symbol = symbols.contracts.get((request.pair, request.contract))
        if symbol is None:
            reason = "unknown symbol"
            if not symbols.is_loaded:
                reason = self.desk.begin(self.market, request.pair, word)
            return self.desk.miss(None, reason)
        return super().answer(replace(klines, symbol=symbol, word=word), packed=packed)
