"""A simulated Binance exchange on loopback: REST, streams, faults, all from one seed.

It is a server to test and try the gateway against, not a trading model. All state
belongs to the `Sandbox` object. It shares nothing with the gateway but the table of
markets, so one mistake cannot hide on both sides.

In a test::

    from resender.sandbox import API_KEY, API_SECRET, Fault, Sandbox, SandboxConfig

    async with Sandbox(SandboxConfig(weight_limits={"spot": 100})) as sandbox:
        base = sandbox.urls["UPSTREAM_API"]                # names of the gateway's settings
        sandbox.faults.add(Fault("reset_before", match="/api/v3/order", method="POST"))
        ...                                                # let the gateway call
        assert sandbox.count("POST", "/api/v3/order") == 1   # what really arrived
        rows = sandbox.market(Market.SPOT).kline_rows("BTCUSDT", "1m", limit=5)  # the truth

Everything is TLS, with certificates of an authority made for the process: `sandbox.ca_pem` is what
a client has to trust. `SandboxConfig(tls=False)` leaves it out.

Streams go wrong through `sandbox.faults` too: switches on `faults.stream(market)` (refuse,
silent, duplicate, reorder, swallow_final, late_final_s, late_final_by_symbol, final_delay,
next_before_final, frozen) and one-time acts (`drop_streams`, `send_raw`, `send_truncated`,
`send_wrong_types`, `send_huge`, `server_shutdown`). `faults.mute(market, match)` leaves a living
connection whose streams say nothing until `unmute`, `faults.never_start(market, match)` has
subscriptions acknowledged that bring nothing. `rest_lag_ms` on `faults.stream(market)` lets
REST trail behind after every close. `sandbox.halt`, `resume`, `delist` and `list_symbol` change the symbols,
`await sandbox.burst(market, symbol, count)` pushes bookTicker updates as fast as read.

Everything else of the market is a function of the seed and the time too, so that an answer can be
judged afterwards. A book is a function of its update id, and REST depth, both depth streams and
bookTicker are views of it::

    truth = sandbox.book_at(Market.SPOT, "BTCUSDT", answer["lastUpdateId"], limit=100)
    assert (answer["bids"], answer["asks"]) == (truth.bids, truth.asks)

`sandbox.update_id` is the newest one, `hold_book`, `release_book` and `restart_book` (ids jump) act
on a book. `trades.aggregate_rows`, `trades.trade_rows`, `tickers.day_row`, `marks.mark_at` and
`marks.funding_rows` are the truth of the rest, each with a store (`sandbox.market(...)`) and a time.
On `faults.stream(market)`: `lose_once`, `lose_next`, `repeat_once`, `swap_once` harm single events,
`partial_on_change` keeps partial depth of an unchanged book silent, `depth_lag_ms`,
`trades_lag_ms` and `periods_lag_ms` let REST trail behind.

Accounts trade by the sandbox's own prices and hear of it by user streams: listenKeys, the WebSocket
API's subscriptions, `/pm/ws`. `API_KEY` may trade, `READ_KEY` may only read and is of the same account.
Everything is on `sandbox.exchange` and `sandbox.accounts`::

    sandbox.accounts.add("key", "secret", account=API_KEY, permissions=READ_ONLY)   # one more key of it
    sandbox.accounts.add("key", public_key=pem)             # an account of its own, by Ed25519
    order = sandbox.exchange.order(Market.SPOT, API_KEY, "BTCUSDT", order_id)
    sandbox.exchange.fill(order, "0.1")                      # by force; a stop is triggered first
    sandbox.exchange.match()                                 # what the matching task does every 50 ms
    sandbox.exchange.trigger(algo_id)                        # a conditional order
    sandbox.exchange.expire(order)                           # as maintenance does
    sandbox.exchange.deposit(API_KEY, "USDT", "100")         # balanceUpdate; market=... for futures
    sandbox.exchange.lock_outside(API_KEY, "USDT", "100")    # externalLockUpdate
    sandbox.exchange.feed.told                               # every event made, lost ones too
    sandbox.faults.accounts[Market.SPOT].lose_next["TRADE"] = 1   # see `account_faults.py` for all
    sandbox.faults.accounts[Market.UM].expire_keys(notice=False)

The truth of accounts is kept as bytes: `sandbox.exchange.open_orders_bytes(market, key, symbol)` is
what GET openOrders answers now, `open_orders_history` every answer there was with the time it became
true; `open_algo_bytes` and `open_algo_history` are those of conditional orders.

What each source address did: `Fault(peer=...)` and `sandbox.cut_off(peer)` hit one address only;
`sandbox.past_weights(peer, pool)`, `sandbox.statuses` and `sandbox.violations` tell afterwards.

The past has its oddities where configured: `SandboxConfig.gaps` (no candles), `outages` (candles
that open off the grid after one, a row that closes early before it; `sandbox.add_outage` for one
that lies ahead), `holes_1s` (no 1s candle for a second without a trade).

Time comes from `SandboxConfig.clock_ms`; with a hand-moved clock pushes happen when the
clock moves. Pings, ages and message rates follow the event loop's own clock.

From a shell: `python -m resender.sandbox` prints the addresses and the authority's file and runs
until Ctrl-C.

Pools for `weight`, `ban` and `weight_limits`: spot, futures (UM and CM share it),
options, pm, sapi. Services for `ports` and `stop_listening`: api, fapi, dapi, eapi,
papi, stream_spot, stream_um, stream_cm, ws_api.
"""

from .account_faults import AccountFaults
from .config import (
    API_KEY,
    API_SECRET,
    READ_KEY,
    READ_ONLY,
    READ_SECRET,
    TRADING,
    Gap,
    Outage,
    SandboxConfig,
)
from .faults import Fault, Faults, StreamFaults
from .model import Call, Placement, Violation
from .sandbox import Sandbox
from .signing import sign

__all__ = [
    "API_KEY",
    "API_SECRET",
    "READ_KEY",
    "READ_ONLY",
    "READ_SECRET",
    "TRADING",
    "AccountFaults",
    "Call",
    "Fault",
    "Faults",
    "Gap",
    "Outage",
    "Placement",
    "Sandbox",
    "SandboxConfig",
    "StreamFaults",
    "Violation",
    "sign",
]
