"""From the target of a WebSocket handshake to what the client wants.

Pure. It decides nothing about access and opens nothing; as with `routing`, no host is ever read from a
request: a name chooses an entry of a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

from resender.core.binance.markets import (
    INTERVALS,
    MARGIN_STREAM_NAME,
    STREAM_NAMES,
    WS_API_NAMES,
    WS_API_PATHS,
    Market,
)
from resender.errors import BadRequest, RouteError

What = Literal["market", "user", "ws_api", "closes", "account"]

MAX_STREAMS = 1024
# Source: derivatives options documentation of 2026-08.
MAX_OPTION_STREAMS = 200
# Everything a USD-M account may be told. Sources disagree on what a socket without `events` gets.
# Source: USD-M user data streams documentation and SDK of 2026-08-21.
UM_EVENTS = (
    "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "MARGIN_CALL", "TRADE_LITE", "ACCOUNT_CONFIG_UPDATE",
    "STRATEGY_UPDATE", "GRID_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT", "ALGO_UPDATE", "listenKeyExpired",
)  # fmt: skip
_ALL_EVENTS = f"&events={'/'.join(UM_EVENTS)}"

# As long as `redact` masks: nothing that is taken for one is shown.
_LISTEN_KEY = re.compile(r"[A-Za-z0-9]{60,128}")
_UM_CLASSES = ("public", "market", "private")
_PM_CLASSES = ("pm", "pm-classic")
_MICROSECOND, _MILLISECOND = ("microsecond",), ("millisecond", "")
_ACCOUNTS = {
    "spot": Market.SPOT, "margin": Market.SPOT, "um": Market.UM, "cm": Market.CM, "pm": Market.PM,
}  # fmt: skip
_DROP_IN = {"ws": Market.SPOT, "stream": Market.SPOT}
_DROP_IN |= dict.fromkeys((*_UM_CLASSES, *_PM_CLASSES), Market.UM)
_NO_SBE = "SBE is not served: the gateway relays JSON. Use the JSON streams, or connect to Binance's SBE host directly."


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """What a WebSocket client wants.

    Shape: `what` is market streams, user data relayed one to one, the WebSocket API, settled closes, or
            what is known of an account.
        `names` are the streams in the URL; `target` is the upstream's path and query of what is relayed,
        `host` the setting of its base URL; `listen_key` is a secret; `query` belongs to closes and accounts.
    """

    what: What
    market: Market
    is_combined: bool = False
    names: tuple[str, ...] = ()
    is_microsecond: bool = False
    max_streams: int = MAX_STREAMS
    target: str = ""
    host: str = ""
    listen_key: str = ""
    query: str = ""


def is_listen_key(name: str) -> bool:
    """Tell a listenKey from a stream name: letters and digits only, and many of them."""
    return _LISTEN_KEY.fullmatch(name) is not None and not name.isdigit()


def user_target(market: Market, listen_key: str) -> str:
    """Return the upstream's target that brings a listenKey's events unwrapped.

    Source: USD-M's path form is dead since 2026-04 (unicorn-binance-websocket-api 2.14.0).
    """
    if market is Market.UM:
        return f"/private/ws?listenKey={listen_key}{_ALL_EVENTS}"
    return f"/ws/{listen_key}"


def resolve_stream(target: str) -> StreamRoute:
    """Resolve the target of a WebSocket handshake.

    Shape: Binance's host name in front, with any port: `/fstream.binance.com:443/market/stream?streams=...`;
        without one `/ws...` and `/stream...` are spot's, `/public...`, `/market...`, `/private...`, `/pm...`
        USD-M's, `/ws-api/v3`, `/ws-fapi/v1`, `/ws-dapi/v1` the WebSocket API, `/local/{market}/closes` ours.
    Raises: RouteError; BadRequest.
    """
    if not target.startswith("/"):
        raise BadRequest("The request target must be a path.")
    try:
        # Tornado reads the bytes of the target as latin-1.
        path, _, query = target.encode("latin-1").decode("utf-8").partition("?")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise BadRequest("The request target is not UTF-8.") from None
    segments = [_decoded(part) for part in path.split("/") if part]
    params = _params(query)
    first = segments[0] if segments else ""
    if params.get("responseFormat", "").lower() == "sbe" or "sbe" in first.partition(".")[0]:
        raise RouteError(_NO_SBE)
    if first == "local":
        return _local(segments, target.partition("?")[2])
    if "." in first:
        return _of_name(first, segments[1:], params, query)
    market = next((market for market, path in WS_API_PATHS.items() if path == "/" + "/".join(segments)), None)
    if market is not None:
        return _ws_api(market, query)
    if first in _DROP_IN:
        return _streams(_DROP_IN[first], segments, params)
    raise RouteError("Unknown route.")


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("The request target is not UTF-8.") from None


def _params(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        # "+" stays: `btcusdt@kline_1d@+08:00`.
        found[name] = _decoded(value)
    return found


def _local(segments: list[str], query: str) -> StreamRoute:
    markets = {market.value: market for market in INTERVALS}
    if len(segments) == 3 and segments[1] in markets and segments[2] == "closes":
        return StreamRoute("closes", markets[segments[1]], query=query)
    if len(segments) == 3 and segments[1] in _ACCOUNTS and segments[2] == "account":
        return StreamRoute("account", _ACCOUNTS[segments[1]], target=segments[1], query=query)
    raise RouteError(
        "Unknown route. The local WebSockets are /local/{spot|um|cm}/closes and "
        "/local/{spot|margin|um|cm|pm}/account."
    )


def _of_name(first: str, rest: list[str], params: dict[str, str], query: str) -> StreamRoute:
    host, colon, port = first.partition(":")
    host = host.lower()
    if colon and not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise RouteError("Unknown route.")
    api = WS_API_NAMES.get(host)
    if api is not None:
        if "/" + "/".join(rest) != WS_API_PATHS[api]:
            raise RouteError(f"Unknown route. The WebSocket API of {host} is at {WS_API_PATHS[api]}.")
        return _ws_api(api, query)
    if host == MARGIN_STREAM_NAME:
        key = params.get("listenKey") or (rest[1] if len(rest) == 2 and rest[0] == "ws" else "")
        if not is_listen_key(key):
            raise RouteError("Unknown route. This host has user data only: /ws/<listenKey>.")
        return StreamRoute("user", Market.SPOT, target=f"/ws/{key}", host="stream_margin", listen_key=key)
    market = STREAM_NAMES.get(host)
    if market is None:
        raise RouteError("Unknown route.")
    return _streams(market, rest, params)


def _ws_api(market: Market, query: str) -> StreamRoute:
    target = WS_API_PATHS[market] + (f"?{query}" if query else "")
    return StreamRoute("ws_api", market, target=quote(target, safe="/?=&%:,+-._~@!"), host=f"ws_api_{market}")


def _streams(market: Market, segments: list[str], params: dict[str, str]) -> StreamRoute:
    """Resolve what stands behind a stream host's name."""
    asked, host = market, market
    if market is Market.OPTIONS:
        if segments[:1] == ["eoptions"]:
            segments = segments[1:]
        host = Market.UM
    kind = ""
    if host is Market.UM and segments and segments[0] in (*_UM_CLASSES, *_PM_CLASSES):
        kind, *segments = segments
    if segments and segments[0] not in ("ws", "stream"):
        raise RouteError("Unknown route. Streams are at /ws, /ws/<names> and /stream?streams=<names>.")
    is_combined = segments[:1] == ["stream"]
    if is_combined and len(segments) > 1:
        raise RouteError("Unknown route. Streams are at /ws, /ws/<names> and /stream?streams=<names>.")
    names = tuple(segments[1:])
    if is_combined:
        names = tuple(name for name in params.get("streams", "").split("/") if name)
    # Beside other names a listenKey is followed like them, as if it had been subscribed.
    only = names[0] if len(names) == 1 else ""
    listen_key = params.get("listenKey") or (only if is_listen_key(only) else "")
    if listen_key:
        return _user(host, kind, listen_key, params, is_combined=is_combined)
    if kind in _PM_CLASSES:
        raise RouteError("Unknown route. Portfolio margin has user data only: /pm/ws/<listenKey>.")
    if not segments:
        raise RouteError("Unknown route. Streams are at /ws, /ws/<names> and /stream?streams=<names>.")
    unit = params.get("timeUnit", "").lower()
    if unit not in (*_MICROSECOND, *_MILLISECOND):
        raise BadRequest("`timeUnit` must be MILLISECOND or MICROSECOND.")
    return StreamRoute(
        "market",
        host,
        is_combined,
        names,
        # Not documented for futures.
        unit in _MICROSECOND and host is Market.SPOT,
        MAX_OPTION_STREAMS if asked is Market.OPTIONS else MAX_STREAMS,
    )


def _user(
    market: Market, kind: str, listen_key: str, params: dict[str, str], *, is_combined: bool
) -> StreamRoute:
    if not is_listen_key(listen_key):
        raise BadRequest("`listenKey` cannot be one.")
    mode = "stream" if is_combined else "ws"
    if kind in _PM_CLASSES:
        target = f"/{kind}/{'stream?streams=' if is_combined else 'ws/'}{listen_key}"
    elif market is Market.UM:
        events = params.get("events")
        asked = f"&events={quote(events, safe='/,_')}" if events else _ALL_EVENTS
        target = f"/private/{mode}?listenKey={listen_key}{asked}"
    elif is_combined:
        target = f"/stream?streams={listen_key}"
    else:
        target = f"/ws/{listen_key}"
    return StreamRoute(
        "user", market, is_combined, target=target, host=f"stream_{market}", listen_key=listen_key
    )
