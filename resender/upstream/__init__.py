"""The way to the exchange: calls, streams, egresses.

What is named here is all that the web layer uses; the modules below are the package's own.
"""

from __future__ import annotations

from resender.upstream.egress import Call
from resender.upstream.hops import Hops
from resender.upstream.posting import NotPosted, post
from resender.upstream.rest import REPEATABLE, RestResponse, gunzip
from resender.upstream.shared_answers import SharedAnswer
from resender.upstream.streams.api_desk import ApiDesk, is_request, key_of
from resender.upstream.streams.relays import RelayConnection, Relays
from resender.upstream.tunnels import open_socket

__all__ = [
    "REPEATABLE",
    "ApiDesk",
    "Call",
    "Hops",
    "NotPosted",
    "RelayConnection",
    "Relays",
    "RestResponse",
    "SharedAnswer",
    "gunzip",
    "is_request",
    "key_of",
    "open_socket",
    "post",
]
