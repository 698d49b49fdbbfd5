"""Weights of options (/eapi) and portfolio margin (/papi). Data only.

Shape: as in `spot.py`.
Source: the official SDKs binance-sdk-derivatives-trading-options 8.7.0 and -portfolio-margin
    16.1.0 (2026-10), compared with ccxt 4.5.90; where they differ the higher figure stands.
"""

OPTIONS_ROOT = "/eapi/v1/"

OPTIONS = """
GET    ping                         1   public
GET    time                         1   public
GET    exchangeInfo                 1   public
GET    depth                        limit=100:50=1,100=5,500=10,20 public
GET    klines                       1   public
GET    trades                       5   public
GET    blockTrades                  5   public
# Needed a key; not in the SDK any more.
GET    historicalTrades             20
GET    ticker                       symbol:5/40 public
GET    mark                         5   public
GET    index                        1   public
# 0 in the SDK, 3 in ccxt.
GET    openInterest                 3   public
GET    exerciseHistory              3   public

# 0 in the SDK, 1 in ccxt.
POST   order                        1   order
POST   batchOrders                  5   order
DELETE order                        1   order
DELETE batchOrders                  5   order
DELETE allOpenOrders                1   order
DELETE allOpenOrdersByUnderlying    5   order
POST   countdownCancelAll           1   order
POST   countdownCancelAllHeartBeat  10  order
POST   mmpSet                       1   order
POST   mmpReset                     1   order
POST   block/order/create           5   order
PUT    block/order/create           5   order
DELETE block/order/create           5   order
POST   block/order/execute          5   order

GET    order                        1
GET    openOrders                   symbol:1/40
GET    historyOrders                3
GET    userTrades                   5
GET    position                     5
GET    account                      3
GET    marginAccount                3
GET    exerciseRecord               5
GET    bill                         1
GET    commission                   5
# So spelt in ccxt.
GET    comission                    5
GET    income/asyn                  5
GET    income/asyn/id               5
GET    mmp                          1
GET    countdownCancelAll           1
GET    block/order/orders           5
GET    block/order/execute          5
GET    block/user-trades            5
POST   stock/contract               50
POST   listenKey                    1
PUT    listenKey                    1
DELETE listenKey                    1
"""

PM_ROOT = "/papi/"

PM = """
GET    v1/ping                           1   public

# USD-M and COIN-M orders.
POST   v1/um/order                       1   order
PUT    v1/um/order                       1   order
DELETE v1/um/order                       1   order
DELETE v1/um/allOpenOrders               1   order
POST   v1/um/conditional/order           1   order
DELETE v1/um/conditional/order           1   order
DELETE v1/um/conditional/allOpenOrders   1   order
POST   v1/um/algo/order                  1   order
DELETE v1/um/algo/order                  1   order
DELETE v1/um/algo/allOpenOrders          1   order
POST   v1/um/leverage                    1   order
POST   v1/cm/order                       1   order
PUT    v1/cm/order                       1   order
DELETE v1/cm/order                       1   order
DELETE v1/cm/allOpenOrders               1   order
POST   v1/cm/conditional/order           1   order
DELETE v1/cm/conditional/order           1   order
DELETE v1/cm/conditional/allOpenOrders   1   order
POST   v1/cm/leverage                    1   order
POST   v1/um/positionSide/dual           1
POST   v1/cm/positionSide/dual           1

# Margin orders.
POST   v1/margin/order                   1   order
POST   v1/margin/order/oco               1   order
DELETE v1/margin/order                   2   order
DELETE v1/margin/orderList               2   order
DELETE v1/margin/allOpenOrders           5   order

GET    v1/um/order                       1
GET    v1/um/openOrder                   1
GET    v1/um/openOrders                  symbol:1/40
GET    v1/um/allOrders                   5
GET    v1/um/userTrades                  5
GET    v1/um/orderAmendment              1
GET    v1/um/forceOrders                 symbol:20/50
GET    v1/um/conditional/openOrder       1
GET    v1/um/conditional/openOrders      symbol:1/40
GET    v1/um/conditional/orderHistory    1
GET    v1/um/conditional/allOrders       symbol:1/40
GET    v1/um/algo/algoOrder              1
GET    v1/um/algo/openAlgoOrders         symbol:1/40
GET    v1/um/algo/allAlgoOrders          5
GET    v1/cm/order                       1
GET    v1/cm/openOrder                   1
GET    v1/cm/openOrders                  symbol:1/40
# 20 with a symbol, 40 with a pair.
GET    v1/cm/allOrders                   symbol:20/40
GET    v1/cm/userTrades                  symbol:20/40
GET    v1/cm/orderAmendment              1
GET    v1/cm/forceOrders                 symbol:20/50
GET    v1/cm/conditional/openOrder       1
GET    v1/cm/conditional/openOrders      symbol:1/40
GET    v1/cm/conditional/orderHistory    1
# ccxt: 40 in any case.
GET    v1/cm/conditional/allOrders       40
GET    v1/margin/order                   10
# 5; for all symbols see sapi.py.
GET    v1/margin/openOrders              symbol:5/80
GET    v1/margin/allOrders               100
GET    v1/margin/orderList               5
GET    v1/margin/openOrderList           5
GET    v1/margin/allOrderList            100
GET    v1/margin/myTrades                5
GET    v1/margin/forceOrders             1

GET    v1/account                        20
GET    v1/balance                        20
GET    v1/um/account                     5
GET    v2/um/account                     5
GET    v1/cm/account                     5
GET    v1/um/accountConfig               5
GET    v1/cm/accountConfig               5
GET    v1/um/symbolConfig                5
GET    v1/cm/symbolConfig                5
GET    v1/um/positionRisk                5
# 1 in the SDK.
GET    v1/cm/positionRisk                5
GET    v1/um/leverageBracket             1
GET    v1/cm/leverageBracket             1
GET    v1/um/positionSide/dual           30
GET    v1/cm/positionSide/dual           30
GET    v1/um/commissionRate              20
GET    v1/cm/commissionRate              20
GET    v1/um/adlQuantile                 5
GET    v1/cm/adlQuantile                 5
GET    v1/um/apiTradingStatus            symbol:1/10
GET    v1/um/feeBurn                     30
POST   v1/um/feeBurn                     1
GET    v1/um/income                      30
GET    v1/cm/income                      30
GET    v1/um/order/asyn                  1500
GET    v1/um/trade/asyn                  1500
GET    v1/um/income/asyn                 1500
GET    v1/um/order/asyn/id               10
GET    v1/um/trade/asyn/id               10
GET    v1/um/income/asyn/id              10
GET    v1/rateLimit/order                1
GET    v1/margin/maxBorrowable           5
GET    v1/margin/maxWithdraw             5
GET    v1/margin/marginLoan              10
GET    v1/margin/repayLoan               10
GET    v1/margin/marginInterestHistory   1
GET    v1/portfolio/interest-history     50
GET    v1/portfolio/negative-balance-exchange-record 100
GET    v1/repay-futures-switch           30
POST   v1/repay-futures-switch           750
POST   v1/repay-futures-negative-balance 750
POST   v1/auto-collection                750
POST   v1/bnb-transfer                   750
POST   v1/asset-collection               30
POST   v1/marginLoan                     100
POST   v1/repayLoan                      100
POST   v1/margin/repay-debt              3000
POST   v1/um/stock/contract              5
POST   v1/listenKey                      1
PUT    v1/listenKey                      1
DELETE v1/listenKey                      1
"""
