"""The gateway's own reads of one market, as the cache makes them.

How a call leaves is handed in; whether there is weight for it is decided there, too.
"""

from __future__ import annotations

from typing import Any, Protocol

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import AnswerError, EgressExhausted


class Door(Protocol):
    """What the cache needs of `resender.upstream.dispatch.Dispatch`."""

    def admit(self, market: Market, target: str, *, is_urgent: bool) -> Any: ...
    def give_back(self, permit: Any) -> None: ...
    async def fetch(self, market: Market, target: str, permit: Any = None) -> Fetched: ...


class ReadFailed(Exception):
    """An own read brought nothing; the text is for the log.

    Units: `retry_after_s` seconds after which there may be weight for it, 0 if that was not why.
    """

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Reader:
    """Makes own reads of one market."""

    def __init__(self, door: Door, market: Market) -> None:
        self._door = door
        self.market = market

    def admit(self, target: str, *, is_urgent: bool) -> Any:
        """Reserve the weight of a read, to be handed to `get` or given back.

        Raises: ReadFailed if there is none now.
        """
        try:
            return self._door.admit(self.market, target, is_urgent=is_urgent)
        except EgressExhausted as error:
            raise ReadFailed(error.msg, error.retry_after_s) from None
        except AnswerError as error:
            raise ReadFailed(error.msg) from None

    def give_back(self, permit: Any) -> None:
        """The read is not made after all."""
        self._door.give_back(permit)

    async def get(self, target: str, permit: Any = None) -> bytes:
        """Read one target.

        Raises: ReadFailed if there is no usable answer.
        """
        try:
            fetched = await self._door.fetch(self.market, target, permit)
        except EgressExhausted as error:
            # The clients need the weight, or a ban lasts: own reads come last.
            raise ReadFailed(error.msg, error.retry_after_s) from None
        except AnswerError as error:
            raise ReadFailed(error.msg) from None
        if fetched.status != 200:
            raise ReadFailed(f"HTTP {fetched.status}: {fetched.body[:120].decode('utf-8', 'replace')}")
        return fetched.body
