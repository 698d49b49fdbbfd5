"""`/local/{market}/closes`: the WebSocket that tells every close once it is final by proof.

It reads what a client wants; waiting and proof are `market/close_feed.py`. Stateless.
"""

from __future__ import annotations

from collections.abc import Callable

from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.stream_urls import StreamRoute
from resender.core.fanout.frames import text_frame
from resender.core.market.requests import Miss, parse_query, parse_symbol_list
from resender.errors import BadRequest, RouteError
from resender.fanout import StreamClient
from resender.market import CLOSE_INTERVALS
from resender.services import Services
from resender.web.client.local import check_symbol

WantedCloses = tuple[str, tuple[str, ...] | None]


def read_wanted_closes(services: Services, route: StreamRoute) -> WantedCloses:
    """Read the interval and the symbols, None for all that are held.

    Raises: BadRequest; RouteError where nothing is kept.
    """
    cache, market = services.cache, route.market
    if cache is None:
        raise RouteError("The market cache is switched off in the settings of this gateway.")
    params = parse_query(route.query)
    if isinstance(params, Miss):
        raise BadRequest("A parameter is empty, repeated or malformed.")
    interval, symbols = params.pop("interval", ""), params.pop("symbols", "all")
    if params:
        raise BadRequest(f"Unknown parameter {sorted(params)[0][:50]!r}.")
    known = [each for each in INTERVALS[market] if each in CLOSE_INTERVALS]
    if interval not in known:
        raise BadRequest(f"`interval` must be one of {', '.join(known)}.")
    if symbols == "all":
        return interval, None
    names = parse_symbol_list(symbols)
    if not names:
        raise BadRequest('`symbols` must be `all` or compact JSON such as ["BTCUSDT","ETHUSDT"].')
    for name in names:
        check_symbol(cache, market, name)
    return interval, tuple(dict.fromkeys(names))


def listen_to_closes(
    services: Services, market: Market, wanted: WantedCloses, client: StreamClient
) -> Callable[[], None]:
    """Have a client told of every close to come; return what ends that."""
    assert services.closes is not None
    fanout = services.fanout
    return services.closes.listen(market, *wanted, lambda message: fanout.push(client, text_frame(message)))
