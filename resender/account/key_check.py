"""What a key of the gateway's own may do, asked of Binance: one that may more than read is refused. No state."""

from __future__ import annotations

import orjson

from resender.account.ports import Door, Signs
from resender.core.account.restrictions import may_do
from resender.core.binance.markets import Market
from resender.errors import AnswerError

PATH = "/sapi/v1/account/apiRestrictions"
_WINDOW_MS = 10_000


class KeyRefused(ValueError):
    """The key may not be stored; the text says why, in one line and without secrets."""


class KeyTooStrong(KeyRefused):
    """Binance has said that the key may do more than read."""


async def check_key(door: Door, api_key: str, signer: Signs, now_ms: int) -> None:
    """Have Binance say that a key may only read.

    Units: `now_ms` the exchange's time.
    Raises: KeyRefused, also if there is no answer.
    """
    query = f"recvWindow={_WINDOW_MS}&timestamp={now_ms}"
    target = f"{PATH}?{query}&signature={quoted(signer.sign(query.encode()))}"
    try:
        fetched, _ = await door.call_with_key(Market.SPOT, "GET", target, api_key, is_urgent=True)
    except AnswerError as error:
        raise KeyRefused(f"Binance could not be asked what this key may do: {error.msg}") from None
    try:
        answer = orjson.loads(fetched.body)
    except ValueError:
        answer = None
    if fetched.status != 200:
        told = answer.get("msg") if isinstance(answer, dict) else None
        raise KeyRefused(
            f"Binance answered {fetched.status} when asked what this key may do: {str(told)[:200]}"
        )
    try:
        much = may_do(answer)
    except ValueError as error:
        raise KeyRefused(f"What Binance says of this key cannot be read: {error}") from None
    if much:
        raise KeyTooStrong(
            f"This key may more than read: {', '.join(much)[:300]}. Make one with 'Enable Reading' alone."
        )


def quoted(signature: str) -> str:
    """Return a signature as it is written into a query."""
    return signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
