"""The addresses of streams as client libraries build them behind the gateway.

The page about streams shows them, tests open them.
Source: the libraries' own sources, releases of 2026-07 to 2026-11.
"""

from __future__ import annotations

# Stands for a listenKey.
KEY = "{key}"

# Shape: library, the base address it is given, the targets it opens then: path and query.
SHAPES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("python-binance", "/stream.binance.com/", (
        "/stream.binance.com/ws/btcusdt@trade", "/stream.binance.com/stream?streams=btcusdt@trade/ethusdt@trade",
    )),
    ("python-binance", "/fstream.binance.com/", (
        "/fstream.binance.com/market/stream?streams=btcusdt@kline_1m",
        "/fstream.binance.com/public/stream?streams=btcusdt@bookTicker",
        "/fstream.binance.com/market/ws/btcusdt_perpetual@continuousKline_1m",
        "/fstream.binance.com/private/ws?listenKey={key}",
    )),
    ("python-binance", "/dstream.binance.com/", (
        "/dstream.binance.com/stream?streams=btcusd_perp@bookTicker", "/dstream.binance.com/ws/{key}",
    )),
    ("python-binance", "/ws-api/v3", ("/ws-api/v3",)),
    ("python-binance", "/ws-fapi/v1", ("/ws-fapi/v1",)),
    ("ccxt, freqtrade", "/stream.binance.com/ws", ("/stream.binance.com/ws/0",)),
    ("ccxt, freqtrade", "/fstream.binance.com/ws", (
        "/fstream.binance.com/market/ws/1", "/fstream.binance.com/public/ws/2",
        "/fstream.binance.com/private/ws?listenKey={key}",
    )),
    ("ccxt, freqtrade", "/dstream.binance.com/ws", ("/dstream.binance.com/ws/3", "/dstream.binance.com/ws/{key}")),
    ("ccxt, freqtrade", "/fstream.binance.com/pm/ws", ("/fstream.binance.com/pm/ws/{key}",)),
    ("ccxt, freqtrade", "/ws-api.binance.com/ws-api/v3", ("/ws-api.binance.com/ws-api/v3",)),
    ("ccxt, freqtrade", "/ws-fapi.binance.com/ws-fapi/v1", ("/ws-fapi.binance.com/ws-fapi/v1",)),
    ("ccxt, freqtrade", "/ws-dapi.binance.com/ws-dapi/v1", ("/ws-dapi.binance.com/ws-dapi/v1",)),
    ("binance-connector", "/stream.binance.com", ("/stream.binance.com/ws", "/stream.binance.com/stream")),
    ("binance-connector", "/ws-api/v3", ("/ws-api/v3",)),
    ("binance-futures-connector", "/fstream.binance.com", ("/fstream.binance.com/ws", "/fstream.binance.com/stream")),
    ("binance-futures-connector", "/dstream.binance.com", ("/dstream.binance.com/ws", "/dstream.binance.com/stream")),
    ("binance-sdk-*", "/stream.binance.com", ("/stream.binance.com/stream",)),
    ("binance-sdk-*", "/fstream.binance.com", (
        "/fstream.binance.com/market/stream", "/fstream.binance.com/public/stream",
        "/fstream.binance.com/private/stream",
    )),
    ("binance-sdk-*", "/dstream.binance.com", ("/dstream.binance.com/stream",)),
    ("binance-sdk-*", "/ws-api/v3", ("/ws-api/v3",)),
    ("unicorn-binance-websocket-api", "/stream.binance.com/", (
        "/stream.binance.com/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m",
        "/stream.binance.com/ws/!miniTicker@arr",
    )),
    ("unicorn-binance-websocket-api", "/fstream.binance.com/", (
        "/fstream.binance.com/market/stream?streams=btcusdt@kline_1m", "/fstream.binance.com/public/ws/!bookTicker",
        "/fstream.binance.com/private/ws?listenKey={key}&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE",
    )),
    ("unicorn-binance-websocket-api", "/ws-api/v3", ("/ws-api/v3",)),
    ("binance (Node)", "", (
        "/stream", "/public/stream", "/market/stream", "/private/stream?listenKey={key}",
        "/ws-api/v3", "/ws-fapi/v1", "/ws-dapi/v1",
    )),
    ("binance (Node)", "/stream.binance.com", ("/stream.binance.com/stream",)),
    ("binance (Node)", "/fstream.binance.com", (
        "/fstream.binance.com/public/stream", "/fstream.binance.com/market/stream",
        "/fstream.binance.com/private/stream?listenKey={key}",
    )),
    ("binance (Node)", "/dstream.binance.com", ("/dstream.binance.com/stream", "/dstream.binance.com/ws/{key}")),
    ("binance (Node)", "/ws-api.binance.com", ("/ws-api.binance.com/ws-api/v3",)),
    ("go-binance", "/stream.binance.com/ws", ("/stream.binance.com/ws/btcusdt@kline_1m",)),
    ("go-binance", "/stream.binance.com/stream?streams=", (
        "/stream.binance.com/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker",
    )),
    ("go-binance", "/fstream.binance.com/ws", (
        "/fstream.binance.com/ws/btcusdt@markPrice@1s", "/fstream.binance.com/ws/{key}",
    )),
)  # fmt: skip
