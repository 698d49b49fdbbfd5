"""Balances of a spot account: the last answer REST gave, with what events have told since.

What no event tells (fees, permissions) is as old as that answer; balances are exact. Pure.
Source: research.md B4.4: `outboundAccountPosition` names the assets that changed, with what they are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from resender.core.account.dialects import BadEvent, Row, moment_ms, number

_MAX_ASSETS = 10_000
_MAX_BEFORE = 50


@dataclass(slots=True)
class _Asset:
    """What is known of one: since when, and who said so."""

    free: str
    locked: str
    time_ms: int
    source: str
    # What events had told before within that millisecond; told again they leave it open which was the last.
    before: list[tuple[str, str]] = field(default_factory=list)
    is_certain: bool = True

    @property
    def is_zero(self) -> bool:
        return not number(self.free) and not number(self.locked)


class SpotBalances:
    """The balances of one account.

    Units: times are epoch milliseconds of the exchange, `_mono` monotonic seconds.
    """

    def __init__(self) -> None:
        self._rest: Row | None = None
        # Whether that answer held assets of which there is nothing.
        self.is_full = False
        self.rest_mono = 0.0
        self.time_ms = 0
        # What is promised by deltas and orders: a position event of this time or later has to come.
        self.awaited_ms = 0
        self._assets: dict[str, _Asset] = {}
        # There are more than are kept.
        self._is_overfull = False
        self.version = 0

    def lose(self) -> None:
        """Something may have been missed: the answer counts no more."""
        self._rest = None
        self.version += 1

    @property
    def has_answer(self) -> bool:
        return self._rest is not None

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take an event of the account. Raises: BadEvent."""
        kind = event.get("e")
        if kind == "outboundAccountPosition":
            time_ms = moment_ms(event.get("u", event.get("E")))
            changed = event.get("B")
            if not isinstance(changed, list):
                raise BadEvent("a position without balances")
            for asset, free, locked in [_read_asset(each, "a", "f", "l") for each in changed]:
                self._tell(asset, free, locked, time_ms)
            self.time_ms = max(self.time_ms, time_ms)
            self.version += 1
        elif kind in ("balanceUpdate", "externalLockUpdate"):
            self.expect(moment_ms(event.get("T", event.get("E"))))

    def _tell(self, asset: str, free: str, locked: str, time_ms: int) -> None:
        known = self._assets.get(asset)
        if known is None or known.time_ms < time_ms or known.source != "event":
            if known is None or known.time_ms <= time_ms:
                self._keep(asset, _Asset(free, locked, time_ms, "event"))
        elif known.time_ms == time_ms and (free, locked) != (known.free, known.locked):
            # A second connection tells all of it again, an account may really go back.
            if (free, locked) in known.before or len(known.before) > _MAX_BEFORE:
                known.is_certain = False
            known.before.append((known.free, known.locked))
            known.free, known.locked = free, locked

    def _keep(self, asset: str, told: _Asset) -> None:
        if asset in self._assets or len(self._assets) < _MAX_ASSETS:
            self._assets[asset] = told
        else:
            self._is_overfull = True

    def expect(self, time_ms: int) -> None:
        """Something changed the balances at that time: the event about it is under way."""
        self.awaited_ms = max(self.awaited_ms, time_ms)

    @property
    def is_awaited(self) -> bool:
        return self.awaited_ms > self.time_ms

    def take(self, body: bytes, *, is_full: bool, mono: float) -> None:
        """Take an answer of REST. Raises: BadEvent."""
        try:
            row = orjson.loads(body)
            assets = [_read_asset(each, "asset", "free", "locked") for each in row["balances"]]
            time_ms = moment_ms(row.get("updateTime"))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadEvent("the answer holds no balances") from None
        if self._rest is not None and self.is_full and not is_full:
            return  # less than is known
        self._rest, self.is_full, self.rest_mono = row, is_full, mono
        if time_ms >= self.time_ms:
            self.time_ms = time_ms
        for asset, free, locked in assets:
            known = self._assets.get(asset)
            # Of one millisecond the event is not the older one.
            if known is None or (known.time_ms, known.source == "event") <= (time_ms, False):
                self._keep(asset, _Asset(free, locked, time_ms, "snapshot"))
        self.version += 1

    def answer(self, *, without_zeros: bool) -> bytes | None:
        """Return what REST would answer; None if that is not certain."""
        rest = self._rest
        if rest is None or (not self.is_full and not without_zeros):
            return None
        if self._is_overfull:
            return None
        listed = {str(each["asset"]) for each in rest["balances"]}
        for asset, known in self._assets.items():
            # Of one that was not listed nobody knows where it stands.
            if not known.is_certain or (asset not in listed and not known.is_zero):
                return None
        balances = []
        for each in rest["balances"]:
            known = self._assets[each["asset"]]
            if not (without_zeros and known.is_zero):
                balances.append({**each, "free": known.free, "locked": known.locked})
        return orjson.dumps({**rest, "updateTime": self.time_ms, "balances": balances})

    def known(self) -> list[Row]:
        """Return the balances for people, without those that are nothing."""
        return [
            {
                "asset": asset, "free": known.free, "locked": known.locked, "time": known.time_ms,
                "source": known.source,
            }
            for asset, known in sorted(self._assets.items())
            if not known.is_zero
        ]  # fmt: skip


def _read_asset(told: object, *names: str) -> tuple[str, str, str]:
    if not isinstance(told, dict):
        raise BadEvent("a balance cannot be read")
    asset, free, locked = (told.get(name) for name in names)
    if not (isinstance(asset, str) and isinstance(free, str) and isinstance(locked, str)):
        raise BadEvent("a balance cannot be read")
    number(free)
    number(locked)
    return asset, free, locked


def _dicts(told: object) -> list[Row]:
    if not isinstance(told, list) or not all(isinstance(each, dict) for each in told):
        raise BadEvent("a list cannot be read")
    return told


class FuturesBalances:
    """What events tell of a futures account: wallets and positions, each with its time.

    Nothing of it is answered on Binance's own paths: margins and prices move without an event.
    """

    def __init__(self) -> None:
        self.wallets: dict[str, Row] = {}
        self.positions: dict[tuple[str, str], Row] = {}
        self.leverage: dict[str, Row] = {}
        self.version = 0

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take an event of the account. Raises: BadEvent."""
        kind = event.get("e")
        if kind == "ACCOUNT_CONFIG_UPDATE":
            changed = event.get("ac")
            if isinstance(changed, dict) and isinstance(changed.get("s"), str):
                row = {"leverage": changed.get("l"), "time": moment_ms(event.get("T", event.get("E")))}
                self._put(self.leverage, changed["s"], row)
                self.version += 1
        elif kind == "ACCOUNT_UPDATE":
            told = event.get("a")
            if not isinstance(told, dict):
                raise BadEvent("an update without an account")
            time_ms = moment_ms(event.get("T", event.get("E")))
            wallets, positions = _dicts(told.get("B") or []), _dicts(told.get("P") or [])
            for each in positions:
                number(each.get("pa"))
            for each in wallets:
                self._put(self.wallets, str(each.get("a")), {
                    "asset": each.get("a"), "walletBalance": each.get("wb"),
                    "crossWalletBalance": each.get("cw"), "time": time_ms, "source": "event",
                })  # fmt: skip
            for each in positions:
                key = (str(each.get("s")), str(each.get("ps", "BOTH")))
                self._put(self.positions, key, {
                    "symbol": each.get("s"), "positionSide": each.get("ps"), "positionAmt": each.get("pa"),
                    "entryPrice": each.get("ep"), "breakEvenPrice": each.get("bep"),
                    "marginType": each.get("mt"), "isolatedWallet": each.get("iw"),
                    "time": time_ms, "source": "event",
                })  # fmt: skip
            self.version += 1

    @staticmethod
    def _put(kept: dict[Any, Row], key: object, row: Row) -> None:
        known = kept.get(key)
        if known is not None and known["time"] > row["time"]:
            return
        if known is None and len(kept) >= _MAX_ASSETS:
            return
        kept[key] = row

    def take_balances(self, rows: list[Row]) -> None:
        """Take rows of `balance` as REST gave them. Raises: BadEvent."""
        for row in rows:
            self._put(self.wallets, str(row.get("asset")), {
                "asset": row.get("asset"), "walletBalance": row.get("balance"),
                "crossWalletBalance": row.get("crossWalletBalance"),
                "time": moment_ms(row.get("updateTime")), "source": "snapshot",
            })  # fmt: skip
        self.version += 1

    def take_positions(self, rows: list[Row]) -> None:
        """Take rows of `positionRisk` as REST gave them. Raises: BadEvent."""
        for row in rows:
            key = (str(row.get("symbol")), str(row.get("positionSide", "BOTH")))
            number(row.get("positionAmt"))
            self._put(self.positions, key, {
                "symbol": row.get("symbol"), "positionSide": row.get("positionSide"),
                "positionAmt": row.get("positionAmt"), "entryPrice": row.get("entryPrice"),
                "breakEvenPrice": row.get("breakEvenPrice"), "marginType": row.get("marginType"),
                "isolatedWallet": row.get("isolatedWallet"),
                "time": moment_ms(row.get("updateTime")), "source": "snapshot",
            })  # fmt: skip
        self.version += 1

    def known_positions(self) -> list[Row]:
        """Return positions that are not flat, with the leverage where it is known."""
        rows = []
        for (symbol, _), row in sorted(self.positions.items()):
            if number(row["positionAmt"]):
                rows.append({**row, "leverage": self.leverage.get(symbol, {}).get("leverage")})
        return rows

    def known(self) -> list[Row]:
        """Return the wallets."""
        return [row for _, row in sorted(self.wallets.items())]
