"""The signed routes of the futures hosts that are about the account: balances, positions, settings.

Handlers turn the account's state into JSON data; they own nothing. What no order changes (margins,
unrealised profits) is constant here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from resender.core.binance.markets import Market

from .accounts import Account, Position
from .decimals import plain
from .exchange import Exchange
from .market import MarketStore
from .model import ApiError, Context, Route
from .signing import mandatory
from .user_events import account_update, config_update

_TEN = Decimal("0.00000001")


class FuturesAccount:
    """Account routes of one futures host, and what all its handlers share."""

    def __init__(self, exchange: Exchange, market: Market, host: str) -> None:
        self.exchange = exchange
        self.market = market
        self.host = host
        self.is_cm = market is Market.CM
        self.store: MarketStore = exchange.stores[market]

    def symbol(self, text: str) -> str:
        if not text:
            raise mandatory("symbol")
        if text.upper() not in self.store.series:
            raise ApiError(-1121, "Invalid symbol.")
        return text.upper()

    def holder(self, ctx: Context) -> Account:
        return self.exchange.accounts.get(ctx.account)

    def _wallet(self, ctx: Context) -> list[tuple[str, str]]:
        wallet = self.holder(ctx).wallets.get(self.market, {})
        return [(asset, f"{amount:.8f}") for asset, amount in wallet.items()]

    def balance(self, ctx: Context) -> Any:
        return [
            {
                "accountAlias": "SgsR",
                "asset": asset,
                "balance": amount,
                "crossWalletBalance": amount,
                "crossUnPnl": "0.00000000",
                "availableBalance": amount,
                ("withdrawAvailable" if self.is_cm else "maxWithdrawAmount"): amount,
                "updateTime": ctx.now_ms,
            }
            for asset, amount in self._wallet(ctx)
        ]

    def account(self, ctx: Context) -> Any:
        wallet = self._wallet(ctx)
        total = wallet[0][1] if wallet else "0.00000000"
        zeros = (
            "unrealizedProfit", "maintMargin", "initialMargin", "positionInitialMargin",
            "openOrderInitialMargin", "crossUnPnl",
        )  # fmt: skip
        held = (
            "walletBalance",
            "marginBalance",
            "crossWalletBalance",
            "availableBalance",
            "maxWithdrawAmount",
        )
        sums = (
            "totalInitialMargin", "totalMaintMargin", "totalUnrealizedProfit", "totalPositionInitialMargin",
            "totalOpenOrderInitialMargin", "totalCrossUnPnl",
        )  # fmt: skip
        totals = (
            "totalWalletBalance", "totalMarginBalance", "totalCrossWalletBalance", "availableBalance",
            "maxWithdrawAmount",
        )  # fmt: skip
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "multiAssetsMargin": False,
            "updateTime": 0,
            **dict.fromkeys(sums, "0.00000000"),
            **dict.fromkeys(totals, total),
            "assets": [
                {
                    "asset": asset,
                    **dict.fromkeys(zeros, "0.00000000"),
                    **dict.fromkeys(held, amount),
                    "updateTime": ctx.now_ms,
                }
                for asset, amount in wallet
            ],
            "positions": self.positions(ctx),
        }

    def positions(self, ctx: Context) -> Any:
        wanted, account = ctx.get("symbol").upper(), self.holder(ctx)
        only_open = ctx.call.path.startswith("/fapi/v3") or ctx.call.path.endswith("/account")
        sides = ("LONG", "SHORT") if account.is_dual.get(self.market) else ("BOTH",)
        rows = []
        for spec in self.store.symbols:
            for side in sides:
                held = account.positions.get((self.market, spec.symbol, side), Position())
                if (wanted and spec.symbol != wanted) or (only_open and not held.amount):
                    continue
                is_isolated = (self.market, spec.symbol) in account.isolated
                mark = self.store.book_ticker(spec.symbol, ctx.now_ms).ask
                rows.append(
                    {
                        "symbol": spec.symbol,
                        "positionAmt": plain(held.amount),
                        "entryPrice": plain(held.entry) if held.entry else "0.0",
                        "breakEvenPrice": plain(held.entry) if held.entry else "0.0",
                        "markPrice": mark,
                        "unRealizedProfit": "0.00000000",
                        "liquidationPrice": "0",
                        "leverage": str(account.leverage.get((self.market, spec.symbol), 20)),
                        "maxNotionalValue": "25000",
                        "marginType": "isolated" if is_isolated else "cross",
                        "isolatedMargin": "0.00000000",
                        "isAutoAddMargin": "false",
                        "positionSide": side,
                        "notional": f"{(held.amount * Decimal(mark)).quantize(_TEN):f}",
                        "isolatedWallet": "0",
                        "updateTime": held.update_ms or ctx.now_ms,
                    }
                )
        return rows

    def leverage(self, ctx: Context) -> Any:
        symbol = self.symbol(ctx.get("symbol"))
        text = ctx.get("leverage")
        if not text.isdigit() or not 1 <= int(text) <= 125:
            raise ApiError(-4028, f"Leverage {text} is not valid")
        self.holder(ctx).leverage[self.market, symbol] = int(text)
        event = config_update(self.market, symbol, int(text), ctx.now_ms)
        self.exchange.feed.tell(self.market, ctx.account, event)
        key = "maxQty" if self.is_cm else "maxNotionalValue"
        return {"symbol": symbol, "leverage": int(text), key: "1000000"}

    def leverage_bracket(self, ctx: Context) -> Any:
        bracket = {"bracket": 1, "initialLeverage": 125, "notionalCap": 50000, "notionalFloor": 0,
                   "maintMarginRatio": 0.004, "cum": 0.0}  # fmt: skip
        rows = [{"symbol": spec.symbol, "brackets": [bracket]} for spec in self.store.symbols]
        wanted = ctx.get("symbol").upper()
        return [row for row in rows if not wanted or row["symbol"] == wanted]

    def margin_type(self, ctx: Context) -> Any:
        symbol, account = self.symbol(ctx.get("symbol")), self.holder(ctx)
        if ctx.get("marginType") not in ("ISOLATED", "CROSSED"):
            raise ApiError(-1130, "Data sent for parameter 'marginType' is not valid.")
        place = self.market, symbol
        if (ctx.get("marginType") == "ISOLATED") is not (place in account.isolated):
            account.isolated ^= {place}
            held = account.positions.get((self.market, symbol, "BOTH"), Position())
            rows = [(symbol, "BOTH", held)]
            event = account_update(account, self.market, "MARGIN_TYPE_CHANGE", ctx.now_ms, {}, rows)
            self.exchange.feed.tell(self.market, ctx.account, event)
        return {"code": 200, "msg": "success"}

    def get_dual(self, ctx: Context) -> Any:
        return {"dualSidePosition": self.holder(ctx).is_dual.get(self.market, False)}

    def set_dual(self, ctx: Context) -> Any:
        self.holder(ctx).is_dual[self.market] = ctx.get("dualSidePosition").lower() == "true"
        return {"code": 200, "msg": "success"}

    # -- listen keys ---------------------------------------------------------------------------

    def create_key(self, ctx: Context) -> Any:
        return {"listenKey": self.exchange.listen_keys.create(self.host, ctx.account, ctx.now_ms)}

    def keep_key(self, ctx: Context) -> Any:
        key = self.exchange.listen_keys.keep(self.host, ctx.account, ctx.now_ms)
        if key is None:
            raise ApiError(-1125, "This listenKey does not exist.")
        return {"listenKey": key}

    def close_key(self, ctx: Context) -> Any:
        self.exchange.listen_keys.close(self.host, ctx.account)
        return {}

    def account_routes(self) -> dict[tuple[str, str], Route]:
        """Return the routes of this class, by method and path behind the version."""
        return {
            ("POST", "leverage"): Route(self.leverage, 1, "signed", required=("symbol", "leverage")),
            ("GET", "leverageBracket"): Route(self.leverage_bracket, 1, "signed"),
            ("POST", "marginType"): Route(self.margin_type, 1, "signed", required=("symbol", "marginType")),
            ("GET", "positionSide/dual"): Route(self.get_dual, 30, "signed"),
            ("POST", "positionSide/dual"): Route(self.set_dual, 1, "signed", required=("dualSidePosition",)),
            ("POST", "listenKey"): Route(self.create_key, 1, "key"),
            ("PUT", "listenKey"): Route(self.keep_key, 1, "key"),
            ("DELETE", "listenKey"): Route(self.close_key, 1, "key"),
        }
