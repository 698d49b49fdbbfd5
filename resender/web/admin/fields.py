"""What a JSON body or a query may hold, and clear words for what it may not.

It knows no handler and no table. It holds no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from resender.errors import BadRequest

_NAMES: dict[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "an object",
}
_INT_MAX = (1 << 63) - 1


class _Mark:
    """Stands for a value that is not there."""


REQUIRED: Any = _Mark()
#: A default that tells "not given" from null.
ABSENT: Any = _Mark()


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a JSON object.

    Shape: `default` is used when the field is absent; without one the field is required. `nullable`
        lets null through. `low` and `high` bound a number, `longest` the characters of a text or
        the items of a list, whose items are of type `items`.
    """

    kind: type
    default: Any = REQUIRED
    nullable: bool = False
    choices: tuple[Any, ...] = ()
    low: int = -_INT_MAX
    high: int = _INT_MAX
    longest: int = 10_000
    items: type | None = None


def read_object(body: bytes, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty object.

    Raises: BadRequest, with the name of the wrong field in `data`.
    """
    try:
        given = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    if not isinstance(given, dict):
        raise BadRequest('The body has to be a JSON object, such as {"name": "value"}.')
    unknown = sorted(set(given) - set(fields))
    if unknown:
        names = ", ".join(fields) or "none"
        raise wrong(unknown[0][:100], f"There is no field {unknown[0][:100]!r} here; known are: {names}.")
    return {name: _checked(name, field, given.get(name, field.default)) for name, field in fields.items()}


def wrong(field: str, msg: str, **data: Any) -> BadRequest:
    """Build the answer for one wrong field.

    Shape: `data` may hold `reason`, a word for programs, and what the pages' text of it names.
    """
    return BadRequest(msg, {"field": field, **data})


def _out_of_range(name: str, msg: str, low: int, high: int) -> BadRequest:
    return wrong(name, f"{msg} from {low} to {high}.", reason="range", low=low, high=high)


def _checked(name: str, field: Field, value: Any) -> Any:
    if value is REQUIRED:
        raise wrong(name, f"The field {name!r} is missing.", reason="missing")
    # A default is ours and may be anything.
    if value is field.default or (value is None and field.nullable):
        return value
    is_kind = isinstance(value, field.kind) and (field.kind is bool or not isinstance(value, bool))
    if not is_kind:
        also = " or null" if field.nullable else ""
        raise wrong(name, f"{name!r} has to be {_NAMES[field.kind]}{also}.")
    if field.choices and value not in field.choices:
        known = ", ".join(str(choice) for choice in field.choices)
        raise wrong(name, f"{name!r} has to be one of: {known}.")
    if isinstance(value, int) and not isinstance(value, bool) and not field.low <= value <= field.high:
        raise _out_of_range(name, f"{name!r} has to be a number", field.low, field.high)
    if isinstance(value, (str, list)) and len(value) > field.longest:
        what = "characters" if isinstance(value, str) else "items"
        msg = f"{name!r} has {len(value)} {what}; at most {field.longest} are taken."
        raise wrong(name, msg, reason="too_long", most=field.longest)
    if field.items is not None:
        for item in value:
            if not isinstance(item, field.items) or (field.items is int and isinstance(item, bool)):
                raise wrong(name, f"Each item of {name!r} has to be {_NAMES[field.items]}.")
    return value


def read_int(name: str, text: str, low: int, high: int) -> int:
    """Read a whole number from a query.

    Raises: BadRequest.
    """
    digits = text.strip()
    if digits.removeprefix("-").isdecimal() and digits.isascii() and len(digits) < 20:
        number = int(digits)
        if low <= number <= high:
            return number
    raise _out_of_range(name, f"{name!r} has to be a whole number", low, high)


def read_flag(name: str, text: str) -> bool:
    """Read yes or no from a query.

    Raises: BadRequest.
    """
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise wrong(name, f"{name!r} has to be true or false.")
