"""The market cache: klines and book tickers kept ready, and saved for the next start.

It knows nothing of HTTP, the database or the web side; the gateway joins them.
"""
