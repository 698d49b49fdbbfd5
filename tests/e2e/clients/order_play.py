"""Random orders of one client library: placed, amended, cancelled, and the open orders asked for after each.

Imported by the `*_orders.py` scripts beside it; it knows nothing of libraries. Whether what was told was true
is judged by tests/e2e/test_accounts_clients.py.
"""

import random
import time

# Prices at which nothing is filled.
PRICES = {"BTC": ((40_000, 60_000), (150_000, 200_000)), "ETH": ((1_000, 1_500), (6_000, 8_000))}
MOST_OPEN = 10


class Play:
    """One market.

    Shape: `place(symbol, side, quantity, price)` and `amend(order, quantity, price)` return the order's number;
        an order is (symbol, number, side, quantity, price). `open_orders(symbol)` returns Binance's rows, those
        of all symbols for None.
    """

    def __init__(self, symbols, quantities, place, amend, cancel, open_orders):
        self.symbols, self.quantities = symbols, quantities
        self.place, self.amend, self.cancel, self.open_orders = place, amend, cancel, open_orders
        self.orders, self.seen = [], []
        self.counts = {"place": 0, "amend": 0, "cancel": 0}

    def run(self, count, seed):
        """Place `count` orders and do something with most of them; return what was seen."""
        dice = random.Random(seed)
        while self.counts["place"] < count or self.orders:
            is_last = self.counts["place"] == count
            if not is_last and (not self.orders or (dice.random() < 0.5 and len(self.orders) < MOST_OPEN)):
                self._place(dice)
            elif dice.random() < 0.35 and not is_last:
                self._amend(dice)
            else:
                symbol, number, *_ = self.orders.pop(dice.randrange(len(self.orders)))
                self.cancel(symbol, number)
                self.counts["cancel"] += 1
            self._look(dice)
        return {"seen": self.seen, **self.counts}

    def _price(self, symbol, side, dice):
        low, high = PRICES[symbol[:3]][side == "SELL"]
        return round(dice.uniform(low, high), 1)

    def _place(self, dice):
        symbol, side = dice.choice(self.symbols), dice.choice(("BUY", "SELL"))
        quantity, price = dice.choice(self.quantities[1:]), self._price(symbol, side, dice)
        number = self.place(symbol, side, quantity, price)
        self.orders.append((symbol, number, side, quantity, price))
        self.counts["place"] += 1

    def _amend(self, dice):
        place = dice.randrange(len(self.orders))
        symbol, number, side, *_ = order = self.orders[place]
        quantity, price = self.quantities[0], self._price(symbol, side, dice)
        if order[3] == quantity:
            return  # what has been amended stays as it is
        number = self.amend(order, quantity, price)
        self.orders[place] = (symbol, number, side, quantity, price)
        self.counts["amend"] += 1

    def _look(self, dice):
        symbol = dice.choice(self.symbols) if dice.random() < 0.4 else None
        start_ms = time.time_ns() // 1_000_000
        rows = self.open_orders(symbol)
        self.seen.append(
            {"symbol": symbol, "start": start_ms, "end": time.time_ns() // 1_000_000, "rows": rows}
        )
