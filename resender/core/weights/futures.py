"""Weights of USD-M (/fapi), COIN-M (/dapi) and /futures/data. Data only.

Shape: as in `spot.py`, with whole paths.
Source: the official SDKs binance-sdk-derivatives-trading-usds-futures 18.1.0 and -coin-futures
    14.1.0 (2026-10), Binance's CM-UM integration notice of 2026-06-10 (one budget of 2400 a
    minute and IP for both hosts), ccxt 4.5.90 for paths the SDKs leave out, docs/dev/binance-protocol.md.
    Where they differ the higher figure stands.
"""

# The same on both hosts; `*` stands for fapi and dapi.
BOTH = """
GET  /*/v1/ping                   1   public
GET  /*/v1/time                   1   public
GET  /*/v1/exchangeInfo           1   public
GET  /*/v1/depth                  limit=500:50=2,100=5,500=10,20 public
GET  /*/v1/trades                 5   public
# Needs a key. 200 since 2026-07-29, before 20.
GET  /*/v1/historicalTrades       200
GET  /*/v1/aggTrades              20  public
# Measured in October 2026 a band includes its top (100 costs 1); documented and higher: 2.
GET  /*/v1/klines                 limit=500:99=1,499=2,1000=5,10 public
GET  /*/v1/continuousKlines       limit=500:99=1,499=2,1000=5,10 public
GET  /*/v1/indexPriceKlines       limit=500:99=1,499=2,1000=5,10 public
GET  /*/v1/markPriceKlines        limit=500:99=1,499=2,1000=5,10 public
GET  /*/v1/premiumIndexKlines     limit=500:99=1,499=2,1000=5,10 public
GET  /*/v1/ticker/24hr            symbol:1/40 public
GET  /*/v1/ticker/price           symbol:1/2  public
GET  /*/v1/ticker/bookTicker      symbol:2/5  public
GET  /*/v1/openInterest           1   public
# 1 on COIN-M, 2 on USD-M; ccxt 2 on both.
GET  /*/v1/constituents           2   public

# Placing costs order count instead of IP weight.
POST   /*/v1/order                0   order
POST   /*/v1/order/test           1   order
POST   /*/v1/algoOrder            0   order
POST   /*/v1/batchOrders          5   order
PUT    /*/v1/order                1   order
PUT    /*/v1/batchOrders          5   order
DELETE /*/v1/order                1   order
# 1 in the SDKs; ccxt 5 on COIN-M.
DELETE /*/v1/batchOrders          5   order
DELETE /*/v1/allOpenOrders        1   order
DELETE /*/v1/algoOrder            1   order
DELETE /*/v1/algoOpenOrders       1   order
POST   /*/v1/countdownCancelAll   10  order
# What traders set right before an order, and what saves a position.
POST   /*/v1/leverage             1   order
POST   /*/v1/marginType           1   order
POST   /*/v1/positionMargin       1   order

POST   /*/v1/positionSide/dual    1
POST   /*/v1/listenKey            1
PUT    /*/v1/listenKey            1
DELETE /*/v1/listenKey            1
GET  /*/v1/order                  1
GET  /*/v1/openOrder              1
GET  /*/v1/openOrders             symbol:1/40
GET  /*/v1/allOrders              5
GET  /*/v1/userTrades             5
GET  /*/v1/orderAmendment         1
GET  /*/v1/algoOrder              1
GET  /*/v1/openAlgoOrders         symbol:1/40
GET  /*/v1/allAlgoOrders          5
GET  /*/v1/forceOrders            symbol:20/50
GET  /*/v1/adlQuantile            5
GET  /*/v1/positionMargin/history 1
GET  /*/v1/positionSide/dual      30
GET  /*/v1/commissionRate         20
GET  /*/v1/account                5
# 1 on COIN-M; /fapi/v1 has neither any more. USD-M's figure.
GET  /*/v1/balance                5
GET  /*/v1/positionRisk           5
# 1 in the SDKs; ccxt 2 on COIN-M v1.
GET  /*/v1/leverageBracket        2
GET  /*/v1/order/asyn             1000
GET  /*/v1/trade/asyn             1000
GET  /*/v1/income/asyn            1000
# 5 on COIN-M.
GET  /*/v1/order/asyn/id          10
GET  /*/v1/trade/asyn/id          10
GET  /*/v1/income/asyn/id         10
# 20 on COIN-M.
GET  /*/v1/income                 30
GET  /*/v1/pmAccountInfo          5
GET  /*/v1/pmExchangeInfo         5
"""

UM = """
GET  /fapi/v2/ticker/price        symbol:1/2  public
GET  /fapi/v1/premiumIndex        symbol:1/10 public
# One allowance of 500 in 5 minutes for the two, no weight header; 1 as in ccxt.
GET  /fapi/v1/fundingRate         1   public um-funding
GET  /fapi/v1/fundingInfo         1   public um-funding
GET  /fapi/v1/rpiDepth            20  public
GET  /fapi/v1/indexInfo           1   public
GET  /fapi/v1/assetIndex          symbol:1/10 public
GET  /fapi/v1/insuranceBalance    1   public
GET  /fapi/v1/symbolAdlRisk       1   public
GET  /fapi/v1/tradingSchedule     5   public
GET  /fapi/v1/lvtKlines           1   public
GET  /fapi/v2/account             5
GET  /fapi/v3/account             5
GET  /fapi/v2/balance             5
GET  /fapi/v3/balance             5
GET  /fapi/v2/positionRisk        5
GET  /fapi/v3/positionRisk        5
GET  /fapi/v1/accountConfig       5
GET  /fapi/v1/symbolConfig        5
GET  /fapi/v1/apiTradingStatus    symbol:1/10
GET  /fapi/v1/rateLimit/order     1
GET  /fapi/v1/feeBurn             30
POST /fapi/v1/feeBurn             1
GET  /fapi/v1/multiAssetsMargin   30
POST /fapi/v1/multiAssetsMargin   1
GET  /fapi/v1/stock/contract      50
POST /fapi/v1/stock/contract      50
GET  /fapi/v1/convert/exchangeInfo 20 public
# 50 and 200 in the SDK, the other way round in ccxt.
POST /fapi/v1/convert/getQuote    200
POST /fapi/v1/convert/acceptQuote 200
GET  /fapi/v1/convert/orderStatus 50
"""

CM = """
GET  /dapi/v1/premiumIndex        10  public
GET  /dapi/v1/fundingRate         1   public
GET  /dapi/v1/fundingInfo         1   public
GET  /dapi/v2/leverageBracket     symbol:1/2
"""

# On both hosts. Weight 0 on USD-M, 1 on COIN-M; besides, 1000 calls in 5 minutes and IP, which no
# header tells ("IP rate limit 1000 requests/5min" in the USD-M SDK).
DATA = """
GET  /futures/data/openInterestHist            1 public futures-data
GET  /futures/data/topLongShortAccountRatio    1 public futures-data
GET  /futures/data/topLongShortPositionRatio   1 public futures-data
GET  /futures/data/globalLongShortAccountRatio 1 public futures-data
GET  /futures/data/takerlongshortRatio         1 public futures-data
GET  /futures/data/takerBuySellVol             1 public futures-data
GET  /futures/data/basis                       1 public futures-data
GET  /futures/data/delivery-price              1 public futures-data
"""
