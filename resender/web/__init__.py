"""The client side: routes, handlers and the hot path, on Tornado.

It opens no upstream connection and touches no database by itself: it asks the `Services`.
"""
