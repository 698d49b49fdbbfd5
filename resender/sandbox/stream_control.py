"""Control messages of stream connections: SUBSCRIBE and its family.

Pure: a message and the names held in, a list of things to do and an answer out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_KEYS = {"method", "params", "id"}


@dataclass(slots=True)
class Outcome:
    """What a control message leads to.

    Shape: names to add and to drop, a new combined flag or None, and the answer's text.
    """

    answer: bytes
    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    combined: bool | None = None


class _Refused(Exception):
    def __init__(self, code: int, msg: str) -> None:
        self.code = code
        self.msg = msg


def handle(text: str | bytes, names: list[str], is_combined: bool, is_spot: bool) -> Outcome:
    """Judge one message.

    Source: error texts from web-socket-streams.md of 2026-07-21; spot answers them flat,
    the futures hosts nest them under `error` (measured in 2026-10).
    """
    number: Any = None
    try:
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise _Refused(3, f"Invalid JSON: {error}") from None
        if not isinstance(message, dict):
            raise _Refused(2, "Invalid request: invalid type, expected struct Request")
        number = _check_id(message, is_spot)
        if set(message) - _KEYS:
            raise _Refused(2, "Invalid request: too many parameters")
        if "method" not in message:
            raise _Refused(2, "Invalid request: missing field `method` at line 1 column 73")
        method = message["method"]
        if method not in _METHODS:
            known = ", ".join(f"`{name}`" for name in _METHODS)
            raise _Refused(2, f"Invalid request: unknown variant `{method}`, expected one of {known}")
        outcome = _run(method, message.get("params"), names, is_combined)
    except _Refused as refused:
        return Outcome(_error(refused, number, is_spot))
    result = orjson.loads(outcome.answer)
    outcome.answer = orjson.dumps({"result": result, "id": number})
    return outcome


def too_many_subscriptions() -> bytes:
    """Return the frame sent before the connection is closed."""
    return b'{"error":{"code":4,"msg":"Too many subscriptions"}}'


def _check_id(message: dict[str, Any], is_spot: bool) -> Any:
    number = message.get("id")
    is_number = type(number) is int
    if is_spot:
        fits = number is None or is_number or (isinstance(number, str) and len(number) <= 36)
    else:
        fits = type(number) is int and number >= 0
    if not fits:
        raise _Refused(2, "Invalid request: request ID must be an unsigned integer")
    return number


def _run(method: str, params: Any, names: list[str], is_combined: bool) -> Outcome:
    if method == "LIST_SUBSCRIPTIONS":
        return Outcome(orjson.dumps(names))
    if params is None:
        raise _Refused(2, "Invalid request: missing field `params` at line 1 column 35")
    if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            raise _Refused(2, "Invalid request: invalid type: expected a sequence of strings")
        outcome = Outcome(b"null")
        if method == "SUBSCRIBE":
            outcome.subscribe = params
        else:
            outcome.unsubscribe = params
        return outcome
    if not isinstance(params, list) or not params or params[0] != "combined":
        raise _Refused(0, "Unknown property")
    if method == "GET_PROPERTY":
        return Outcome(orjson.dumps(is_combined))
    if len(params) != 2 or not isinstance(params[1], bool):
        raise _Refused(1, "Invalid value type: expected Boolean")
    return Outcome(b"null", combined=params[1])


def _error(refused: _Refused, number: Any, is_spot: bool) -> bytes:
    body: dict[str, Any] = {"code": refused.code, "msg": refused.msg}
    if is_spot:
        return orjson.dumps(body | {"id": number})
    return orjson.dumps({"error": body, "id": number})
