"""A signed call on its way to Binance and back, as far as accounts learn from it.

What its answer tells is known here before the client has the last byte of it. One belongs to one call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import orjson

from resender.account.watched import WatchedAccount
from resender.core.account.calls import READS, Change, change_of, read_params, read_signed
from resender.core.binance.markets import Market

logger = logging.getLogger("resender.account")

_REFUSING = (400, 401)


class Passing:
    """The watch over one call.

    Shape: `wants_body` tells whether the body of a good answer is of use, `wants` that of one with this status;
        `answered` is called with the status and that body, "" where it is not wanted, or `unanswered` if there
        is none.
    """

    def __init__(
        self,
        accounts: Sequence[WatchedAccount],
        *,
        on_accepted: Callable[[], None],
        on_refused: Callable[[int], None] = lambda code: None,
        on_unknown: Callable[[], None] = lambda: None,
        market: Market = Market.SPOT,
        method: str = "",
        path: str = "",
        query: str = "",
        body: bytes = b"",
        asked_mono: float = 0.0,
        asked_ms: int = 0,
    ) -> None:
        self._accounts = accounts
        self._market = market
        self._path = path
        self._query = query
        self._body = body
        self._asked_mono = asked_mono
        self._asked_ms = asked_ms
        self._on_accepted = on_accepted
        self._on_refused = on_refused
        self._on_unknown = on_unknown
        self.change = change_of(market, method, path)
        self._is_read = method == "GET" and (market, path) in READS
        self._is_done = False
        self.wants_body = bool(accounts) and (self._is_read or self.change is not Change.NOTHING)

    def wants(self, status: int) -> bool:
        """Tell whether the body of such an answer is of use: an error may say that the key is none."""
        return self.wants_body or status in _REFUSING

    def answered(self, status: int, body: bytes) -> None:
        """Binance has answered."""
        if self._is_done:
            return
        self._is_done = True
        if status == 200:
            self._on_accepted()
        elif status in _REFUSING and body:
            self._on_refused(_code(body))
        for account in self._accounts:
            if self.change is not Change.NOTHING:
                account.written(self.change, self._params(), status, body, self._asked_mono)
            elif self._is_read and status == 200:
                read = read_signed(self._market, self._path, self._query)
                if not isinstance(read, str):
                    account.take(read, body, self._asked_mono, self._asked_ms)

    def unanswered(self, *, is_sent: bool) -> None:
        """There is no whole answer; if the call may have been sent, nobody knows what it did."""
        if self._is_done:
            return
        self._is_done = True
        if is_sent:
            self._on_unknown()
            for account in self._accounts:
                account.outcome_unknown(self.change)

    def _params(self) -> dict[str, str]:
        params = read_params(self._query) or {}
        if self._body:
            params.update(read_params(self._body.decode("latin-1")) or {})
        return params


def _code(body: bytes) -> int:
    try:
        told = orjson.loads(body)
    except ValueError:
        return 0
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, int) else 0
