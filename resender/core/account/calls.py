"""Clients' signed calls as far as accounts care: which may be answered, which change orders.

Pure reading of method, path and query; it decides about no account.
Source: rest-api.md of 2026-07-21; binance-connector-python of 2026-08-21.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from resender.core.binance.markets import Market

_WORD = re.compile(r"[0-9]{1,19}")
_WINDOW = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{80,700}={0,2}")
_DEFAULT_WINDOW_MS, _MAX_WINDOW_MS = 5000.0, 60_000.0
_AHEAD_MS = 1000


class What(enum.Enum):
    """What a call asks for."""

    OPEN_ORDERS = "openOrders"
    OPEN_ORDER = "openOrder"
    ORDER = "order"
    OPEN_ALGO_ORDERS = "openAlgoOrders"
    ALGO_ORDER = "algoOrder"
    ACCOUNT = "account"
    # Only taken from answers, never answered.
    OTHER_OPEN_ORDERS = "openOrders of margin and portfolio margin"
    BALANCE = "balance"
    POSITIONS = "positionRisk"


READS: Mapping[tuple[Market, str], What] = {
    (Market.SPOT, "/api/v3/openOrders"): What.OPEN_ORDERS,
    (Market.SPOT, "/api/v3/order"): What.ORDER,
    (Market.SPOT, "/api/v3/account"): What.ACCOUNT,
    (Market.UM, "/fapi/v1/openOrders"): What.OPEN_ORDERS,
    (Market.UM, "/fapi/v1/openOrder"): What.OPEN_ORDER,
    (Market.UM, "/fapi/v1/order"): What.ORDER,
    (Market.UM, "/fapi/v1/openAlgoOrders"): What.OPEN_ALGO_ORDERS,
    (Market.UM, "/fapi/v1/algoOrder"): What.ALGO_ORDER,
    (Market.UM, "/fapi/v2/balance"): What.BALANCE,
    (Market.UM, "/fapi/v3/balance"): What.BALANCE,
    (Market.UM, "/fapi/v2/positionRisk"): What.POSITIONS,
    (Market.UM, "/fapi/v3/positionRisk"): What.POSITIONS,
    (Market.CM, "/dapi/v1/openOrders"): What.OPEN_ORDERS,
    (Market.CM, "/dapi/v1/openOrder"): What.OPEN_ORDER,
    (Market.CM, "/dapi/v1/order"): What.ORDER,
    (Market.CM, "/dapi/v1/balance"): What.BALANCE,
    (Market.CM, "/dapi/v1/positionRisk"): What.POSITIONS,
    (Market.PM, "/papi/v1/um/openOrders"): What.OTHER_OPEN_ORDERS,
    (Market.PM, "/papi/v1/cm/openOrders"): What.OTHER_OPEN_ORDERS,
    (Market.SPOT, "/sapi/v1/margin/openOrders"): What.OTHER_OPEN_ORDERS,
}
ANSWERED = frozenset(
    {What.OPEN_ORDERS, What.OPEN_ORDER, What.ORDER, What.OPEN_ALGO_ORDERS, What.ALGO_ORDER, What.ACCOUNT}
)
_ONE_ORDER = {
    What.ORDER: ("orderId", "origClientOrderId"),
    What.OPEN_ORDER: ("orderId", "origClientOrderId"),
    What.ALGO_ORDER: ("algoId", "clientAlgoId"),
}
_SIGNED = frozenset({"timestamp", "recvWindow", "signature"})
_OWN = {
    What.OPEN_ORDERS: frozenset({"symbol"}),
    What.OPEN_ALGO_ORDERS: frozenset({"symbol"}),
    What.OTHER_OPEN_ORDERS: frozenset({"symbol"}),
    What.ACCOUNT: frozenset({"omitZeroBalances"}),
    What.ORDER: frozenset({"symbol", "orderId", "origClientOrderId"}),
    What.OPEN_ORDER: frozenset({"symbol", "orderId", "origClientOrderId"}),
    What.ALGO_ORDER: frozenset({"symbol", "algoId", "clientAlgoId"}),
    What.BALANCE: frozenset[str](),
    What.POSITIONS: frozenset({"symbol"}),
}


@dataclass(frozen=True, slots=True)
class SignedRead:
    """A signed call that asks for what accounts know.

    Shape: `payload` is what was signed, `signature` as it was sent, unquoted. Units: milliseconds.
    """

    what: What
    path: str
    symbol: str | None
    order_id: int | None
    client_id: str | None
    omits_zeros: bool
    timestamp_ms: int
    window_ms: float
    payload: bytes
    signature: str

    def is_in_window(self, low_ms: float, high_ms: float) -> bool:
        """Tell whether Binance would certainly take its time, whose clock is between two bounds."""
        return self.timestamp_ms < low_ms + _AHEAD_MS and high_ms - self.timestamp_ms <= self.window_ms


def read_params(query: str) -> dict[str, str] | None:
    """Read a query; None if a name is repeated or empty."""
    params: dict[str, str] = {}
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        name = unquote_plus(name)
        if not name or name in params:
            return None
        params[name] = unquote_plus(value)
    return params


def signed_payload(query: str) -> bytes:
    """Return what a query's signature was made over: all of it but the signature."""
    return "&".join(part for part in query.split("&") if not part.startswith("signature=")).encode("latin-1")


def read_signed(market: Market, path: str, query: str) -> SignedRead | str:
    """Read a call that may be answered; else return in words why it is forwarded."""
    what = READS.get((market, path))
    if what is None:
        return "path"
    # What is signed has to be percent-encoded before: Binance refuses other bytes.
    params = read_params(query) if query.isascii() else None
    if params is None:
        return "parameters"
    if not params.keys() <= _OWN[what] | _SIGNED:
        return "parameters"
    signature, timestamp = params.get("signature", ""), params.get("timestamp", "")
    if not (_HEX.fullmatch(signature) or _BASE64.fullmatch(signature)):
        return "signature"
    window = params.get("recvWindow")
    if not _WORD.fullmatch(timestamp) or (window is not None and not _WINDOW.fullmatch(window)):
        return "timestamp"
    window_ms = _DEFAULT_WINDOW_MS if window is None else float(window)
    if not 0 < window_ms <= _MAX_WINDOW_MS or (market is not Market.SPOT and not window_ms.is_integer()):
        return "timestamp"
    stamp = int(timestamp)
    order_id: int | None = None
    client_id: str | None = None
    symbol = params.get("symbol")
    if symbol == "" or (symbol is not None and symbol != symbol.upper()):
        return "parameters"
    if what in _ONE_ORDER:
        by_number, by_name = _ONE_ORDER[what]
        number, client_id = params.get(by_number), params.get(by_name)
        if (number is None) == (client_id is None) or (number is not None and not _WORD.fullmatch(number)):
            return "parameters"
        if client_id == "" or (symbol is None and what is not What.ALGO_ORDER):
            return "parameters"
        order_id = None if number is None else int(number)
    zeros = params.get("omitZeroBalances", "false").lower()
    if zeros not in ("true", "false"):
        return "parameters"
    return SignedRead(
        what=what,
        path=path,
        symbol=symbol,
        order_id=order_id,
        client_id=client_id,
        omits_zeros=zeros == "true",
        timestamp_ms=stamp if stamp < 10**15 else stamp // 1000,
        window_ms=window_ms,
        payload=signed_payload(query),
        signature=signature,
    )


# --- what changes orders -----------------------------------------------------------------------


class Change(enum.Enum):
    """What a POST, PUT or DELETE does to an account.

    ORDERS: its answer names every order it changed. ALL: all orders of the symbol are cancelled, the answer
    names none. COUNTDOWN: they will be, later. BALANCES: money moves, orders do not. NOTHING: neither.
    UNKNOWN: nobody knows.
    """

    ORDERS = "orders"
    ALGO = "algo"
    ALL = "all"
    ALL_ALGO = "all algo"
    COUNTDOWN = "countdown"
    BALANCES = "balances"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


_ROOT = {Market.SPOT: "/api/v3/", Market.UM: "/fapi/v1/", Market.CM: "/dapi/v1/"}
_HARMLESS = frozenset(
    {"order/test", "sor/order/test", "listenKey", "leverage", "marginType", "positionSide/dual",
     "multiAssetsMargin", "feeBurn", "userDataStream", "pmAccountInfo", "apiReferral/customization"}
)  # fmt: skip
_CHANGES: Mapping[str, Change] = {
    "order": Change.ORDERS,
    "sor/order": Change.ORDERS,
    "order/oco": Change.ORDERS,
    "order/cancelReplace": Change.ORDERS,
    "order/amend/keepPriority": Change.ORDERS,
    "orderList": Change.ORDERS,
    "orderList/oco": Change.ORDERS,
    "orderList/oto": Change.ORDERS,
    "orderList/otoco": Change.ORDERS,
    "orderList/opo": Change.ORDERS,
    "orderList/opoco": Change.ORDERS,
    "openOrders": Change.ORDERS,
    "batchOrders": Change.ORDERS,
    "allOpenOrders": Change.ALL,
    "algoOrder": Change.ALGO,
    "algoOpenOrders": Change.ALL_ALGO,
    "countdownCancelAll": Change.COUNTDOWN,
    "positionMargin": Change.BALANCES,
}


def change_of(market: Market, method: str, path: str) -> Change:
    """Tell what a call does to the account of its key in its market."""
    if method not in ("POST", "PUT", "DELETE"):
        return Change.NOTHING
    root = _ROOT.get(market)
    if root is None or not path.startswith(root):
        # Wallet calls move money between accounts; orders of margin are another account's.
        return Change.BALANCES if path.startswith("/sapi/") else Change.UNKNOWN
    name = path[len(root) :]
    if name in _HARMLESS:
        return Change.NOTHING
    return _CHANGES.get(name, Change.UNKNOWN)
