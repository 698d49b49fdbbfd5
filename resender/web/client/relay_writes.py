"""Orders over the WebSocket API as accounts learn of them: like those over REST, before the client has the answer.

It reads requests and answers that pass through and changes none. One `RelayWrites` belongs to one connection.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson

from resender.account import Passing
from resender.core.binance.markets import Market
from resender.services import Services
from resender.upstream import key_of

_ROOTS = {Market.SPOT: "/api/v3/", Market.UM: "/fapi/v1/", Market.CM: "/dapi/v1/"}
# The REST calls they stand for. Source: web-socket-api.md of 2026-07-21; derivatives SDKs of 2026-08-21.
_METHODS = {
    "order.place": ("POST", "order"),
    "sor.order.place": ("POST", "sor/order"),
    "order.cancel": ("DELETE", "order"),
    "order.modify": ("PUT", "order"),
    "order.cancelReplace": ("POST", "order/cancelReplace"),
    "order.amend.keepPriority": ("PUT", "order/amend/keepPriority"),
    "openOrders.cancelAll": ("DELETE", "openOrders"),
    "orderList.place": ("POST", "orderList/oco"),
    "orderList.place.oco": ("POST", "orderList/oco"),
    "orderList.place.oto": ("POST", "orderList/oto"),
    "orderList.place.otoco": ("POST", "orderList/otoco"),
    "orderList.place.opo": ("POST", "orderList/opo"),
    "orderList.place.opoco": ("POST", "orderList/opoco"),
    "orderList.cancel": ("DELETE", "orderList"),
    "userDataStream.stop": ("DELETE", "listenKey"),
    "algoOrder.place": ("POST", "algoOrder"),
    "algoOrder.cancel": ("DELETE", "algoOrder"),
}
_MAX_UNANSWERED = 1000


class RelayWrites:
    """The orders of one connection that have no answer yet."""

    def __init__(self, services: Services, market: Market, address: str) -> None:
        self._services = services
        self._market = market
        self._address = address
        self._passing: dict[bytes, Passing] = {}
        # Whose orders they are that do not say so themselves: of `session.logon`.
        self._session_key: str | None = None

    def sent(self, request: dict[str, Any]) -> None:
        """A request is about to be sent on."""
        method, params = request["method"], request.get("params")
        key = key_of(request)
        if method == "session.logon":
            self._session_key = key
        if method not in _METHODS or len(self._passing) >= _MAX_UNANSWERED:
            return
        how, name = _METHODS[method]
        told = params if isinstance(params, dict) else {}
        query = urlencode({str(word): str(value) for word, value in told.items()})
        passing = self._services.accounts.watch(
            self._market,
            how,
            _ROOTS[self._market] + name,
            query,
            b"",
            key or self._session_key,
            self._address,
        )
        if passing is not None:
            self._passing[orjson.dumps(request.get("id"))] = passing

    def came(self, message: str) -> None:
        """A message came from the upstream; the client gets it after this."""
        if not self._passing:
            return
        try:
            answer = orjson.loads(message)
        except ValueError:
            return
        if not isinstance(answer, dict) or "status" not in answer:
            return
        passing = self._passing.pop(orjson.dumps(answer.get("id")), None)
        status = answer.get("status")
        if passing is not None and isinstance(status, int):
            passing.answered(status, orjson.dumps(_told(answer)))

    def end(self) -> None:
        """The connection is gone: nobody knows what became of them."""
        for passing in self._passing.values():
            passing.unanswered(is_sent=True)
        self._passing.clear()


def _told(answer: dict[str, Any]) -> Any:
    """Return what REST would have told: a result, or an error with the parts that were carried out."""
    if "result" in answer:
        return answer["result"]
    return answer.get("error", {})
