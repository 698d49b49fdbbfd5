"""Response headers in the form Tornado writes them from. No state beyond one response."""

from __future__ import annotations

from resender.core.binance.headers import Pairs


class WireHeaders:
    """Response headers as pairs, with the part of the HTTPHeaders interface Tornado writes from.

    Unlike HTTPHeaders it keeps the upstream's spelling of names.
    """

    __slots__ = ("length", "pairs")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self.length: str | None = None
        for name, value in pairs:
            if name.lower() == "content-length":
                self.length = value

    def __contains__(self, name: str) -> bool:
        return name == "Content-Length" and self.length is not None

    def __getitem__(self, name: str) -> str:
        if name == "Content-Length" and self.length is not None:
            return self.length
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        self.pairs.append((name, value))
        if name == "Content-Length":
            self.length = value

    def get_all(self) -> Pairs:
        return self.pairs
