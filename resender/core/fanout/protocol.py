"""The control messages a client sends on a stream connection, and the replies to them.

Pure: a message in, what it asks for and the reply out. Texts and shapes are Binance's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from resender.core.binance.markets import Market

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
# Source: the USD-M host, measured in 2026-10: the frame before the connection is closed with 1008.
TOO_MANY_SUBSCRIPTIONS = b'{"error":{"code":4,"msg":"Too many subscriptions"}}'
CLOSE_TOO_MANY = (1008, "Too many subscriptions")
# Close codes that may not be sent. Source: RFC 6455 section 7.4.1.
UNSPOKEN_CODES = (1005, 1006, 1015)
# Longer than any name Binance has.
_MAX_NAME_CHARS = 200
_MAX_ID_CHARS = 128


@dataclass(frozen=True, slots=True)
class Command:
    """One control message that could be read.

    Shape: `message_id` is the JSON text of the id as the client sent it; `params` are stream names, or
        the property and its value.
    """

    method: str
    params: tuple[Any, ...]
    message_id: bytes


class Refused(Exception):
    """A message that cannot be read; `reply` is what the client is told."""

    def __init__(self, market: Market, code: int, msg: str, message_id: bytes = b"null") -> None:
        super().__init__(msg)
        body = {"code": code, "msg": msg}
        # Spot's documents show errors flat, the futures hosts nest them (measured); a reader of either
        # finds what it looks for.
        if market is Market.SPOT:
            self.reply = orjson.dumps({**body, "error": body})[:-1] + b',"id":' + message_id + b"}"
        else:
            self.reply = b'{"error":' + orjson.dumps(body) + b',"id":' + message_id + b"}"


def result(message_id: bytes, text: bytes = b"null") -> bytes:
    """Build the reply to a message: `{"result":null,"id":7}`, never wrapped, always with `result`."""
    return b'{"result":' + text + b',"id":' + message_id + b"}"


def read_command(market: Market, text: str | bytes) -> Command:
    """Read a control message.

    Shape: the id may be an integer of up to 64 bits, a string or null; without one it is null.
    Raises: Refused.
    Source: web-socket-streams.md of 2026-07-21.
    """
    try:
        message = orjson.loads(text)
    except ValueError as error:
        raise Refused(market, 3, f"Invalid JSON: {str(error)[:200]}") from None
    if not isinstance(message, dict):
        raise Refused(market, 2, "Invalid request: invalid type, expected struct Request")
    number = message.get("id")
    is_text = isinstance(number, str) and len(number) <= _MAX_ID_CHARS
    if number is not None and type(number) is not int and not is_text:
        raise Refused(market, 2, "Invalid request: request ID must be an unsigned integer")
    message_id = orjson.dumps(number)
    method = message.get("method")
    if method is None:
        raise Refused(market, 2, "Invalid request: missing field `method`", message_id)
    if method not in METHODS:
        known = ", ".join(f"`{name}`" for name in METHODS)
        shown = str(method)[:40]
        msg = f"Invalid request: unknown variant `{shown}`, expected one of {known}"
        raise Refused(market, 2, msg, message_id)
    params = message.get("params")
    if method == "LIST_SUBSCRIPTIONS":
        return Command(method, (), message_id)
    if params is None:
        raise Refused(market, 2, "Invalid request: missing field `params`", message_id)
    if not isinstance(params, list):
        raise Refused(market, 2, "Invalid request: invalid type: expected a sequence", message_id)
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        if not all(isinstance(name, str) and len(name) <= _MAX_NAME_CHARS for name in params):
            msg = "Invalid request: invalid type: expected a sequence of strings"
            raise Refused(market, 2, msg, message_id)
        return Command(method, tuple(params), message_id)
    if not params or params[0] != "combined":
        raise Refused(market, 0, "Unknown property", message_id)
    if method == "SET_PROPERTY" and (len(params) != 2 or not isinstance(params[1], bool)):
        raise Refused(market, 1, "Invalid value type: expected Boolean", message_id)
    return Command(method, tuple(params), message_id)
