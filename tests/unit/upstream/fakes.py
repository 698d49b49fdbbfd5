"""What the tests of the way out share: a clock that is moved, answers and clients made by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, cast

from resender.aio import Clock
from resender.core.binance.headers import Pairs
from resender.core.binance.markets import Market
from resender.core.egress.spec import Pins, parse_egress
from resender.core.egress.state import Limits
from resender.errors import AnswerError
from resender.upstream.connector import Timeouts
from resender.upstream.egress import EgressOptions, EgressPool

MINUTE_MS = 60_000
START_MS = 1_790_000_000_000 // MINUTE_MS * MINUTE_MS + 2000
TIMEOUTS = Timeouts(2.0, 2.0, 5.0)


class Time:
    """Both clocks, moved by hand. Units: monotonic seconds."""

    def __init__(self) -> None:
        self.mono = 100.0
        self.clock = Clock(now_ms=lambda: START_MS + int((self.mono - 100.0) * 1000), mono=lambda: self.mono)


class FakeAnswer:
    """An answer of an upstream; `body` comes in its pieces, an error among them is raised."""

    kind = ""
    age_ms = 0

    def __init__(
        self, *body: bytes | AnswerError, status: int = 200, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.reason = "OK"
        self.headers = tuple((name.encode(), value.encode()) for name, value in headers)
        self.egress = ""
        self.told: list[tuple[str, str]] = []
        self.pieces = list(body)
        self.is_closed = False

    async def peek(self) -> bytes:
        return self.pieces[0] if self.pieces and isinstance(self.pieces[0], bytes) else b""

    async def next_chunk(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, AnswerError):
            raise piece
        return piece

    def at_end(self) -> bool:
        return not self.pieces

    def close(self) -> None:
        self.is_closed = True


class FakeClient:
    """One egress to one upstream: gives `answers` in turn, then plain ones.

    Shape: `sent` holds (method, target, headers); while `gate` is set and not open, nothing is answered.
    """

    def __init__(self, *answers: FakeAnswer | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, str, Pairs]] = []
        self.gate: asyncio.Event | None = None
        self.is_started = False

    @property
    def targets(self) -> list[str]:
        return [target for _, target, _ in self.sent]

    async def start(self) -> None:
        self.is_started = True

    async def stop(self) -> None:
        self.is_started = False

    async def send(self, method: str, target: str, headers: Pairs, body: bytes) -> FakeAnswer:
        self.sent.append((method, target, headers))
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else FakeAnswer(b"{}")
        if isinstance(answer, Exception):
            raise answer
        return answer


def make_pool(
    time: Time,
    egress: str = "default",
    *,
    markets: Sequence[Market] = (Market.SPOT, Market.UM),
    weight: int = 6000,
    pins: Pins | None = None,
    **options: float,
) -> tuple[EgressPool, dict[tuple[str, Market], FakeClient]]:
    """Make a pool whose clients are made by hand; return it and them, by egress and market."""
    pool = EgressPool(
        parse_egress(egress.split(",")),
        {market: f"https://{market.value}.invalid" for market in markets},
        TIMEOUTS,
        EgressOptions(Limits(spot=weight), pins or Pins(), **options),
        clock=time.clock,
        keepalive_s=55,
        dns_cache_s=300,
        ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    clients = {key: FakeClient() for key in pool.clients}
    pool.clients = cast(Any, dict(clients))
    return pool, clients


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
