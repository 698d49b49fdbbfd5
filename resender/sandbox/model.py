"""The values that travel through the simulated REST side: call, reply, error, placement.

Plain data, no behaviour and no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Params = dict[str, str]
Security = Literal["none", "key", "signed"]


@dataclass(slots=True)
class Call:
    """One REST request exactly as it arrived.

    Shape: `target` is the request target as sent, `path` and `query` its parts, undecoded;
        `headers` are the raw pairs in order; `connection` counts connections of the host.
    """

    host: str
    method: str
    target: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    peer: str
    connection: int
    received_ms: int

    def header(self, name: str) -> str | None:
        """Return the first header of that name, matched without case."""
        wanted = name.lower().encode()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("utf-8", "replace")
        return None


@dataclass(slots=True)
class Reply:
    """An answer before it is put on the wire; header names are lower case."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """A call that came while its address and pool were closed by a 429 or a 418."""

    peer: str
    pool: str
    is_banned: bool
    call: Call


@dataclass(frozen=True, slots=True)
class Placement:
    """An order placement received, accepted (`order_id`) or refused (`error_code`)."""

    host: str
    api_key: str
    params: Params
    order_id: int | None
    error_code: int | None


class ApiError(Exception):
    """Binance refuses: becomes `{"code":..,"msg":".."}`, with `data` where there is any."""

    def __init__(self, code: int, msg: str, status: int = 400, data: Any = None) -> None:
        super().__init__(code, msg)
        self.code = code
        self.msg = msg
        self.status = status
        self.data = data


@dataclass(slots=True)
class Context:
    """What a route handler is given: the call, its parameters and the time.

    Shape: `account` is the name of the account behind `api_key`, which several keys may share.
    """

    call: Call
    host: str
    params: Params
    now_ms: int
    api_key: str
    account: str = ""
    extra_headers: dict[str, str] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        return self.params.get(name, default)


Handler = Callable[[Context], Any]
Weight = int | Callable[[Params], int]


@dataclass(frozen=True, slots=True)
class Route:
    """A path and method.

    Shape: `params` are the names read, besides timestamp, recvWindow and signature;
        the handler returns JSON data or ready bytes; None as `params` accepts all names.
    """

    handler: Handler
    weight: Weight = 1
    security: Security = "none"
    params: tuple[str, ...] | None = ()
    required: tuple[str, ...] = ()


Table = dict[tuple[str, str], Route]
