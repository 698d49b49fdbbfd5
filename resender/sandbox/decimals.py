"""Writing numbers of ticks and lots the way the exchange shows them. Pure integer arithmetic."""

from __future__ import annotations


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
