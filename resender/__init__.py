"""Binance Resender: a self-hosted gateway to the Binance API.

Where to look first: `run.py` starts everything, `gateway.py` builds and joins the
services, `web/client/request.py` is where a client's request arrives and `upstream/rest.py`
where it leaves. `core/` holds the rules and does no I/O.
"""

__version__ = "0.2.0"
