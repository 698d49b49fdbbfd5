"""Call a gateway with ccxt and print what it returned, as one JSON document.

Run by tests/e2e/test_ccxt.py with the library's own Python: `ccxt_calls.py URL KEY SECRET HEADERS`.
"""

import json
import re
import sys

import ccxt

URL, KEY, SECRET, STRANGER = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
results = {}


def build(kind, **options):
    """Make an exchange object the way the README says; every address must lead to the gateway."""

    class Gateway(getattr(ccxt, kind)):
        def get_exceptions_by_url(self, url, *rest):
            # ccxt picks its error class by the name of Binance's host.
            url = re.sub(rf"^{re.escape(URL)}/(\w+)", r"https://\1.binance.com", url)
            return super().get_exceptions_by_url(url, *rest)

    exchange = Gateway({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
    exchange.options.update(options)
    for name, url in exchange.urls["api"].items():
        exchange.urls["api"][name] = re.sub(r"^https://(\w+)\.binance\.com", rf"{URL}/\1", url)
    astray = [url for url in exchange.urls["api"].values() if not url.startswith(URL + "/")]
    assert not astray, astray
    exchange.headers = dict(STRANGER)
    return exchange


def error_of(function, *arguments, **more):
    """Return what the library makes of an error."""
    try:
        function(*arguments, **more)
    except ccxt.BaseError as error:
        return {"classes": [cls.__name__ for cls in type(error).__mro__], "text": str(error)}
    return None


EXCHANGES = {
    "spot": ("binance", "BTC/USDT", 0.001),
    "um": ("binanceusdm", "BTC/USDT:USDT", 0.001),
    "cm": ("binancecoinm", "BTC/USD:BTC", 1),
}
built = {}
for name, (kind, symbol, amount) in EXCHANGES.items():
    exchange = built[name] = build(kind, fetchMargins=False)
    found = results[name] = {}
    found["markets"] = sorted(exchange.load_markets())
    found["currencies"] = sorted(exchange.currencies)
    found["ohlcv"] = exchange.fetch_ohlcv(symbol, "1m", limit=3)
    found["bids asks"] = exchange.fetch_bids_asks([symbol])[symbol]
    found["order"] = exchange.create_order(symbol, "limit", "buy", amount, 50000)
    found["open"] = exchange.fetch_open_orders(symbol)
    found["cancel"] = exchange.cancel_order(found["order"]["id"], symbol)
    found["open after"] = exchange.fetch_open_orders(symbol)
    found["balance"] = exchange.fetch_balance()["total"]
    found["unknown order"] = error_of(exchange.cancel_order, "1", symbol)
    found["ticker"] = exchange.fetch_ticker(symbol)

# As users make it, with nothing changed but the addresses: it asks /sapi for margin pairs too.
results["margin pairs"] = error_of(build("binance").load_markets)
results["history"] = built["um"].fetch_open_interest_history("BTC/USDT:USDT", "5m", limit=2)
results["time"] = built["spot"].fetch_time()

# The exchange is told to say that there is no margin.
results["no margin"] = error_of(built["um"].edit_order, "1", "BTC/USDT:USDT", "limit", "buy", 0.001, 50000)

# Last: whoever reads these must leave the exchange alone for a while.
spot, um = built["spot"], built["um"]
results["banned"] = error_of(spot.fetch_order_book, "BTC/USDT")
results["banned headers"] = {n.lower(): v for n, v in spot.last_response_headers.items()}
results["too fast"] = error_of(um.fetch_order_book, "BTC/USDT:USDT")
results["too fast headers"] = {n.lower(): v for n, v in um.last_response_headers.items()}
json.dump(results, sys.stdout)
