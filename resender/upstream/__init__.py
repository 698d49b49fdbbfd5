"""The way to Binance: HTTP sessions, their rules, and the choice between them.

Only this package imports aiohttp. It knows nothing of the web side, the database or the cache.
"""
