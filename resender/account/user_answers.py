"""What Binance answers to the opening of a user data stream, read; why one could not be opened."""

from __future__ import annotations

from typing import Any

import orjson

from resender.core.binance.fetched import Fetched

_KEY_CODES = (-2014, -2015, -2008)
NO_LISTEN_KEY = -1125


class Refused(Exception):
    """Binance refuses the key or the signature; trying again does not help."""


class Broken(Exception):
    """It could not be opened now; later it may be."""


def plain(text: str) -> str:
    """Return words of others as a header can carry them."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:200]


def parsed(message: str) -> dict[str, Any]:
    try:
        found = orjson.loads(message)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read(fetched: Fetched) -> dict[str, Any]:
    """Read an answer. Raises: Refused for a key that is none; Broken."""
    try:
        answer = orjson.loads(fetched.body)
    except ValueError:
        answer = None
    code = answer.get("code") if isinstance(answer, dict) else None
    if fetched.status == 200 and isinstance(answer, dict):
        return answer
    if code in _KEY_CODES:
        raise Refused(
            f"Binance refuses the key: {str(answer.get('msg'))[:200]}" if isinstance(answer, dict) else ""
        )
    if code == NO_LISTEN_KEY:
        raise Refused("the listenKey does not exist any more")
    raise Broken(f"Binance answered {fetched.status}")
