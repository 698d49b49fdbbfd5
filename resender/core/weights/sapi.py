"""Weights of /sapi: wallet, margin, convert and algo orders. Data only.

Shape: as in `spot.py`; the word `uid` means metered by user (180,000 a minute), without it
    by IP (12,000 a minute). Every path has a counter of its own.
Source: the official SDKs binance-sdk-wallet 13.8.0, -margin-trading 8.9.0, -convert 5.7.0 and
    -algo 3.9.0 (2026-10), ccxt 4.5.90 for paths they leave out. Where two differ the higher
    figure stands; whether a path is metered by IP or by user is as the SDK says. The limits:
    Binance's developer forum, topic 9275, "Request limit on the API endpoints".
"""

ROOT = "/sapi/"

TABLE = """
# System and account.
GET    v1/system/status                                     1             public
GET    v1/account/apiRestrictions                           1
GET    v1/account/apiRestrictions/ipRestriction             1
GET    v1/account/apiTradingStatus                          1
POST   v1/account/disableFastWithdrawSwitch                 1
POST   v1/account/enableFastWithdrawSwitch                  1
GET    v1/account/info                                      1
GET    v1/account/status                                    1
GET    v1/accountSnapshot                                   2400
GET    v1/bnbBurn                                           1
POST   v1/bnbBurn                                           1
GET    v1/spot/asset/tags                                   100
GET    v1/spot/delist-schedule                              100
GET    v1/spot/open-symbol-list                             100

# Assets, dust, transfers.
GET    v1/asset/assetDetail                                 1
GET    v1/asset/assetDividend                               10
POST   v1/asset/convert-transfer                            5             uid
GET    v1/asset/convert-transfer/queryByPage                5             uid
GET    v1/asset/custody/transfer-history                    60
GET    v1/asset/dribblet                                    1
POST   v1/asset/dust                                        10            uid
POST   v1/asset/dust-btc                                    1
POST   v1/asset/dust-convert/convert                        10            uid
POST   v1/asset/dust-convert/query-convertible-assets       1
POST   v1/asset/get-funding-asset                           1
GET    v1/asset/ledger-transfer/cloud-mining/queryByPage    600           uid
GET    v1/asset/tradeFee                                    1
GET    v1/asset/transfer                                    1
# 300 in the SDK, 900 in ccxt.
POST   v1/asset/transfer                                    900           uid
GET    v1/asset/wallet/balance                              60
POST   v3/asset/getUserAsset                                5

# Deposits and withdrawals.
GET    v1/capital/config/getall                             10
GET    v1/capital/contract/convertible-coins                600           uid
POST   v1/capital/contract/convertible-coins                600           uid
GET    v1/capital/deposit/address                           10
GET    v1/capital/deposit/address/list                      10
POST   v1/capital/deposit/credit-apply                      1
GET    v1/capital/deposit/hisrec                            1
GET    v1/capital/deposit/subAddress                        1
GET    v1/capital/deposit/subHisrec                         1
# 10 in the SDK, 100 in ccxt.
GET    v1/capital/withdraw/address/list                     100
# 900 in the SDK, 600 in ccxt.
POST   v1/capital/withdraw/apply                            900           uid
# Ten a minute; documented as 10 a second besides.
GET    v1/capital/withdraw/history                          18000         uid
GET    v1/capital/withdraw/quota                            10

# Travel rule.
PUT    v1/localentity/broker/deposit/provide-info           600           uid
POST   v1/localentity/broker/withdraw/apply                 600           uid
GET    v1/localentity/country/list                          1
GET    v1/localentity/deposit/history                       1
PUT    v1/localentity/deposit/provide-info                  600           uid
GET    v1/localentity/questionnaire-requirements            1
GET    v1/localentity/region/list                           1
GET    v1/localentity/vasp                                  1
POST   v1/localentity/withdraw/apply                        600           uid
GET    v1/localentity/withdraw/history                      1
GET    v2/localentity/deposit/history                       1
PUT    v2/localentity/deposit/provide-info                  600           uid
GET    v2/localentity/withdraw/history                      1
GET    v1/addressVerify/list                                1

# Margin.
GET    v1/margin/account                                    10
GET    v1/margin/allAssets                                  1
GET    v1/margin/allOrderList                               200
GET    v1/margin/allOrders                                  200
GET    v1/margin/allPairs                                   1
GET    v1/margin/api-key-list                               1             uid
DELETE v1/margin/apiKey                                     1             uid
GET    v1/margin/apiKey                                     1             uid
POST   v1/margin/apiKey                                     1             uid
PUT    v1/margin/apiKey/ip                                  1             uid
GET    v1/margin/asset                                      10
GET    v1/margin/available-inventory                        50            uid
GET    v1/margin/borrow-repay                               10
# 1500 in the SDK, 3000 in ccxt.
POST   v1/margin/borrow-repay                               3000          uid
GET    v1/margin/capital-flow                               100
GET    v1/margin/crossMarginCollateralRatio                 100
GET    v1/margin/crossMarginData                            coin:1/5
GET    v1/margin/delist-schedule                            100
GET    v1/margin/dribblet                                   1
GET    v1/margin/dust                                       3000          uid
POST   v1/margin/dust                                       3000          uid
GET    v1/margin/exchange-small-liability                   100
POST   v1/margin/exchange-small-liability                   3000          uid
GET    v1/margin/exchange-small-liability-history           100           uid
POST   v1/margin/exit-special-key-mode                      10            uid
GET    v1/margin/forceLiquidationRec                        1
GET    v1/margin/interestHistory                            1
GET    v1/margin/interestRateHistory                        1
DELETE v1/margin/isolated/account                           300           uid
GET    v1/margin/isolated/account                           10
POST   v1/margin/isolated/account                           300           uid
GET    v1/margin/isolated/accountLimit                      1
GET    v1/margin/isolated/allPairs                          10
GET    v1/margin/isolated/pair                              10
GET    v1/margin/isolated/transfer                          1
POST   v1/margin/isolated/transfer                          600           uid
GET    v1/margin/isolatedMarginData                         symbol:1/10
GET    v1/margin/isolatedMarginTier                         1
GET    v1/margin/leverageBracket                            1
GET    v1/margin/limit-price-pairs                          1
GET    v1/margin/liquidation-loan                           100           uid
POST   v1/margin/liquidation-loan/repay                     100           uid
GET    v1/margin/liquidation-loan/repay-history             100           uid
GET    v1/margin/list-schedule                              100
DELETE v1/margin/listen-key                                 3000          uid
POST   v1/margin/listen-key                                 1             uid
PUT    v1/margin/listen-key                                 1             uid
GET    v1/margin/loan                                       10
POST   v1/margin/loan                                       3000          uid
POST   v1/margin/manual-liquidation                         3000          uid
POST   v1/margin/max-leverage                               3000          uid
GET    v1/margin/maxBorrowable                              50
GET    v1/margin/maxTransferable                            50
GET    v1/margin/myPreventedMatches                         10
GET    v1/margin/myTrades                                   10
GET    v1/margin/next-hourly-interest-rate                  100
GET    v1/margin/openOrderList                              10
DELETE v1/margin/openOrders                                 1             order
# 10; for all symbols "the number of symbols currently trading" is counted, by a text older than
# spot's own figure for that question, which stands here.
GET    v1/margin/openOrders                                 symbol:10/80
# 10 by IP in the SDK, 1 by user in ccxt.
DELETE v1/margin/order                                      10            order
GET    v1/margin/order                                      10
# 1500 when the order borrows: sideEffectType MARGIN_BUY or AUTO_BORROW_REPAY.
POST   v1/margin/order                                      borrow:1500/6 uid order
POST   v1/margin/order/oco                                  borrow:1500/6 uid order
POST   v1/margin/order/oto                                  borrow:1500/6 uid order
POST   v1/margin/order/otoco                                borrow:1500/6 uid order
DELETE v1/margin/orderList                                  1             uid order
GET    v1/margin/orderList                                  10
GET    v1/margin/oto/openOrderList                          10            uid
GET    v1/margin/pair                                       10
GET    v1/margin/priceIndex                                 10
GET    v1/margin/rateLimit/order                            20
GET    v1/margin/repay                                      10
POST   v1/margin/repay                                      3000          uid
GET    v1/margin/restricted-asset                           1
GET    v1/margin/risk-based-liquidation-ratio               1
GET    v1/margin/tradeCoeff                                 10
GET    v1/margin/transfer                                   1
POST   v1/margin/transfer                                   600           uid
DELETE v2/margin/listen-key                                 1
POST   v2/margin/listen-key                                 1
PUT    v2/margin/listen-key                                 1

# Margin user data streams; the first two were retired on 2026-02-20.
DELETE v1/userDataStream                                    1
POST   v1/userDataStream                                    1
PUT    v1/userDataStream                                    1
DELETE v1/userDataStream/isolated                           1
POST   v1/userDataStream/isolated                           1
PUT    v1/userDataStream/isolated                           1
POST   v1/userListenToken                                   1

# Convert.
POST   v1/convert/acceptQuote                               500           uid
GET    v1/convert/assetInfo                                 100
GET    v1/convert/exchangeInfo                              3000          public
POST   v1/convert/getQuote                                  200           uid
POST   v1/convert/limit/cancelOrder                         200           uid order
POST   v1/convert/limit/placeOrder                          500           uid order
GET    v1/convert/limit/queryOpenOrders                     3000          uid
GET    v1/convert/orderStatus                               100           uid
GET    v1/convert/tradeFlow                                 3000          uid

# Algo orders.
GET    v1/algo/futures/historicalOrders                     1
POST   v1/algo/futures/newOrderTwap                         3000          uid order
# 300 in the SDK, 3000 in ccxt.
POST   v1/algo/futures/newOrderVp                           3000          uid order
GET    v1/algo/futures/openOrders                           1
DELETE v1/algo/futures/order                                1             order
GET    v1/algo/futures/subOrders                            1
GET    v1/algo/spot/historicalOrders                        1
POST   v1/algo/spot/newOrderTwap                            3000          uid order
POST   v1/algo/spot/newOrderVp                              3000          uid order
GET    v1/algo/spot/openOrders                              1
DELETE v1/algo/spot/order                                   1             order
GET    v1/algo/spot/subOrders                               1

# Futures data and transfers, copy trading.
GET    v1/futures/histDataLink                              1
GET    v1/futures/transfer                                  10
POST   v1/futures/transfer                                  1
GET    v1/copyTrading/futures/leadSymbol                    20
GET    v1/copyTrading/futures/userStatus                    20
"""
