"""What accounts use of the rest of the program, as far as they need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market


class Connection(Protocol):
    """An upstream WebSocket."""

    @property
    def egress(self) -> Any: ...

    def watch(self, ping_every_s: float, silent_s: float, on_sign: Callable[[], None]) -> None: ...

    async def receive(self) -> str | bytes | None: ...

    async def send(self, message: str | bytes) -> bool: ...

    async def ping(self) -> bool: ...

    async def close(self, code: int = 1000) -> None: ...


class Opener(Protocol):
    """Opens them: `Relays`."""

    async def open(
        self,
        host: str,
        target: str,
        market: Market,
        *,
        api_key: str | None = None,
        listen_key: str = "",
        client: str = "",
        purpose: str = "",
    ) -> Any: ...

    def desk(self, market: Market, egress: Any, client: str) -> Any: ...

    def note_listen_key(self, listen_key: str, egress: str) -> None: ...


class Door(Protocol):
    """Sends the gateway's own calls: `Dispatch`."""

    async def call_with_key(
        self, market: Market, method: str, target: str, api_key: str, *, is_urgent: bool = False
    ) -> tuple[Fetched, str]: ...


class Signs(Protocol):
    """Signs: `api_keys.Signer`."""

    def sign(self, payload: bytes) -> str: ...


class Verifies(Protocol):
    """Checks signatures: `api_keys.Verifier`."""

    def verify(self, payload: bytes, signature: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """What the settings say. Units: as the names end."""

    silence_s: float = 10.0
    wait_ms: int = 300
    reconcile_s: float = 900.0
    history_ms: int = 24 * 3_600_000
    proof_s: float = 24 * 3600.0
    max_accounts: int = 1000
