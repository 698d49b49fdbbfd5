"""What one exchange market says of itself: its time and the symbols that can be traded.

It keeps nothing of what clients ask for. `ExchangeFacts` owns the clock, the list of symbols and the
task that keeps both current; all of it changes on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from resender.aio import Backoff, Clock, Tasks, end_tasks, within
from resender.core.binance.endpoints import EXCHANGE_INFO
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import BY_MARKET, Market
from resender.core.market.requests import SYMBOL
from resender.log import Seldom
from resender.market.close_pause import PauseS, no_pause
from resender.market.reader import Reader, ReadFailed

logger = logging.getLogger("resender.market")

_RESYNC_S = 600.0
# What keeps a market from being read is said so often.
_SAID_EVERY_S = 60.0
_RESYNC_PAUSE_S = 5.0
# A slower answer says too little about what time it is.
_MAX_TIME_TRIP_S = 1.0
_FUTURE_MS = 2000  # a time so far beyond the latest possible one is not believed
# Contract types whose candles go on from one contract to the next.
CONTRACTS = ("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL")
# Those of them that have one symbol for good.
_CONTINUOUS = frozenset({"PERPETUAL", "TRADIFI_PERPETUAL"})
_SERVER_TIME = re.compile(rb'"serverTime":\d+,?')


class SymbolTable:
    """Symbols of one market, in the exchange's order."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.tradable: dict[str, None] = {}
        # Of the symbols that are alone with their pair and contract type: both.
        self.continuous: dict[str, tuple[str, str]] = {}
        # The symbol that trades as a contract of a pair: ("BTCUSD", "CURRENT_QUARTER") is BTCUSD_261225.
        self.contracts: dict[tuple[str, str], str] = {}
        self.weight_limit: int | None = None
        self.is_loaded = False
        self._last = 0

    def __contains__(self, symbol: str) -> bool:
        return symbol in self.tradable

    def load(self, body: bytes) -> bool:
        """Take an exchangeInfo answer; return whether the list of symbols changed.

        Shape: {"symbols":[{"symbol":..,"status":"TRADING"},..],"rateLimits":[..]}; COIN-M says
            `contractStatus`.
        Raises: ValueError if it is anything else.
        """
        # Most of the time nothing but the time has changed, and parsing megabytes blocks the loop.
        fingerprint = hash(_SERVER_TIME.sub(b"", body, count=1))
        if self.is_loaded and fingerprint == self._last:
            return False
        data: Any = orjson.loads(body)
        key = "contractStatus" if self.market is Market.CM else "status"
        try:
            found = {
                row["symbol"]: None
                for row in data["symbols"]
                if row[key] == "TRADING" and SYMBOL.fullmatch(row["symbol"])
            }
            limits = [
                row["limit"]
                for row in data["rateLimits"]
                if row["rateLimitType"] == "REQUEST_WEIGHT" and row["interval"] == "MINUTE"
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"an exchangeInfo without {error}") from None
        if limits and isinstance(limits[0], int) and limits[0] > 0:
            self.weight_limit = limits[0]
        continuous = self._alone(data["symbols"])
        changed = not self.is_loaded or list(found) != list(self.tradable) or continuous != self.continuous
        self.tradable = found
        self.continuous = continuous
        self.contracts = self._contracts(data["symbols"], found)
        self.is_loaded = True
        self._last = fingerprint
        return changed

    @staticmethod
    def _contracts(rows: list[dict[str, Any]], tradable: dict[str, None]) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        several: set[tuple[str, str]] = set()
        for row in rows:
            pair, contract = row.get("pair"), row.get("contractType")
            if row["symbol"] not in tradable or contract not in CONTRACTS or not isinstance(pair, str):
                continue
            if found.setdefault((pair, contract), row["symbol"]) != row["symbol"]:
                several.add((pair, contract))
        return {key: symbol for key, symbol in found.items() if key not in several}

    def _alone(self, rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
        if self.market is not Market.UM:
            return {}
        contracts: dict[str, tuple[str, str]] = {}
        for row in rows:
            pair, contract = row.get("pair"), row.get("contractType")
            if not isinstance(contract, str) or contract not in _CONTINUOUS or not isinstance(pair, str):
                continue
            if row["status"] == "TRADING" and SYMBOL.fullmatch(f"{pair}_{contract}"):
                contracts[row["symbol"]] = (pair, contract)
        counts = Counter(contracts.values())
        return {symbol: each for symbol, each in contracts.items() if counts[each] == 1}


class ExchangeFacts:
    """Clock and symbols of one market, kept current.

    Shape: `on_symbols()` is told when the list changed, `on_limit(market, limit)` of the weight
        limit of one address;
        `pause_s()` how long what can wait has to wait.
    Units: `refresh_s` seconds between two reads of the symbols.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        clock: Clock,
        tasks: Tasks,
        refresh_s: float,
        on_symbols: Callable[[], None],
        on_limit: Callable[[Market, int], None] = lambda market, limit: None,
        pause_s: PauseS = no_pause,
    ) -> None:
        self._pause_s = pause_s
        self.market = reader.market
        self.symbols = SymbolTable(self.market)
        self.server = ExchangeClock()
        self._reader = reader
        self._failures = Seldom(logger, _SAID_EVERY_S)
        self._clock = clock
        self._tasks = tasks
        self._refresh_s = refresh_s
        self._on_symbols = on_symbols
        self._on_limit = on_limit
        self._resync = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the market; later calls do nothing."""
        if self._task is None:
            self._task = self._tasks.spawn(self._follow(), name=f"market-follow:{self.market}")

    async def stop(self) -> None:
        if self._task is not None:
            await end_tasks([self._task])

    @property
    def is_started(self) -> bool:
        return self._task is not None

    @property
    def is_ready(self) -> bool:
        """Whether symbols and clock are known."""
        return self.symbols.is_loaded and self.server.is_set

    def now_ms(self) -> int:
        """Return a time the exchange has passed."""
        return self.server.now_ms(self._clock.mono())

    def latest_ms(self) -> int | None:
        """Return a time beyond which no message is believed, None if that is not known."""
        return self.server.latest_ms(self._clock.mono()) + _FUTURE_MS if self.server.is_set else None

    def doubt_time(self) -> None:
        """An event and our idea of the time contradict each other: ask soon."""
        self._resync.set()

    async def _follow(self) -> None:
        backoff = Backoff(first_s=1.0, cap_s=15.0)
        synced_mono = read_mono = -1e9
        while True:
            mono = self._clock.mono()
            wait_s = self._refresh_s
            try:
                if not self.server.is_set or mono - synced_mono > _RESYNC_S or self._resync.is_set():
                    self._resync.clear()
                    await self._read_time()
                    synced_mono = mono
                if not self.symbols.is_loaded or mono - read_mono >= self._refresh_s:
                    if self.symbols.is_loaded and (pause_s := self._pause_s()):
                        await self._idle(pause_s)  # a megabyte is not read while candles close
                        continue
                    await self._read_symbols()
                    read_mono = self._clock.mono()
                backoff.reset()
            except ReadFailed as error:
                wait_s = backoff.next_s()
                text = f"{self.market}: symbols or time cannot be read: {error}"
                self._failures.say(logging.WARNING, str(error), self._clock.mono(), text)
                await asyncio.sleep(wait_s)
                continue
            await self._idle(wait_s)

    async def _idle(self, wait_s: float) -> None:
        """Wait, at most until the time is in doubt: it is asked again every few seconds at most."""
        await asyncio.sleep(min(wait_s, _RESYNC_PAUSE_S))
        with suppress(asyncio.TimeoutError):
            await within(self._resync.wait(), max(0.0, wait_s - _RESYNC_PAUSE_S))

    async def _read_time(self) -> None:
        target = BY_MARKET[self.market].time_path
        await self._get(target)  # opens the connection, so that the next one tells the time
        body, sent_mono = await self._get(target)
        mono = self._clock.mono()
        try:
            server_ms = orjson.loads(body)["serverTime"]
        except (ValueError, KeyError, TypeError):
            raise ReadFailed("an answer to /time without serverTime") from None
        if type(server_ms) is not int:
            raise ReadFailed("an answer to /time without serverTime")
        if mono - sent_mono > _MAX_TIME_TRIP_S and self.server.is_set:
            raise ReadFailed(f"/time took {mono - sent_mono:.1f} s")
        self.server.set(server_ms, sent_mono, mono)

    async def _read_symbols(self) -> None:
        body, _ = await self._get(EXCHANGE_INFO[self.market])
        was_loaded = self.symbols.is_loaded
        try:
            changed = self.symbols.load(body)
        except ValueError as error:
            raise ReadFailed(str(error)) from None
        if self.symbols.weight_limit is not None:
            self._on_limit(self.market, self.symbols.weight_limit)
        if not changed:
            return
        self._on_symbols()
        if not was_loaded:
            logger.info("%s: %d symbols can be traded", self.market, len(self.symbols.tradable))

    async def _get(self, target: str) -> tuple[bytes, float]:
        """Read one target; return when it was asked for, too (monotonic seconds)."""
        while True:
            sent_mono = self._clock.mono()
            try:
                return await self._reader.get(target), sent_mono
            except ReadFailed as error:
                if not error.retry_after_s:
                    raise
                # A ban is waited out; the clients' calls go on meanwhile.
                wait_s = max(0.2, min(60.0, error.retry_after_s))
                logger.warning("%s: symbols or time wait %.0f s: %s", self.market, wait_s, error)
                await asyncio.sleep(wait_s)
