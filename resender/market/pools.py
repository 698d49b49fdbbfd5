"""What the cache needs of the stream pools it is handed; `upstream.streams.pool` fits it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from resender.core.binance.markets import Market


class Pool(Protocol):
    """What the cache needs of `resender.upstream.streams.pool.StreamPool`."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def want(self, names: Iterable[str]) -> None: ...
    def drop(self, names: Iterable[str]) -> None: ...
    def shift(self, name: str, mute_s: float) -> None: ...
    def proof_mono(self, name: str) -> float | None: ...
    def is_proven(self, name: str) -> bool: ...
    @property
    def connections(self) -> list[Any]: ...


OnFrame = Callable[[str, Any], "bool | None"]
OnStreams = Callable[[list[str]], None]


class MakePool(Protocol):
    """Makes the pool of one market and path; the witness gets one of its own beside it."""

    def __call__(
        self,
        market: Market,
        path: str,
        on_frame: OnFrame,
        on_live: OnStreams,
        on_lost: OnStreams,
        *,
        is_witness: bool = False,
    ) -> Pool: ...
