"""From a received call to an answer: weight, key, signature, parameters, route.

Pure apart from the exchange's state; the HTTP server beside it moves the bytes. It
keeps nothing itself.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson

from .exchange import Exchange
from .model import ApiError, Call, Context, Placement, Reply, Route, Table, Violation
from .params import check_names, read_params
from .routes_futures import futures_table
from .routes_other import options_table, pm_table, sapi_table
from .routes_spot import spot_table
from .routes_spot_orders import spot_orders_table
from .signing import check_key, check_time
from .weights import POOL_OF_HOST, limit_text

_PLACEMENTS = (
    "/order", "/batchOrders", "/algoOrder", "/order/cancelReplace", "/order/oco", "/orderList/oco",
    "/orderList/oto", "/orderList/otoco",
)  # fmt: skip
_JSON = {"content-type": "application/json;charset=UTF-8"}


def error_reply(code: int, msg: str, status: int = 400, data: Any = None) -> Reply:
    """Return an error in Binance's form."""
    body = {"code": code, "msg": msg} if data is None else {"code": code, "msg": msg, "data": data}
    return Reply(status, orjson.dumps(body), dict(_JSON))


def echo(call: Call) -> Reply:
    """Return what arrived, for tests of byte faithfulness.

    Shape: `body` is latin-1 text, so that every byte has one character; `body_base64` too.
    """
    data = {
        "method": call.method,
        "target": call.target,
        "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in call.headers],
        "body": call.body.decode("latin-1"),
        "body_base64": base64.b64encode(call.body).decode(),
        "host": call.host,
    }
    return Reply(200, orjson.dumps(data), dict(_JSON))


class RestDesk:
    """Answers calls of all hosts."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        sapi = sapi_table(exchange)
        self._tables: dict[str, Table] = {
            "api": spot_table(exchange) | spot_orders_table(exchange) | sapi,
            "fapi": futures_table(exchange, "fapi"),
            "dapi": futures_table(exchange, "dapi"),
            "eapi": options_table(exchange),
            "papi": pm_table(exchange),
        }

    def answer(self, call: Call, is_trusted: bool = False) -> Reply:
        """Answer one call and book its weight; the signature of a trusted one has been checked already."""
        exchange, now = self._exchange, self._exchange.now()
        is_sapi = call.path.startswith("/sapi/")
        pool = "sapi" if is_sapi else POOL_OF_HOST[call.host]
        is_spot = call.host == "api"
        query = call.query
        body = call.body.decode("utf-8", "replace")
        params, problem = read_params(query, body, is_spot)
        route = self._tables[call.host].get((call.method, call.path))
        weight = self._weigh(route, params)
        verdict = exchange.pools.spend(call.peer, pool, weight, now)
        if verdict.was_closed:
            exchange.violations.append(Violation(call.peer, pool, verdict.status == 418, call))
        used = verdict.used
        if verdict.status:
            text = limit_text(call.host, call.peer, verdict, exchange.config.limit_of(pool))
            reply = error_reply(-1003, text, verdict.status)
            reply.headers["retry-after"] = str(verdict.retry_after_s)
        elif call.path.endswith("/echo"):
            reply = echo(call)
        elif route is None:
            reply = self._unknown_path(call)
        else:
            context = Context(call, call.host, params, now, call.header("x-mbx-apikey") or "")
            reply = self._run(route, context, problem, is_trusted)
            is_order = self._is_placement(call)
            if is_order and is_spot and reply.status == 200:
                # Source: spot changelog of 2026-03-27: a placed order costs nothing.
                used = exchange.pools.refund(call.peer, pool, weight, now)
        if is_sapi:
            reply.headers["x-sapi-used-ip-weight-1m"] = str(used)
        else:
            if is_spot:
                reply.headers["x-mbx-used-weight"] = str(used)
            if not call.path.endswith(("/fundingRate", "/fundingInfo")):  # seen without a weight header
                reply.headers["x-mbx-used-weight-1m"] = str(used)
        return reply

    @staticmethod
    def _weigh(route: Route | None, params: dict[str, str]) -> int:
        if route is None:
            return 1
        return route.weight if isinstance(route.weight, int) else route.weight(params)

    @staticmethod
    def _is_placement(call: Call) -> bool:
        return call.method == "POST" and call.path.endswith(_PLACEMENTS)

    def _check_permission(self, call: Call, api_key: str) -> None:
        # Reading is one permission, whatever changes something needs that of its market.
        needed = "enableSpotAndMarginTrading" if call.host == "api" else "enableFutures"
        if call.method == "GET":
            needed = "enableReading"
        if not self._exchange.accounts.key(api_key).permissions.get(needed, False):
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)

    def _run(self, route: Route, ctx: Context, problem: ApiError | None, is_trusted: bool) -> Reply:
        exchange = self._exchange
        call = ctx.call
        is_placement = self._is_placement(call)
        try:
            if problem is not None:
                raise problem
            if route.security != "none":
                ctx.api_key = check_key(ctx.api_key, exchange.accounts)
                ctx.account = exchange.accounts.of(ctx.api_key).name
            if route.security == "signed":
                signature = ctx.get("signature")
                if not signature and not is_trusted:
                    raise ApiError(
                        -1102,
                        "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.",
                    )
                check_time(ctx.params, ctx.now_ms)
                raw_query = call.query.encode("utf-8", "surrogateescape")
                if not is_trusted:
                    exchange.accounts.key(ctx.api_key).check(raw_query, call.body, signature)
                self._check_permission(call, ctx.api_key)
            check_names(route, ctx.params, call.host == "api")
            data = route.handler(ctx)
        except ApiError as error:
            if is_placement and not call.path.endswith("batchOrders"):
                placement = Placement(call.host, ctx.api_key, ctx.params, None, error.code)
                exchange.orders.append(placement)
            return error_reply(error.code, error.msg, error.status, error.data)
        if isinstance(data, Reply):
            return data
        body = data if isinstance(data, bytes) else orjson.dumps(data)
        return Reply(200, body, {**_JSON, **ctx.extra_headers})

    @staticmethod
    def _unknown_path(call: Call) -> Reply:
        if call.host == "api":
            html = b"<html><head><title>404 Not Found</title></head><body>404 Not Found</body></html>"
            return Reply(404, html, {"content-type": "text/html"})
        return error_reply(-5000, f"Path {call.path}, Method {call.method} is invalid", 404)
