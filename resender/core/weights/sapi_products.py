"""Weights of /sapi: sub-accounts, portfolio margin pro, earn, staking, loans and the rest. Data only.

Shape: as in `sapi.py`.
Source: the official SDKs binance-sdk-sub-account 8.5.0, -derivatives-trading-portfolio-margin-pro
    9.1.0, -simple-earn 9.7.0, -staking 6.7.0, -crypto-loan 6.1.0 and -fiat 6.7.0 (2026-10);
    ccxt 4.5.90 for the first generation of loans, VIP loans, equities, dual investment, NFT, Pay,
    gift cards and mining. Where two differ the higher figure stands.
"""

TABLE = """
# Sub-accounts.
GET    v1/sub-account/apiRestrictions/ipRestriction/thirdPartyList 10
POST   v1/sub-account/eoptions/enable                       1
GET    v1/sub-account/futures/account                       10
GET    v1/sub-account/futures/accountSummary                1
POST   v1/sub-account/futures/enable                        1
GET    v1/sub-account/futures/internalTransfer              1
POST   v1/sub-account/futures/internalTransfer              1
GET    v1/sub-account/futures/move-position                 1
POST   v1/sub-account/futures/move-position                 1
GET    v1/sub-account/futures/positionRisk                  10
POST   v1/sub-account/futures/transfer                      1
GET    v1/sub-account/list                                  1
GET    v1/sub-account/margin/account                        10
GET    v1/sub-account/margin/accountSummary                 10
POST   v1/sub-account/margin/enable                         1
POST   v1/sub-account/margin/transfer                       1
POST   v1/sub-account/options/enable                        1
GET    v1/sub-account/spotSummary                           1
GET    v1/sub-account/status                                10
GET    v1/sub-account/sub/transfer/history                  1
DELETE v1/sub-account/subAccountApi                         3000          uid
GET    v1/sub-account/subAccountApi                         3000          uid
POST   v1/sub-account/subAccountApi                         3000          uid
GET    v1/sub-account/subAccountApi/ipRestriction           3000          uid
DELETE v1/sub-account/subAccountApi/ipRestriction/ipList    3000          uid
POST   v1/sub-account/subAccountApiPermission               3000          uid
GET    v1/sub-account/transaction-statistics                60
POST   v1/sub-account/transfer/subToMaster                  1
POST   v1/sub-account/transfer/subToSub                     1
GET    v1/sub-account/transfer/subUserHistory               1
GET    v1/sub-account/universalTransfer                     1
# 1 by IP and 360 by user.
POST   v1/sub-account/universalTransfer                     360           uid
POST   v1/sub-account/virtualSubAccount                     1
GET    v2/sub-account/futures/account                       1
GET    v2/sub-account/futures/accountSummary                10
GET    v2/sub-account/futures/positionRisk                  1
POST   v2/sub-account/subAccountApi/ipRestriction           3000          uid
GET    v3/sub-account/assets                                60            uid
GET    v4/sub-account/assets                                60            uid

# Managed sub-accounts.
GET    v1/managed-subaccount/accountSnapshot                2400
GET    v1/managed-subaccount/asset                          1
POST   v1/managed-subaccount/deposit                        1
GET    v1/managed-subaccount/deposit/address                1             uid
GET    v1/managed-subaccount/fetch-future-asset             60            uid
GET    v1/managed-subaccount/info                           60            uid
GET    v1/managed-subaccount/marginAsset                    1
GET    v1/managed-subaccount/query-trans-log                60            uid
GET    v1/managed-subaccount/queryTransLogForInvestor       1
GET    v1/managed-subaccount/queryTransLogForTradeParent    60            uid
POST   v1/managed-subaccount/withdraw                       1

# Portfolio margin pro.
GET    v1/portfolio/account                                 5             uid
POST   v1/portfolio/asset-collection                        60
GET    v1/portfolio/asset-index-price                       asset:1/50
POST   v1/portfolio/auto-collection                         1500
GET    v1/portfolio/balance                                 20
POST   v1/portfolio/bnb-transfer                            1500
GET    v1/portfolio/collateralRate                          50
GET    v1/portfolio/delta-mode                              1500
POST   v1/portfolio/delta-mode                              1500
GET    v1/portfolio/earn-asset-balance                      1500
POST   v1/portfolio/earn-asset-transfer                     1500          uid
# 50 by IP in the SDK, 100 in ccxt.
GET    v1/portfolio/interest-history                        100
GET    v1/portfolio/margin-asset-leverage                   50
DELETE v1/portfolio/margin-call-level                       1500
GET    v1/portfolio/margin-call-level                       1500
POST   v1/portfolio/margin-call-level                       1500
POST   v1/portfolio/mint                                    200
GET    v1/portfolio/negative-balance-exchange-record        20
GET    v1/portfolio/pmLoan                                  500           uid
GET    v1/portfolio/pmloan-history                          500
POST   v1/portfolio/redeem                                  200
POST   v1/portfolio/repay                                   3000          uid
POST   v1/portfolio/repay-futures-negative-balance          1500
GET    v1/portfolio/repay-futures-switch                    30
POST   v1/portfolio/repay-futures-switch                    1500
# 5 in the SDK, 20 in ccxt.
GET    v2/portfolio/account                                 20
GET    v2/portfolio/collateralRate                          50

# Tokenized equities.
POST   v1/equity/account/disclaimer                         1
POST   v1/equity/listenKey                                  1
GET    v1/equity/market/exchangeInfo                        1
GET    v1/equity/market/quote                               1
GET    v1/equity/market/tokenized-assets                    1
POST   v1/equity/order/cancel                               1             order
POST   v1/equity/order/cancel-all                           1             order
GET    v1/equity/order/detail                               1
GET    v1/equity/order/history                              1
GET    v1/equity/order/open-orders                          1
POST   v1/equity/order/place                                1             order
GET    v1/equity/tokenized/convert-status                   1
GET    v1/equity/tokenized/history                          1
POST   v1/equity/tokenized/mint                             1
POST   v1/equity/tokenized/redeem                           1
GET    v1/equity/trade/history                              1

# Simple Earn.
GET    v1/simple-earn/account                               150
GET    v1/simple-earn/flexible/history/collateralRecord     1
GET    v1/simple-earn/flexible/history/rateHistory          150
GET    v1/simple-earn/flexible/history/redemptionRecord     150
GET    v1/simple-earn/flexible/history/rewardsRecord        150
GET    v1/simple-earn/flexible/history/subscriptionRecord   150
GET    v1/simple-earn/flexible/list                         150
GET    v1/simple-earn/flexible/personalLeftQuota            150
GET    v1/simple-earn/flexible/position                     150
POST   v1/simple-earn/flexible/redeem                       1
POST   v1/simple-earn/flexible/setAutoSubscribe             150
POST   v1/simple-earn/flexible/subscribe                    1
GET    v1/simple-earn/flexible/subscriptionPreview          150
GET    v1/simple-earn/locked/history/redemptionRecord       150
GET    v1/simple-earn/locked/history/rewardsRecord          150
GET    v1/simple-earn/locked/history/subscriptionRecord     150
GET    v1/simple-earn/locked/list                           150
GET    v1/simple-earn/locked/personalLeftQuota              150
GET    v1/simple-earn/locked/position                       150
POST   v1/simple-earn/locked/redeem                         1
POST   v1/simple-earn/locked/setAutoSubscribe               150
POST   v1/simple-earn/locked/setRedeemOption                50
POST   v1/simple-earn/locked/subscribe                      1
GET    v1/simple-earn/locked/subscriptionPreview            150
GET    v1/bfusd/account                                     150
GET    v1/bfusd/history/rateHistory                         150
GET    v1/bfusd/history/redemptionHistory                   150
GET    v1/bfusd/history/rewardsHistory                      150
GET    v1/bfusd/history/subscriptionHistory                 150
GET    v1/bfusd/quota                                       150
POST   v1/bfusd/redeem                                      150
POST   v1/bfusd/subscribe                                   150
GET    v1/rwusd/account                                     150
GET    v1/rwusd/history/rateHistory                         150
GET    v1/rwusd/history/redemptionHistory                   150
GET    v1/rwusd/history/rewardsHistory                      150
GET    v1/rwusd/history/subscriptionHistory                 150
GET    v1/rwusd/quota                                       150
POST   v1/rwusd/redeem                                      150
POST   v1/rwusd/subscribe                                   150
GET    v1/earn/arena/activities                             150

# Staking.
GET    v1/eth-staking/account                               150
GET    v1/eth-staking/eth/history/rateHistory               150
GET    v1/eth-staking/eth/history/redemptionHistory         150
GET    v1/eth-staking/eth/history/rewardsHistory            150
GET    v1/eth-staking/eth/history/stakingHistory            150
GET    v1/eth-staking/eth/history/wbethRewardsHistory       150
GET    v1/eth-staking/eth/quota                             150
POST   v1/eth-staking/eth/redeem                            150
POST   v1/eth-staking/eth/stake                             150
GET    v1/eth-staking/wbeth/history/unwrapHistory           150
GET    v1/eth-staking/wbeth/history/wrapHistory             150
POST   v1/eth-staking/wbeth/wrap                            150
GET    v2/eth-staking/account                               150
POST   v2/eth-staking/eth/stake                             150
GET    v1/sol-staking/account                               150
POST   v1/sol-staking/sol/claim                             150
GET    v1/sol-staking/sol/history/bnsolRewardsHistory       150
GET    v1/sol-staking/sol/history/boostRewardsHistory       150
GET    v1/sol-staking/sol/history/rateHistory               150
GET    v1/sol-staking/sol/history/redemptionHistory         150
GET    v1/sol-staking/sol/history/stakingHistory            150
GET    v1/sol-staking/sol/history/unclaimedRewards          150
GET    v1/sol-staking/sol/quota                             150
POST   v1/sol-staking/sol/redeem                            150
POST   v1/sol-staking/sol/stake                             150
GET    v1/onchain-yields/account                            50
GET    v1/onchain-yields/locked/history/redemptionRecord    50
GET    v1/onchain-yields/locked/history/rewardsRecord       50
GET    v1/onchain-yields/locked/history/subscriptionRecord  50
GET    v1/onchain-yields/locked/list                        50
GET    v1/onchain-yields/locked/personalLeftQuota           50
GET    v1/onchain-yields/locked/position                    50
POST   v1/onchain-yields/locked/redeem                      200
POST   v1/onchain-yields/locked/setAutoSubscribe            50
POST   v1/onchain-yields/locked/setRedeemOption             50
POST   v1/onchain-yields/locked/subscribe                   200
GET    v1/onchain-yields/locked/subscriptionPreview         50
GET    v1/soft-staking/history/rewardsRecord                50
GET    v1/soft-staking/list                                 50
GET    v1/soft-staking/set                                  50

# Dual investment.
GET    v1/dci/product/accounts                              1
POST   v1/dci/product/auto_compound/edit                    1
GET    v1/dci/product/list                                  1
GET    v1/dci/product/positions                             1
POST   v1/dci/product/subscribe                             1

# Loans.
POST   v1/loan/adjust/ltv                                   6000          uid
POST   v1/loan/borrow                                       6000          uid
GET    v1/loan/borrow/history                               400
GET    v1/loan/collateral/data                              400
POST   v1/loan/customize/margin_call                        6000          uid
GET    v1/loan/flexible/borrow/history                      400
GET    v1/loan/flexible/ltv/adjustment/history              400
GET    v1/loan/flexible/repay/history                       400
GET    v1/loan/income                                       6000          uid
GET    v1/loan/loanable/data                                400
GET    v1/loan/ltv/adjustment/history                       400
GET    v1/loan/ongoing/orders                               400
POST   v1/loan/repay                                        6000          uid
GET    v1/loan/repay/collateral/rate                        6000
GET    v1/loan/repay/history                                400
POST   v1/loan/vip/borrow                                   6000          uid
GET    v1/loan/vip/collateral/account                       6000
GET    v1/loan/vip/collateral/data                          400
GET    v1/loan/vip/loanable/data                            400
GET    v1/loan/vip/ongoing/orders                           400
POST   v1/loan/vip/renew                                    6000          uid
POST   v1/loan/vip/repay                                    6000          uid
GET    v1/loan/vip/repay/history                            400
GET    v1/loan/vip/request/data                             400           uid
GET    v1/loan/vip/request/interestRate                     400           uid
POST   v2/loan/flexible/adjust/ltv                          6000          uid
POST   v2/loan/flexible/borrow                              6000
GET    v2/loan/flexible/borrow/history                      400
GET    v2/loan/flexible/collateral/data                     400
GET    v2/loan/flexible/liquidation/history                 400
GET    v2/loan/flexible/loanable/data                       400
GET    v2/loan/flexible/ltv/adjustment/history              400           uid
GET    v2/loan/flexible/ongoing/orders                      300
POST   v2/loan/flexible/repay                               6000
GET    v2/loan/flexible/repay/history                       400
GET    v2/loan/flexible/repay/rate                          6000
GET    v2/loan/interestRateHistory                          400

# Fiat, Pay, P2P, rebates, NFT, gift cards.
POST   v1/fiat/deposit                                      45000         uid
GET    v1/fiat/get-order-detail                             1
# 45000 in the SDK, 90000 in ccxt.
GET    v1/fiat/orders                                       90000         uid
GET    v1/fiat/payments                                     1
POST   v2/fiat/withdraw                                     45000         uid
GET    v1/pay/transactions                                  3000          uid
GET    v1/c2c/orderMatch/listUserOrderHistory               1
GET    v1/rebate/taxQuery                                   12000         uid
GET    v1/nft/history/deposit                               3000          uid
GET    v1/nft/history/transactions                          3000          uid
GET    v1/nft/history/withdraw                              3000          uid
GET    v1/nft/user/getAsset                                 3000          uid
POST   v1/giftcard/buyCode                                  1
GET    v1/giftcard/buyCode/token-limit                      1
POST   v1/giftcard/createCode                               1
GET    v1/giftcard/cryptography/rsa-public-key              1
POST   v1/giftcard/redeemCode                               1
GET    v1/giftcard/verify                                   1

# Mining.
POST   v1/mining/hash-transfer/config                       5
POST   v1/mining/hash-transfer/config/cancel                5
GET    v1/mining/payment/list                               5
GET    v1/mining/payment/uid                                5
GET    v1/mining/pub/algoList                               1
GET    v1/mining/pub/coinList                               1
GET    v1/mining/statistics/user/list                       5
GET    v1/mining/statistics/user/status                     5
GET    v1/mining/worker/detail                              5
GET    v1/mining/worker/list                                5
"""
