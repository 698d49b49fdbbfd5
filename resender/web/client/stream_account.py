"""`/local/{market}/account`: the WebSocket that tells what is known of an account, then every change.

It reads whose account a client wants and hands messages over. Stateless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from resender.account import WatchedAccount
from resender.core.account.calls import read_params
from resender.core.account.spec import AccountMarket
from resender.core.binance.stream_urls import StreamRoute
from resender.core.fanout.frames import text_frame
from resender.errors import BadRequest
from resender.fanout import StreamClient
from resender.services import Services
from resender.web.client.local_accounts import Caller, find_account


async def read_wanted_account(services: Services, route: StreamRoute, caller: Caller) -> WatchedAccount:
    """Find the account a client may listen to.

    Raises: AnswerError.
    """
    params = read_params(route.query)
    if params is None or not params.keys() <= {"account"}:
        raise BadRequest("The only parameter is `account`, the name of one.")
    return await find_account(services, caller, AccountMarket(route.target), params.get("account"))


def listen_to_account(
    services: Services, account: WatchedAccount, client: StreamClient
) -> Callable[[], None]:
    """Tell a client what is known and have it told of every change; return what ends that."""
    fanout = services.fanout

    def tell(message: dict[str, Any]) -> None:
        fanout.push(client, text_frame(orjson.dumps(message)))

    tell(account.snapshot())
    account.listeners.add(tell)
    return lambda: account.listeners.discard(tell)
