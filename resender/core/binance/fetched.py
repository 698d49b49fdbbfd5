"""An answer to one of the gateway's own reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer, unpacked: names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
