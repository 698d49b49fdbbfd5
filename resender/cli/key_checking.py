"""Ask Binance what a key may do, from the command line: through the same egresses as the gateway. No state."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

import orjson

from resender import __version__
from resender.config import Config
from resender.errors import AnswerError

if TYPE_CHECKING:
    from resender.api_keys import Signer


def check_read_only(config: Config, api_key: str, signer: Signer) -> None:
    """Have Binance say that a key may only read. Raises: KeyRefused, also if there is no answer."""
    # What goes wrong is told in one line, which is the caller's.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(ask_binance(config, api_key, signer))
    finally:
        logging.disable(before)


async def ask_binance(
    config: Config, api_key: str, signer: Signer, *, ssl_context: ssl.SSLContext | None = None
) -> None:
    """As `check_read_only`; without `ssl_context` the system's authorities are trusted."""
    from resender.account import KeyRefused, check_key
    from resender.aio import Clock
    from resender.core.binance.markets import Market
    from resender.upstream.dispatch import Dispatch
    from resender.upstream.egress_making import make_egress
    from resender.upstream.tls import make_context

    clock = Clock()
    egress = make_egress(config, clock, ssl_context or make_context())
    dispatch = Dispatch(egress, clock=clock, user_agent=f"binance-resender/{__version__}")
    await egress.start()
    try:
        # This machine's clock may be off, and a signed call with a wrong time is refused.
        fetched = await dispatch.fetch(Market.SPOT, "/api/v3/time")
        if fetched.status != 200:
            raise KeyRefused(f"Binance answered {fetched.status} when asked for its time.")
        now_ms = _read_time(fetched.body)
        if now_ms is None:
            raise KeyRefused("What answers at UPSTREAM_API does not answer like Binance.")
        await check_key(dispatch, api_key, signer, now_ms)
    except AnswerError as error:
        raise KeyRefused(f"Binance could not be asked what this key may do: {error.msg}") from None
    finally:
        await egress.stop()


def _read_time(body: bytes) -> int | None:
    try:
        found = orjson.loads(body)["serverTime"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None
