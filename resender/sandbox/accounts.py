"""Accounts of the simulated exchange: their API keys, permissions, balances and positions.

`Accounts` owns all of them. Several keys may belong to one account; an account's name is the
first key it was known by. No I/O; the order desk moves balances through the methods here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from resender.core.binance.markets import Market

from .config import TRADING, SandboxConfig
from .model import ApiError
from .signing import check_ed25519, check_signature, read_public_key, sign, strip_signature

_EIGHT = Decimal("0.00000001")
_RESTRICTIONS = (
    "enableReading", "enableWithdrawals", "enableInternalTransfer", "enableMargin", "enableFutures",
    "permitsUniversalTransfer", "enableVanillaOptions", "enableFixApiTrade", "enableFixReadOnly",
    "enableSpotAndMarginTrading", "enablePortfolioMarginTrading",
)  # fmt: skip
SHORT = "Account has insufficient balance for requested action."


@dataclass(slots=True)
class Balance:
    """One spot asset."""

    free: Decimal = Decimal(0)
    locked: Decimal = Decimal(0)


@dataclass(slots=True)
class Position:
    """A futures position; `amount` is negative for a short one."""

    amount: Decimal = Decimal(0)
    entry: Decimal = Decimal(0)
    realized: Decimal = Decimal(0)
    update_ms: int = 0

    def add(self, signed: Decimal, price: Decimal, contract_size: int) -> Decimal:
        """Book a fill and return the profit it realised.

        Units: of USD-M in the quote asset, of COIN-M (contracts of `contract_size` dollars) in the base.
        """
        before, profit = self.amount, Decimal(0)
        after = before + signed
        if before and (before > 0) != (signed > 0):
            closed = min(abs(before), abs(signed)) * (1 if before > 0 else -1)
            gain = contract_size * (1 / self.entry - 1 / price) if contract_size else price - self.entry
            profit = (closed * gain).quantize(_EIGHT)
            if not after:
                self.entry = Decimal(0)
            elif (after > 0) != (before > 0):
                self.entry = price
        elif contract_size:
            parts = (abs(before) / self.entry if before else Decimal(0)) + abs(signed) / price
            self.entry = (abs(after) / parts).quantize(_EIGHT)
        else:
            self.entry = ((abs(before) * self.entry + abs(signed) * price) / abs(after)).quantize(_EIGHT)
        self.amount = after
        self.realized += profit
        return profit


@dataclass(slots=True, eq=False)
class Account:
    """One account in all markets.

    Shape: `positions` by market, symbol and position side; `wallets` by market and asset.
    """

    name: str
    uid: int
    spot: dict[str, Balance] = field(default_factory=dict)
    wallets: dict[Market, dict[str, Decimal]] = field(default_factory=dict)
    positions: dict[tuple[Market, str, str], Position] = field(default_factory=dict)
    leverage: dict[tuple[Market, str], int] = field(default_factory=dict)
    isolated: set[tuple[Market, str]] = field(default_factory=set)
    is_dual: dict[Market, bool] = field(default_factory=dict)
    update_ms: int = 0

    def balance(self, asset: str) -> Balance:
        """Return a spot balance, made when it is new."""
        return self.spot.setdefault(asset, Balance())

    def take(self, asset: str, amount: Decimal) -> None:
        """Take from what is free.

        Raises: ApiError -2010 when there is less.
        """
        balance = self.balance(asset)
        if amount > balance.free:
            raise ApiError(-2010, SHORT)
        balance.free -= amount

    def lock(self, asset: str, amount: Decimal) -> None:
        """Move from free to locked.

        Raises: ApiError -2010 when there is less.
        """
        self.take(asset, amount)
        self.balance(asset).locked += amount

    def unlock(self, asset: str, amount: Decimal) -> None:
        """Move from locked to free."""
        balance = self.balance(asset)
        balance.locked -= amount
        balance.free += amount

    def position(self, market: Market, symbol: str, side: str = "BOTH") -> Position:
        """Return a position, an empty one where there is none."""
        return self.positions.setdefault((market, symbol, side), Position())


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One API key: how its signatures are made, whose it is and what it may do."""

    key: str
    account: str
    secret: str = ""
    public_key: Ed25519PublicKey | None = None
    permissions: dict[str, bool] = field(default_factory=lambda: dict(TRADING))

    def check(self, query: bytes, body: bytes, signature: str) -> None:
        """Raise ApiError -1022 unless the signature fits query and body as received."""
        if self.public_key is None:
            check_signature(self.secret, query, body, signature)
        else:
            check_ed25519(self.public_key, strip_signature(query) + strip_signature(body), signature)

    def check_text(self, text: str, signature: str) -> None:
        """Raise ApiError -1022 unless the signature fits a text, as the WebSocket API signs."""
        if self.public_key is not None:
            check_ed25519(self.public_key, text.encode(), signature)
        elif sign(self.secret, text.encode()) != signature:
            raise ApiError(-1022, "Signature for this request is not valid.")

    def restrictions(self) -> dict[str, bool | int]:
        """Return what GET /sapi/v1/account/apiRestrictions says."""
        flags = {name: self.permissions.get(name, False) for name in _RESTRICTIONS}
        return {
            "ipRestrict": self.permissions.get("ipRestrict", False),
            "createTime": 1_700_000_000_000,
            **flags,
        }


class Accounts:
    """All keys and accounts; `key in accounts` tells whether a key is known."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._keys: dict[str, ApiKey] = {}
        self._accounts: dict[str, Account] = {}

    def __contains__(self, key: object) -> bool:
        config = self._config
        return key in self._keys or key in config.accounts or key in config.ed25519

    def __iter__(self) -> Iterator[Account]:
        return iter(list(self._accounts.values()))

    def add(
        self,
        key: str,
        secret: str = "",
        public_key: str = "",
        account: str = "",
        permissions: dict[str, bool] | None = None,
    ) -> ApiKey:
        """Register a key, of an account of its own or of that of the key `account`.

        Shape: `secret` for HMAC or `public_key`, the PEM of an Ed25519 key; `permissions` default to TRADING.
        """
        whose = self.key(account).account if account else key
        made = self._keys[key] = ApiKey(
            key, whose, secret, read_public_key(public_key) if public_key else None,
            dict(TRADING if permissions is None else permissions),
        )  # fmt: skip
        return made

    def remove(self, key: str) -> None:
        """Forget a key: it is unknown from now on; its account stays."""
        self._keys.pop(key, None)
        self._config.accounts.pop(key, None)
        self._config.ed25519.pop(key, None)

    def key(self, key: str) -> ApiKey:
        """Return a key.

        Raises: ApiError -2015 for an unknown one.
        """
        found = self._keys.get(key)
        if found is None:
            if key not in self:
                raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            config = self._config
            found = self.add(
                key, config.accounts.get(key, ""), config.ed25519.get(key, ""),
                config.same_account.get(key, ""), config.permissions.get(key),
            )  # fmt: skip
        return found

    def of(self, key: str) -> Account:
        """Return the account of an API key."""
        return self.get(self.key(key).account)

    def get(self, name: str) -> Account:
        """Return an account by its name, with its first balances when it is new."""
        found = self._accounts.get(name)
        if found is None:
            found = self._accounts[name] = Account(name, 354_937_868 + len(self._accounts))
            start = self._config.balances
            for asset, amount in start.get("spot", {}).items():
                found.spot[asset] = Balance(Decimal(amount))
            for market in (Market.UM, Market.CM):
                wallet = start.get(market.value, {})
                found.wallets[market] = {asset: Decimal(amount) for asset, amount in wallet.items()}
        return found
