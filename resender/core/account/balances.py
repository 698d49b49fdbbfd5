"""Balances of a spot account: the last answer REST gave, with what events have told since.

What no event tells (fees, permissions) is as old as that answer; balances are exact. Pure.
Source: research.md B4.4: `outboundAccountPosition` names the assets that changed, with what they are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from resender.core.account.dialects import BadEvent, Row, moment_ms, number

_MAX_ASSETS = 10_000


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
        # What is known of each: free, locked, when, and who said so.
        self._assets: dict[str, tuple[str, str, int, str]] = {}
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
            read = []
            for each in changed:
                number(each.get("f"))
                number(each.get("l"))
                read.append((str(each.get("a")), str(each.get("f")), str(each.get("l"))))
            for asset, free, locked in read:
                known = self._assets.get(asset)
                if (known is None or known[2] <= time_ms) and len(self._assets) < _MAX_ASSETS:
                    self._assets[asset] = (free, locked, time_ms, "event")
            self.time_ms = max(self.time_ms, time_ms)
            self.version += 1
        elif kind in ("balanceUpdate", "externalLockUpdate"):
            self.expect(moment_ms(event.get("T", event.get("E"))))

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
            assets = [(str(each["asset"]), each["free"], each["locked"]) for each in row["balances"]]
            time_ms = moment_ms(row.get("updateTime"))
        except (ValueError, KeyError, TypeError):
            raise BadEvent("the answer holds no balances") from None
        if self._rest is not None and self.is_full and not is_full:
            return  # less than is known
        self._rest, self.is_full, self.rest_mono = row, is_full, mono
        if time_ms >= self.time_ms:
            self.time_ms = time_ms
        for asset, free, locked in assets:
            known = self._assets.get(asset)
            if (known is None or known[2] <= time_ms) and len(self._assets) < _MAX_ASSETS:
                self._assets[asset] = (free, locked, time_ms, "snapshot")
        self.version += 1

    def answer(self, *, without_zeros: bool) -> bytes | None:
        """Return what REST would answer; None if that is not certain."""
        rest = self._rest
        if rest is None or (not self.is_full and not without_zeros):
            return None
        listed = {str(each["asset"]) for each in rest["balances"]}
        if any(
            asset not in listed and not _is_zero(free, locked)
            for asset, (free, locked, _, _) in self._assets.items()
        ):
            return None  # nobody knows where it stands
        balances = []
        for each in rest["balances"]:
            free, locked, _, _ = self._assets[each["asset"]]
            if not (without_zeros and _is_zero(free, locked)):
                balances.append({**each, "free": free, "locked": locked})
        return orjson.dumps({**rest, "updateTime": self.time_ms, "balances": balances})

    def known(self) -> list[Row]:
        """Return the balances for people, without those that are nothing."""
        return [
            {"asset": asset, "free": free, "locked": locked, "time": time_ms, "source": source}
            for asset, (free, locked, time_ms, source) in sorted(self._assets.items())
            if not _is_zero(free, locked)
        ]


def _is_zero(free: str, locked: str) -> bool:
    return not number(free) and not number(locked)


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
                self.leverage[changed["s"]] = {
                    "leverage": changed.get("l"),
                    "time": moment_ms(event.get("T")),
                }
                self.version += 1
        elif kind == "ACCOUNT_UPDATE":
            told = event.get("a")
            if not isinstance(told, dict):
                raise BadEvent("an update without an account")
            time_ms = moment_ms(event.get("T", event.get("E")))
            for each in told.get("B") or ():
                self._put(self.wallets, str(each.get("a")), {
                    "asset": each.get("a"), "walletBalance": each.get("wb"),
                    "crossWalletBalance": each.get("cw"), "time": time_ms, "source": "event",
                })  # fmt: skip
            for each in told.get("P") or ():
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
