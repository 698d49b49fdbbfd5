"""Writing numbers the way the exchange shows them: ticks and lots as integers, orders as decimals. Pure."""

from __future__ import annotations

from decimal import Decimal


def fixed(value: int, decimals: int, shown: int) -> str:
    """Write `value / 10**decimals` with `shown` decimals, cutting off the rest."""
    if shown > decimals:
        value *= 10 ** (shown - decimals)
    elif shown < decimals:
        value //= 10 ** (decimals - shown)
    if shown == 0:
        return str(value)
    text = str(value)
    if len(text) <= shown:
        text = text.zfill(shown + 1)
    return f"{text[:-shown]}.{text[-shown:]}"


def signed(value: int, decimals: int, shown: int) -> str:
    """Write a number that may be negative, cut off towards zero."""
    return ("-" if value < 0 else "") + fixed(abs(value), decimals, shown)


def rounded(value: int, decimals: int, shown: int) -> str:
    """Write a number rounded half up instead of cut off."""
    if shown < decimals:
        value += 10 ** (decimals - shown) // 2
    return fixed(value, decimals, shown)


def plain(value: Decimal) -> str:
    """Write a number without the zeros at its end, as user events of the futures hosts do."""
    return f"{value.normalize():f}" if value else "0"


def padded(value: Decimal, shown: int) -> str:
    """Write a number with at least `shown` decimals; more only where it has more."""
    exponent = value.normalize().as_tuple().exponent
    digits = -exponent if isinstance(exponent, int) else 0
    return f"{value:.{max(shown, digits)}f}"


def eight(value: Decimal) -> str:
    """Write a number with eight decimals, as spot does."""
    return f"{value:.8f}"
