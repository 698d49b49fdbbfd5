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
        # By the id of the request, which a client may use for several.
        self._passing: dict[bytes, list[Passing]] = {}
        # Whose orders they are that do not say so themselves: of the `session.logon` Binance took, and of those
        # it has not answered yet.
        self._session_key: str | None = None
        self._logons: dict[bytes, str] = {}
        self._count = 0

    def sent(self, request: dict[str, Any]) -> None:
        """A request is about to be sent on."""
        method, params = request["method"], request.get("params")
        key, number = key_of(request), orjson.dumps(request.get("id"))
        if method == "session.logon" and key is not None and len(self._logons) < _MAX_UNANSWERED:
            self._logons[number] = key
        if method not in _METHODS:
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
            key or self._session_key or next(iter(self._logons.values()), None),
            self._address,
            # Whose key it is that Binance took can be seen by REST alone: a session may be another one's.
            is_proof=False,
        )
        if passing is None:
            return
        if self._count >= _MAX_UNANSWERED:
            passing.unanswered(is_sent=True)
            return
        self._passing.setdefault(number, []).append(passing)
        self._count += 1

    def came(self, message: str) -> None:
        """A message came from the upstream; the client gets it after this."""
        if not self._passing and not self._logons:
            return
        try:
            answer = orjson.loads(message)
        except ValueError:
            return
        if not isinstance(answer, dict) or "status" not in answer:
            return
        number, status = orjson.dumps(answer.get("id")), answer["status"]
        if not isinstance(status, int):
            return
        key = self._logons.pop(number, None)
        if key is not None and status == 200:
            self._session_key = key
        passing = self._passing.get(number)
        if passing is None:
            return
        self._count -= 1
        passing.pop(0).answered(status, orjson.dumps(_told(answer)))
        if not passing:
            del self._passing[number]

    def end(self) -> None:
        """The connection is gone: nobody knows what became of them."""
        for several in self._passing.values():
            for passing in several:
                passing.unanswered(is_sent=True)
        self._passing.clear()
        self._count = 0


def _told(answer: dict[str, Any]) -> Any:
    """Return what REST would have told: a result, or an error with the parts that were carried out."""
    if "result" in answer:
        return answer["result"]
    return answer.get("error", {})
