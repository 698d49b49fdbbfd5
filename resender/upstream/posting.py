"""One request to some host of the owner's through an egress, and its short answer: what alerts are sent by.

It follows no redirect and keeps no connection; market data and calls of clients do not come by here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from resender import __version__
from resender.aio import within
from resender.core.egress.spec import EgressSpec
from resender.errors import OUTCOME_UNKNOWN, AnswerError
from resender.upstream.connector import DIRECT, Timeouts
from resender.upstream.egresses import make_route
from resender.upstream.rest import RestClient, gunzip

_ANSWER_MAX = 65_536
_GZIP = b"\x1f\x8b"


class NotPosted(Exception):
    """A request has not been answered; its text says why, without its address."""


async def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    egress: EgressSpec | None,
    ssl_context: ssl.SSLContext,
    longest_s: float = 20.0,
) -> tuple[int, bytes]:
    """Send a POST and read the answer.

    Shape: without `egress` the machine's default route. Returns status and body, of at most 64 kB.
    Raises: NotPosted.
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    base = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    route = make_route(egress) if egress is not None else DIRECT
    client = RestClient(
        base, Timeouts(longest_s / 2, longest_s, longest_s), ssl_context=ssl_context, egress=route
    )
    await client.start()
    try:
        return await within(_exchange(client, target, headers, body), longest_s)
    except asyncio.TimeoutError:
        raise NotPosted("no answer in time") from None
    except AnswerError as error:
        raise NotPosted(error.msg.removesuffix(f" {OUTCOME_UNKNOWN}")) from None
    finally:
        await client.stop()


async def _exchange(
    client: RestClient, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    # Discord refuses who does not say what he is.
    pairs = [
        *headers.items(),
        ("Accept-Encoding", "identity"),
        ("User-Agent", f"binance-resender/{__version__}"),
    ]
    response = await client.send("POST", target, pairs, body)
    try:
        found = b""
        async for chunk in response.chunks(_ANSWER_MAX):
            found += chunk
        return response.status, gunzip(found) if found[:2] == _GZIP else found
    finally:
        response.close()
