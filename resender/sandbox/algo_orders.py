"""Conditional orders of the futures hosts: they wait aside and become normal orders when triggered.

`AlgoDesk` owns them; the orders they become are the order desk's. Driven by `match`, it reads no
clock. Trailing ones wait for their trigger price too and do not trail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import orjson

from resender.core.binance.markets import Market

from .crossing import reached
from .decimals import padded, plain
from .journal import Journal, Row
from .market import MarketStore
from .model import ApiError, Params
from .order_desk import OrderDesk
from .orders import CONDITIONAL, ZERO, Order, check_client_id, check_price, check_qty, read_order
from .signing import mandatory
from .symbols import SymbolSpec
from .user_events import Event, futures_event, trigger_reject


@dataclass(slots=True, eq=False)
class AlgoOrder:
    """One conditional order; `order` is what it became."""

    market: Market
    account: str
    algo_id: int
    client_id: str
    symbol: str
    side: str
    type: str
    qty: Decimal
    trigger_price: Decimal
    price: Decimal
    params: Params
    create_ms: int
    update_ms: int
    trigger_ms: int = 0
    status: str = "NEW"
    reason: str = ""
    order: Order | None = None

    def flag(self, name: str) -> bool:
        return self.params.get(name, "").lower() == "true"

    def text(self, name: str, default: str) -> str:
        return self.params.get(name) or default

    @property
    def good_till_ms(self) -> int:
        text = self.params.get("goodTillDate", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0

    @property
    def actual_id(self) -> str:
        return str(self.order.order_id) if self.order is not None else ""


class AlgoDesk:
    """The conditional orders of all accounts."""

    def __init__(
        self,
        desk: OrderDesk,
        stores: dict[Market, MarketStore],
        tell: Callable[[Market, str, Event], None],
        texts: str,
    ) -> None:
        self._desk = desk
        self._stores = stores
        self._tell = tell
        self._texts = texts
        self._orders: dict[int, AlgoOrder] = {}
        self._open: dict[int, AlgoOrder] = {}
        self._journals: dict[tuple[Market, str], Journal] = {}
        self._ids = count(2_000_000)
        self._became: dict[Order, AlgoOrder] = {}
        desk.after.append(self._heard)

    @property
    def is_busy(self) -> bool:
        """Tell whether any conditional order waits."""
        return bool(self._open)

    def journal(self, market: Market, account: str) -> Journal:
        """Return what openAlgoOrders shows of an account, now and before."""
        return self._journals.setdefault((market, account), Journal())

    def all(self, market: Market, account: str, symbol: str | None = None) -> list[AlgoOrder]:
        """List conditional orders, ended ones too, the oldest first."""
        return [
            algo
            for algo in self._orders.values()
            if (algo.market, algo.account) == (market, account) and symbol in (None, algo.symbol)
        ]

    def get(self, algo_id: int) -> AlgoOrder:
        """Return one by its id; KeyError when there is none."""
        return self._orders[algo_id]

    def find(self, market: Market, account: str, params: Params) -> AlgoOrder | None:
        """Find one by `algoId` or `clientAlgoId`."""
        wanted, client_id = params.get("algoId", ""), params.get("clientAlgoId", "")
        for algo in reversed(self.all(market, account)):
            if str(algo.algo_id) == wanted or (not wanted and client_id and algo.client_id == client_id):
                return algo
        return None

    def place(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> AlgoOrder:
        """Take a conditional order in.

        Raises: ApiError -1102, -1116, -1117, -4116, -2021 and as quantity and prices are checked.
        """
        kind, side = params.get("type", ""), params.get("side", "")
        for name in ("side", "type"):
            if not params.get(name):
                raise mandatory(name)
        if side not in ("BUY", "SELL"):
            raise ApiError(-1117, "Invalid side.")
        if kind not in CONDITIONAL:
            raise ApiError(-1116, "Invalid orderType.")
        closes = params.get("closePosition", "").lower() == "true"
        if not closes and not params.get("quantity"):
            raise mandatory("quantity")
        qty = ZERO if closes else check_qty(spec, params["quantity"])
        trigger = params.get("triggerPrice") or params.get("activatePrice") or ""
        if not trigger and kind != "TRAILING_STOP_MARKET":
            raise mandatory("triggerPrice")
        needs_price = kind in ("STOP", "TAKE_PROFIT") and not params.get("priceMatch")
        if needs_price and not params.get("price"):
            raise mandatory("price")
        client_id = check_client_id(params, "clientAlgoId")
        if any(
            one.client_id == client_id and one.account == account and one.symbol == spec.symbol
            for one in self._open.values()
        ):
            raise ApiError(-4116, "ClientOrderId is duplicated.")
        number = next(self._ids)
        algo = AlgoOrder(
            spec.market, account, number, client_id or f"algo{number}", spec.symbol, side, kind, qty,
            check_price(spec, trigger) if trigger else ZERO,
            check_price(spec, params["price"]) if needs_price else ZERO, dict(params), now_ms, now_ms,
        )  # fmt: skip
        ticker = self._stores[spec.market].book_ticker(spec.symbol, now_ms)
        if reached(kind, side == "BUY", algo.trigger_price, ticker):
            raise ApiError(-2021, "Order would immediately trigger.")
        self._orders[number] = self._open[number] = algo
        self._changed(algo, "NEW", now_ms)
        return algo

    def cancel(self, algo: AlgoOrder | None, now_ms: int) -> AlgoOrder:
        """Cancel a waiting conditional order.

        Raises: ApiError -2011 when there is none.
        """
        if algo is None or algo.status != "NEW":
            raise ApiError(-2011, "Unknown order sent.")
        self._changed(algo, "CANCELED", now_ms)
        return algo

    def match(self, now_ms: int) -> None:
        """Trigger what has reached its price, end what was good till now."""
        for algo in list(self._open.values()):
            store = self._stores[algo.market]
            spec = store.spec(algo.symbol)
            if algo.text("timeInForce", "") == "GTD" and 0 < algo.good_till_ms <= now_ms:
                self._changed(algo, "EXPIRED", now_ms)
            elif spec is not None and spec.status == "TRADING":
                ticker = store.book_ticker(algo.symbol, now_ms)
                if reached(algo.type, algo.side == "BUY", algo.trigger_price, ticker):
                    self.trigger(algo, now_ms)

    def trigger(self, algo: AlgoOrder, now_ms: int) -> None:
        """Make a normal order of a waiting one."""
        if algo.status != "NEW":
            return
        algo.trigger_ms = now_ms
        self._changed(algo, "TRIGGERING", now_ms)
        try:
            order = self._made(algo)
            self._desk.admit(order, algo.account, now_ms)
        except ApiError as error:
            algo.reason = error.msg
            self._changed(algo, "REJECTED", now_ms)
            event = trigger_reject(algo.symbol, algo.algo_id, error.msg, now_ms)
            self._tell(algo.market, algo.account, event)
            return
        algo.order = order
        self._became[order] = algo
        self._changed(algo, "TRIGGERED", now_ms)
        self._desk.begin(order, now_ms)

    def _made(self, algo: AlgoOrder) -> Order:
        spec = self._stores[algo.market].spec(algo.symbol)
        if spec is None:
            raise ApiError(-1121, "Invalid symbol.")
        is_market = algo.type.endswith("_MARKET")
        params = dict(algo.params) | {"type": "MARKET" if is_market else "LIMIT"}
        params |= {"newClientOrderId": algo.client_id, "timeInForce": algo.text("timeInForce", "GTC")}
        params.pop("closePosition", None)
        if algo.flag("closePosition"):
            qty = self._desk.held(algo.market, algo.account, algo.symbol, algo.text("positionSide", "BOTH"))
            params |= {"quantity": plain(abs(qty)), "reduceOnly": "true"}
            if not qty:
                raise ApiError(-2022, "ReduceOnly Order is rejected.")
        order = read_order(spec, params)
        order.close_position = algo.flag("closePosition")
        return order

    def _heard(self, order: Order, what: str, now_ms: int) -> None:
        if not order.is_open and order in self._became:
            self._changed(self._became.pop(order), "FINISHED", now_ms)

    def _changed(self, algo: AlgoOrder, status: str, now_ms: int) -> None:
        algo.status, algo.update_ms = status, now_ms
        if status in ("NEW", "TRIGGERING"):
            row = Row(algo.create_ms, algo.algo_id, algo.symbol, orjson.dumps(self.row(algo)))
        else:
            row = None
            self._open.pop(algo.algo_id, None)
        self.journal(algo.market, algo.account).note(now_ms, (algo.symbol, algo.algo_id), row)
        event = futures_event("ALGO_UPDATE", algo.market, now_ms, now_ms, o=_told(algo))
        self._tell(algo.market, algo.account, event)

    def row(self, algo: AlgoOrder) -> dict[str, Any]:
        """Return one as REST shows it."""
        spec = self._stores[algo.market].spec(algo.symbol)
        is_plain = self._texts == "plain" or spec is None
        ticks, lots = (0, 0) if is_plain or spec is None else (spec.price_decimals, spec.qty_decimals)
        actual = algo.order.average(spec) if algo.order is not None else ZERO
        return {
            "algoId": algo.algo_id,
            "clientAlgoId": algo.client_id,
            "algoType": algo.text("algoType", "CONDITIONAL"),
            "orderType": algo.type,
            "symbol": algo.symbol,
            "side": algo.side,
            "positionSide": algo.text("positionSide", "BOTH"),
            "timeInForce": algo.text("timeInForce", "GTC"),
            "quantity": padded(algo.qty, lots),
            "algoStatus": algo.status,
            "actualOrderId": algo.actual_id,
            "actualPrice": padded(actual, ticks),
            "triggerPrice": padded(algo.trigger_price, ticks),
            "price": padded(algo.price, ticks),
            "icebergQuantity": None,
            "tpTriggerPrice": padded(ZERO, ticks),
            "tpPrice": padded(ZERO, ticks),
            "slTriggerPrice": padded(ZERO, ticks),
            "slPrice": padded(ZERO, ticks),
            "tpOrderType": "",
            "selfTradePreventionMode": algo.text("selfTradePreventionMode", "EXPIRE_MAKER"),
            "workingType": algo.text("workingType", "CONTRACT_PRICE"),
            "priceMatch": algo.text("priceMatch", "NONE"),
            "closePosition": algo.flag("closePosition"),
            "priceProtect": algo.flag("priceProtect"),
            "reduceOnly": algo.flag("reduceOnly"),
            "createTime": algo.create_ms,
            "updateTime": algo.update_ms,
            "triggerTime": algo.trigger_ms,
            "goodTillDate": algo.good_till_ms,
        }


def _told(algo: AlgoOrder) -> Event:
    actual = algo.order.average(None) if algo.order is not None else ZERO
    done = algo.order.executed if algo.order is not None else ZERO
    told: Event = {
        "caid": algo.client_id, "aid": algo.algo_id, "at": algo.text("algoType", "CONDITIONAL"),
        "o": algo.type, "s": algo.symbol, "S": algo.side, "ps": algo.text("positionSide", "BOTH"),
        "f": algo.text("timeInForce", "GTC"), "q": plain(algo.qty), "X": algo.status, "ai": algo.actual_id,
    }  # fmt: skip
    if algo.order is not None:
        kind = "MARKET" if algo.type.endswith("_MARKET") else "LIMIT"
        told |= {"ap": plain(actual), "aq": plain(done), "act": kind}
    return told | {
        "tp": plain(algo.trigger_price), "p": plain(algo.price),
        "V": algo.text("selfTradePreventionMode", "EXPIRE_MAKER"),
        "wt": algo.text("workingType", "CONTRACT_PRICE"), "pm": algo.text("priceMatch", "NONE"),
        "cp": algo.flag("closePosition"), "pP": algo.flag("priceProtect"), "R": algo.flag("reduceOnly"),
        "tt": algo.trigger_ms, "gtd": algo.good_till_ms, "rm": algo.reason,
    }  # fmt: skip
