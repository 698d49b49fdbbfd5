"""The streams of the clients: each upstream stream once for any number of listeners.

What this package gives to others is named here.
"""

from resender.fanout.client import Guest, StreamClient
from resender.fanout.hub import EXPELLED, Fanout, FanoutOptions
from resender.fanout.report import FanoutSnapshot, fanout_snapshot

__all__ = [
    "EXPELLED",
    "Fanout",
    "FanoutOptions",
    "FanoutSnapshot",
    "Guest",
    "StreamClient",
    "fanout_snapshot",
]
