"""The admin pages and the JSON API behind them, at `/admin`.

It keeps no data by itself: the store does. Read on in routes.py (what there is), base.py (who
may) and site.py (what one server holds).
"""
