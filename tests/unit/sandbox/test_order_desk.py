"""Orders of the simulated accounts: prices, balances, and events that tell all that REST shows."""

from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.model import ApiError

NOW = 1_791_374_430_500
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}
OPEN = ("NEW", "PARTIALLY_FILLED", "PENDING_NEW")
LIMIT = {"type": "LIMIT", "timeInForce": "GTC"}


class World:
    """An exchange without sockets, with a hand-moved clock."""

    def __init__(self, market=Market.SPOT, **config):
        self.now = NOW
        self.market = market
        config.setdefault("spot_symbols", ["BTCUSDT", "ETHUSDT", "ETHBTC"])
        config.setdefault("um_symbols", ["BTCUSDT", "ETHUSDT"])
        config.setdefault("cm_symbols", ["BTCUSD_PERP"])
        self.exchange = Exchange(SandboxConfig(clock_ms=lambda: self.now, **config))
        self.desk = self.exchange.desk
        self.account = self.exchange.accounts.of(API_KEY)

    def price(self, side="BUY", off=0, symbol=""):
        """Return a price: what the side would take now, `off` per cent worse for it."""
        store = self.exchange.stores[self.market]
        symbol = symbol or SYMBOL[self.market]
        ticker = store.book_ticker(symbol, self.now)
        best = Decimal(ticker.ask if side == "BUY" else ticker.bid)
        change = 1 + Decimal(str(-off if side == "BUY" else off)) / 100
        tick = Decimal(1).scaleb(-store.spec(symbol).price_decimals)
        return str((best * change).quantize(tick))

    def place(self, side="BUY", off=5, qty="0.3", symbol="", **more):
        symbol = symbol or SYMBOL[self.market]
        params = {"symbol": symbol, "side": side, "quantity": qty, **LIMIT}
        params |= {"price": self.price(side, off, symbol)} | more
        params = {name: value for name, value in params.items() if value is not None}
        spec = self.exchange.stores[self.market].spec(symbol)
        return self.desk.place(spec, params, self.account.name, self.now)

    def events(self, name="executionReport"):
        return [event for _, _, event in self.exchange.feed.told if event["e"] == name]

    def steps(self):
        """List what was told of orders: execution and status."""
        told = [event.get("o") for event in self.events("ORDER_TRADE_UPDATE")] or self.events()
        return [(one["x"], one["X"]) for one in told]

    def rows(self):
        return orjson.loads(self.exchange.open_orders_bytes(self.market, API_KEY))

    def balance(self, asset):
        held = self.account.balance(asset)
        return held.free, held.locked


def refused(code):
    return pytest.raises(ApiError, match=str(code))


# -- matching ------------------------------------------------------------------------------


def test_resting_order_fills_in_steps_at_its_own_price_once_the_market_is_there():
    for number in range(6):
        world = World(seed=number + 1)
        order = world.place(off=0.2, qty="0.3")
        assert order.status == "NEW"
        world.exchange.match()
        assert order.status == "NEW"
        until = world.now + 86_400_000
        while order.status == "NEW" and world.now < until:
            world.now += 60_000
            world.exchange.match()
        first = world.now
        world.exchange.match()
        world.now += 119
        world.exchange.match()
        assert len(order.fills) == 1, "the next part comes 120 ms later"
        while order.is_open:
            world.now += 1
            world.exchange.match()
        assert 1 <= len(order.fills) <= 3
        assert world.now <= first + 241
        assert {fill.price for fill in order.fills} == {order.price}
        assert all(fill.is_maker for fill in order.fills)
        assert world.steps()[-1] == ("TRADE", "FILLED")
        assert world.rows() == []


def test_number_of_parts_follows_from_seed_and_order_id():
    def parts(seed):
        world = World(seed=seed)
        orders = [world.place(off=0.01) for _ in range(9)]
        while any(order.is_open for order in orders):
            world.now += 500
            world.exchange.match()
        return [len(order.fills) for order in orders]

    assert parts(3) == parts(3)
    assert set(parts(3)) == {1, 2, 3}


def test_marketable_limit_takes_at_once_at_the_better_price():
    world = World()
    order = world.place(off=-3)
    assert (order.status, order.fills[0].price) == ("FILLED", Decimal(world.price()))
    assert not order.fills[0].is_maker
    assert world.steps() == [("NEW", "NEW"), ("TRADE", "FILLED")]


def test_limit_maker_and_post_only_never_take():
    with refused(-2010) as caught:
        World().place(off=-1, type="LIMIT_MAKER", timeInForce=None)
    assert caught.value.msg == "Order would immediately match and take."
    with refused(-5022):
        World(Market.UM).place(off=-1, timeInForce="GTX")
    assert World().place(off=1, type="LIMIT_MAKER", timeInForce=None).status == "NEW"


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
def test_ioc_takes_what_is_there_and_fok_all_or_nothing(market):
    world = World(market)
    shown = Decimal(world.exchange.stores[market].book_ticker("BTCUSDT", NOW).ask_qty)
    more = str(shown + 1)
    order = world.place(off=-1, qty=more, timeInForce="IOC")
    assert (order.status, order.executed) == ("EXPIRED", shown)
    assert world.steps() == [("NEW", "NEW"), ("TRADE", "PARTIALLY_FILLED"), ("EXPIRED", "EXPIRED")]
    assert world.place(off=-1, qty=more, timeInForce="FOK").fills == []
    assert world.place(off=-1, qty=str(shown), timeInForce="FOK").status == "FILLED"
    assert world.place(off=5, timeInForce="IOC").status == "EXPIRED"
    assert world.rows() == []


def test_good_till_date_ends_at_its_time():
    world = World(Market.UM)
    order = world.place(timeInForce="GTD", goodTillDate=str(NOW + 700_000))
    world.now += 699_999
    world.exchange.match()
    assert order.is_open
    world.now += 1
    world.exchange.match()
    assert order.status == "EXPIRED"


def test_order_of_a_halted_or_delisted_symbol_rests_and_can_be_cancelled():
    world = World()
    order = world.place(off=0.01)
    world.exchange.stores[Market.SPOT].halt("BTCUSDT", world.now)
    with refused(-1013):
        world.place()
    world.now += 3_600_000
    world.exchange.match()
    assert order.status == "NEW"
    world.exchange.stores[Market.SPOT].delist("BTCUSDT", world.now)
    world.exchange.match()
    world.desk.cancel(order, world.now)
    assert world.balance("USDT")[1] == 0


@pytest.mark.parametrize(
    ("kind", "side", "off", "extra"),
    [
        ("STOP_LOSS", "SELL", -0.02, {}),
        ("STOP_LOSS", "BUY", -0.02, {}),
        ("TAKE_PROFIT", "SELL", 0.02, {}),
        ("TAKE_PROFIT_LIMIT", "BUY", 0.02, {"timeInForce": "GTC"}),
        ("STOP_LOSS_LIMIT", "SELL", -0.02, {"timeInForce": "GTC"}),
    ],
)
def test_spot_stop_waits_and_works_once_triggered(kind, side, off, extra):
    world = World()
    stop = world.price(side, off)
    price = stop if kind.endswith("LIMIT") else None
    order = world.place(side, type=kind, stopPrice=stop, price=price, **{"timeInForce": None, **extra})
    row = world.rows()[0]
    assert (row["isWorking"], row["workingTime"], row["stopPrice"][:-6]) == (False, -1, stop)
    assert [e["w"] for e in world.events()] == [False]
    assert "W" not in world.events()[0]
    for _ in range(5_000):
        if not order.is_waiting:
            break
        world.now += 60_000
        world.exchange.match()
    assert not order.is_waiting
    working = world.events()[1]
    assert (working["x"], working["w"], working["W"]) == ("NEW", True, order.working_ms)
    assert order.type == kind
    if not kind.endswith("LIMIT"):
        assert order.status == "FILLED"


def test_stop_that_would_trigger_at_once_is_refused_in_each_markets_words():
    world = World()
    with refused(-2010) as caught:
        world.place("SELL", type="STOP_LOSS", stopPrice=world.price("SELL", 2), price=None, timeInForce=None)
    assert caught.value.msg == "Stop price would trigger immediately."
    world = World(Market.CM)
    with refused(-2021):
        world.place("SELL", qty="1", type="STOP_MARKET", stopPrice=world.price("SELL", 2), price=None)


@pytest.mark.parametrize("expires", [False, True])
def test_coin_m_stop_becomes_a_normal_order_with_its_old_type_kept(expires):
    world = World(Market.CM, stop_expires_first=expires)
    stop = world.price("BUY", -2)
    order = world.place("BUY", qty="3", type="STOP", stopPrice=stop, price=world.price("BUY", 4))
    world.desk.trigger(order, world.now)
    assert (order.type, order.orig_type, order.status) == ("LIMIT", "STOP", "NEW")
    told = world.events("ORDER_TRADE_UPDATE")
    assert [event["o"]["x"] for event in told] == ["NEW", *(["EXPIRED"] if expires else []), "NEW"]
    assert (told[-1]["o"]["o"], told[-1]["o"]["ot"], told[-1]["o"]["ma"]) == ("LIMIT", "STOP", "BTC")
    assert told[-1]["i"]
    order = world.place("SELL", qty="3", type="STOP_MARKET", stopPrice=world.price("SELL", -2), price=None)
    world.exchange.fill(order)
    assert order.status == "FILLED"


# -- balances ------------------------------------------------------------------------------


def test_buys_lock_quote_and_sells_lock_base():
    world = World()
    free = world.balance("USDT")[0]
    order = world.place("BUY", off=5, qty="0.5")
    cost = order.price * order.qty
    assert world.balance("USDT") == (free - cost, cost)
    world.exchange.fill(order, "0.2")
    assert world.balance("USDT") == (free - cost, order.price * Decimal("0.3"))
    assert world.balance("BTC")[0] == 1 + Decimal("0.2") * Decimal("0.999")
    world.desk.cancel(order, world.now)
    assert world.balance("USDT") == (free - order.price * Decimal("0.2"), 0)
    world.place("SELL", off=5, qty="0.7")
    assert world.balance("BTC")[1] == Decimal("0.7")


def test_short_balance_is_refused_and_nothing_is_left_behind():
    world = World(balances={"spot": {"USDT": "100", "BTC": "0.001"}})
    for side, kind in (("BUY", "LIMIT"), ("SELL", "LIMIT"), ("BUY", "MARKET"), ("SELL", "MARKET")):
        with refused(-2010) as caught:
            price = {"price": None, "timeInForce": None} if kind == "MARKET" else {}
            world.place(side, qty="0.01", type=kind, **price)
        assert caught.value.msg == "Account has insufficient balance for requested action."
    assert (world.rows(), world.balance("USDT"), world.balance("BTC")[1]) == ([], (100, 0), 0)
    assert not world.exchange.feed.told


def test_price_better_than_the_limit_gives_the_rest_back():
    world = World()
    free = world.balance("USDT")[0]
    order = world.place(off=-4, qty="0.5")
    assert world.balance("USDT") == (free - order.quote, 0)


def test_deposit_and_outer_lock_are_told_and_followed_by_the_position():
    world = World()
    world.exchange.deposit(API_KEY, "SOL", "5.5")
    world.exchange.lock_outside(API_KEY, "SOL", "1.5")
    told = [event for _, _, event in world.exchange.feed.told]
    assert [event["e"] for event in told] == [
        "balanceUpdate", "outboundAccountPosition", "externalLockUpdate", "outboundAccountPosition",
    ]  # fmt: skip
    assert told[0] == {"e": "balanceUpdate", "E": NOW, "a": "SOL", "d": "5.50000000", "T": NOW}
    assert told[-1]["B"] == [{"a": "SOL", "f": "4.00000000", "l": "1.50000000"}]
    world.exchange.deposit(API_KEY, "USDT", "-50", Market.UM)
    last = world.exchange.feed.told[-1][2]
    assert (last["a"]["m"], last["a"]["B"]) == (
        "WITHDRAW", [{"a": "USDT", "wb": "99950", "cw": "99950", "bc": "-50"}],
    )  # fmt: skip


# -- positions -----------------------------------------------------------------------------


def test_position_is_weighted_closed_and_turned_with_its_profit():
    world = World(Market.UM)
    for side, qty, price in (
        ("BUY", "1", "100"),
        ("BUY", "3", "200"),
        ("SELL", "2", "205"),
        ("SELL", "4", "165"),
    ):
        order = world.place(side, off=50, qty=qty)
        world.exchange.fill(order, price=price)
    held = world.account.position(Market.UM, "BTCUSDT")
    assert (held.amount, held.entry, held.realized) == (-2, 165, 60 - 20)
    told = [event["o"]["rp"] for event in world.events("ORDER_TRADE_UPDATE") if event["o"]["x"] == "TRADE"]
    assert told == ["0", "0", "60", "-20"]
    update = world.events("ACCOUNT_UPDATE")[-1]["a"]
    assert update["P"][0] | {"bep": ""} == {
        "s": "BTCUSDT", "pa": "-2", "ep": "165", "bep": "", "cr": "40", "up": "0", "mt": "cross", "iw": "0",
        "ps": "BOTH",
    }  # fmt: skip
    fees = sum((fill.commission for order in world.desk.book(Market.UM, world.account.name).values()
                for fill in order.fills), Decimal(0))  # fmt: skip
    assert world.account.wallets[Market.UM]["USDT"] == 100_000 + 40 - fees


def test_reduce_only_needs_a_position_to_reduce():
    world = World(Market.UM)
    with refused(-2022):
        world.place("SELL", reduceOnly="true")
    world.place("BUY", off=-1)
    assert world.place("SELL", reduceOnly="true").reduce_only


# -- changes -------------------------------------------------------------------------------


def test_modified_order_keeps_its_place_and_may_fill_at_its_new_price():
    world = World(Market.UM)
    order = world.place(off=5, qty="2")
    with refused(-5027):
        world.desk.modify(order, order.price, order.qty, world.now)
    world.now += 10
    world.desk.modify(order, Decimal(world.price("BUY", 4)), Decimal(3), world.now)
    told = world.events("ORDER_TRADE_UPDATE")[-1]["o"]
    assert (told["x"], told["X"], told["q"], told["T"]) == ("AMENDMENT", "NEW", "3", world.now)
    world.exchange.fill(order, "1")
    world.desk.modify(order, Decimal(world.price("BUY", -1)), Decimal(3), world.now)
    assert order.status == "FILLED"
    order = world.place(off=5, qty="2")
    world.exchange.fill(order, "1")
    world.desk.modify(order, order.price, Decimal(1), world.now)
    assert order.status == "CANCELED"


def test_order_ids_repeat_across_symbols_and_never_within_one():
    world = World()
    one, other, third = world.place(), world.place(symbol="ETHUSDT"), world.place()
    assert one.order_id == other.order_id != third.order_id
    found = world.desk.find(Market.SPOT, world.account.name, "ETHUSDT", {"orderId": str(one.order_id)})
    assert found is other


# -- events tell everything -----------------------------------------------------------------

SPOT_FIELDS = {
    "symbol": "s", "orderId": "i", "orderListId": "g", "clientOrderId": "c", "price": "p", "origQty": "q",
    "executedQty": "z", "cummulativeQuoteQty": "Z", "status": "X", "timeInForce": "f", "type": "o",
    "side": "S", "stopPrice": "P", "icebergQty": "F", "time": "O", "updateTime": "T", "isWorking": "w",
    "origQuoteOrderQty": "Q", "selfTradePreventionMode": "V",
}  # fmt: skip
FUTURES_FIELDS = {
    "symbol": "s", "orderId": "i", "clientOrderId": "c", "price": "p", "avgPrice": "ap", "origQty": "q",
    "executedQty": "z", "status": "X", "side": "S", "positionSide": "ps", "type": "o", "origType": "ot",
    "timeInForce": "f", "reduceOnly": "R", "closePosition": "cp", "stopPrice": "sp", "workingType": "wt",
    "priceProtect": "pP", "priceMatch": "pm", "selfTradePreventionMode": "V", "updateTime": "T",
}  # fmt: skip

step = st.tuples(
    st.sampled_from(
        ["place", "take", "stop", "cancel", "fill", "part", "match", "amend", "oco", "otoco", "list"]
    ),
    st.booleans(),
    st.integers(0, 9),
)


def act(world, what, is_buy, number):
    side, market = "BUY" if is_buy else "SELL", world.market
    qty = "2" if market is Market.CM else "0.02"
    open_orders = world.desk.open_orders(market, world.account.name)
    chosen = open_orders[number % len(open_orders)] if open_orders else None
    world.now += number * 40
    if what in ("place", "take"):
        world.place(side, off=(number + 1) / 10 if what == "place" else -1, qty=qty)
    elif what == "stop" and market is Market.CM:
        world.place(side, off=1, qty=qty, type="STOP", stopPrice=world.price(side, -number / 10 - 0.1))
    elif what == "stop" and market is Market.SPOT:
        stop = world.price(side, -number / 10 - 0.1)
        world.place(side, qty=qty, type="STOP_LOSS", stopPrice=stop, price=None, timeInForce=None)
    elif what == "match":
        world.exchange.match()
    elif chosen is None:
        pass
    elif what == "cancel":
        world.desk.cancel(chosen, world.now)
    elif what == "fill":
        world.exchange.fill(chosen)
    elif what == "part":
        world.exchange.fill(chosen, "1" if market is Market.CM else "0.003")
    elif what == "amend" and market is Market.SPOT:
        smaller = chosen.qty - Decimal("0.001")
        if smaller > chosen.executed and chosen.list_id == -1:
            world.desk.reduce(chosen, smaller, f"new{world.now}-{number}", world.now)
    elif what == "amend":
        world.desk.modify(
            chosen, chosen.price, chosen.qty + (1 if market is Market.CM else Decimal("0.001")), world.now
        )
    if market is Market.SPOT and what in ("oco", "otoco"):
        place_list(world, what, side, number)
    if market is Market.SPOT and what == "list" and chosen is not None:
        one = world.exchange.lists.find(world.account.name, str(chosen.list_id), "")
        if one is not None:
            world.exchange.lists.cancel(one, world.now)


def place_list(world, what, side, number):
    pair = {"Type": "LIMIT_MAKER", "Price": world.price(side, 1 + number)}
    stop = {"Type": "STOP_LOSS", "StopPrice": world.price(side, -1 - number)}
    above, below = (pair, stop) if side == "SELL" else (stop, pair)
    head, params = "", {"symbol": "BTCUSDT", "side": side, "quantity": "0.02"}
    if what == "otoco":
        head = "pending"
        params |= {"pendingSide": side, "pendingQuantity": "0.02", "workingType": "LIMIT",
                   "workingTimeInForce": "GTC", "workingSide": "BUY", "workingQuantity": "0.02",
                   "workingPrice": world.price("BUY", number - 4)}  # fmt: skip
    for name, leg in (("above", above), ("below", below)):
        name = f"{head}{name.capitalize()}" if head else name
        params |= {f"{name}{field}": value for field, value in leg.items()}
    lists, spec = world.exchange.lists, world.exchange.stores[Market.SPOT].spec("BTCUSDT")
    place = lists.place_oco if what == "oco" else lists.place_otoco
    place(spec, params, world.account.name, world.now)


def folded(world):
    """Make REST rows of open orders out of nothing but the events."""
    is_spot = world.market is Market.SPOT
    fields = SPOT_FIELDS if is_spot else FUTURES_FIELDS
    seen, made = {}, {}
    for event in world.events("executionReport" if is_spot else "ORDER_TRADE_UPDATE"):
        order = event if is_spot else event["o"]
        key = order["s"], order["i"]
        row = {name: order[short] for name, short in fields.items()}
        if is_spot:
            row["workingTime"] = order.get("W", -1)
        else:
            row["time"] = made.setdefault(key, event["T"])
        if order["X"] in OPEN:
            seen[key] = row
        else:
            seen.pop(key, None)
    return sorted(seen.values(), key=lambda row: (row["time"], row["orderId"]))


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=1, max_size=25))
def test_events_alone_make_what_rest_shows_and_balances_add_up(market, steps):
    world = World(market, futures_texts="plain")
    for what, is_buy, number in steps:
        with suppress(ApiError):
            act(world, what, is_buy, number)
    rows = world.rows()
    wanted = folded(world)
    shown = [{name: row[name] for name in wanted[0]} for row in rows] if wanted else rows
    assert shown == wanted
    open_orders = world.desk.open_orders(market, world.account.name)
    assert [row["orderId"] for row in rows] == [order.order_id for order in open_orders]
    assert world.exchange.open_orders_history(market, API_KEY)[-1][1] == orjson.dumps(rows)
    if market is Market.SPOT:
        check_balances(world, open_orders)
    else:
        check_wallet(world)


def check_balances(world, open_orders):
    change = defaultdict(Decimal)
    for order in world.desk.book(Market.SPOT, world.account.name).values():
        sign = 1 if order.is_buy else -1
        for fill in order.fills:
            change["BTC"] += sign * fill.qty
            change["USDT"] -= sign * fill.quote
            change[fill.commission_asset] -= fill.commission
    locked = defaultdict(Decimal)
    for order in open_orders:
        assert order.locked >= 0
        locked["USDT" if order.is_buy else "BTC"] += order.locked
    for asset, start in (("BTC", 1), ("USDT", 100_000_000)):
        held = world.account.balance(asset)
        assert held.free + held.locked == start + change[asset]
        assert (held.locked, held.free >= 0) == (locked[asset], True)
    told = {row["a"]: row for event in world.events("outboundAccountPosition") for row in event["B"]}
    for asset, row in told.items():
        held = world.account.balance(asset)
        assert (row["f"], row["l"]) == (f"{held.free:.8f}", f"{held.locked:.8f}")


def check_wallet(world):
    told = world.events("ACCOUNT_UPDATE")
    if told:
        asset = "USDT" if world.market is Market.UM else "BTC"
        held = world.account.position(world.market, SYMBOL[world.market])
        last = told[-1]["a"]
        assert Decimal(last["B"][0]["wb"]) == world.account.wallets[world.market][asset]
        assert (Decimal(last["P"][0]["pa"]), Decimal(last["P"][0]["ep"])) == (held.amount, held.entry)
