"""What an API key may do, as Binance says it. Pure.

Source: wallet endpoints of developers.binance.com, GET /sapi/v1/account/apiRestrictions.
"""

from __future__ import annotations

_HARMLESS = frozenset({"enableReading", "enableFixReadOnly"})
_PERMISSIONS = ("enable", "permits")


def may_do(answer: object) -> list[str]:
    """Return the names of permissions beyond reading, also of those nobody knows yet.

    Raises: ValueError for an answer that names no permissions.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("enableReading"), bool):
        raise ValueError("it names no permissions")
    return sorted(
        name
        for name, value in answer.items()
        if name.startswith(_PERMISSIONS) and name not in _HARMLESS and value is not False
    )
