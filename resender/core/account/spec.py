"""What an account is: a market and an API key that the owner has had watched. Plain data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from resender.core.binance.markets import Market


class AccountMarket(str, enum.Enum):
    """A kind of account; margin lives on the spot host."""

    SPOT = "spot"
    MARGIN = "margin"
    UM = "um"
    CM = "cm"
    PM = "pm"

    def __str__(self) -> str:
        return self.value

    @property
    def host(self) -> Market:
        """The market whose REST host it is asked at."""
        return Market.SPOT if self is AccountMarket.MARGIN else Market(self.value)


class Mode(str, enum.Enum):
    """How its user data is opened, weakest trust first: the key alone, a signature of the client, a key of its own."""

    KEY = "key"
    SIGNED = "signed"
    SECRET = "secret"  # noqa: S105

    def __str__(self) -> str:
        return self.value


MODES: Mapping[AccountMarket, tuple[Mode, ...]] = {
    AccountMarket.SPOT: (Mode.SIGNED, Mode.SECRET),
    AccountMarket.MARGIN: (Mode.SIGNED, Mode.SECRET),
    AccountMarket.UM: (Mode.KEY, Mode.SECRET),
    AccountMarket.CM: (Mode.KEY, Mode.SECRET),
    AccountMarket.PM: (Mode.KEY, Mode.SECRET),
}


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """One account as the owner has set it up.

    Shape: `keys` are the digests of API keys that are this account, with the key's last characters;
        `public_keys` PEM texts by digest; `sealed` the key and secret of mode SECRET, encrypted.
    """

    id: int
    name: str
    market: AccountMarket
    mode: Mode
    keys: Mapping[str, str] = field(default_factory=dict)
    public_keys: Mapping[str, str] = field(default_factory=dict)
    sealed: str | None = None
