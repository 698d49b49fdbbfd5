"""Weights of the spot host's own paths, /api/v3. Data only.

Shape: a line is a method, a path under `ROOT`, a weight (see `weight_rules.build`) and words:
    `public` (unsigned, the same answer for everybody), `order` (places, changes or cancels).
Source: Binance's rest-api.md of 2026-07-21 and the official SDK binance-sdk-spot 13.3.0
    (2026-10), compared with ccxt 4.5.90 and docs/dev/binance-protocol.md. All is metered by IP, 6000 a
    minute, together with the spot WebSocket API.
"""

ROOT = "/api/v3/"

TABLE = """
# Market data. `symbols` and no symbol at all cost the same on ticker/price and bookTicker.
GET  ping                         1   public
GET  time                         1   public
GET  exchangeInfo                 20  public
GET  executionRules               each:2/40 public
GET  depth                        limit=100:100=5,500=25,1000=50,250 public
GET  trades                       25  public
GET  historicalTrades             25  public
# Needs a key (MARKET_DATA).
GET  historicalBlockTrades        25
GET  aggTrades                    4   public
GET  klines                       2   public
GET  uiKlines                     2   public
GET  avgPrice                     2   public
GET  ticker/24hr                  count:20=2,100=40,80 public
GET  ticker/tradingDay            each:4/200 public
GET  ticker                       each:4/200 public
GET  ticker/price                 symbol:2/4 public
GET  ticker/bookTicker            symbol:2/4 public
GET  referencePrice               2   public
GET  referencePrice/calculation   2   public

# Orders. A call that places costs nothing when it succeeds (changelog of 2026-03-27), but a
# failed one does, so its weight is held until the answer's header tells.
POST   order                      1   order
POST   order/test                 computeCommissionRates:20/1 order
DELETE order                      1   order
DELETE openOrders                 1   order
POST   order/cancelReplace        1   order
PUT    order/amend/keepPriority   4   order
POST   order/oco                  1   order
POST   orderList/oco              1   order
POST   orderList/oto              1   order
POST   orderList/otoco            1   order
POST   orderList/opo              1   order
POST   orderList/opoco            1   order
DELETE orderList                  1   order
POST   sor/order                  1   order
POST   sor/order/test             computeCommissionRates:20/1 order

# Account.
GET  order                        4
GET  openOrders                   symbol:6/80
GET  allOrders                    20
GET  orderList                    4
GET  allOrderList                 20
GET  openOrderList                6
GET  account                      20
# 5 with an orderId since 2025; ccxt and older texts say 20 for all.
GET  myTrades                     20
GET  rateLimit/order              40
# 2 by preventedMatchId.
GET  myPreventedMatches           20
GET  myAllocations                20
GET  account/commission           20
GET  order/amendments             4
GET  myFilters                    40

# Retired on 2026-02-20; what the dead paths cost is not documented, 2 was their weight.
POST   userDataStream             2
PUT    userDataStream             2
DELETE userDataStream             2
"""
