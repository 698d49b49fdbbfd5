"""How a node shows another one that a request comes from it: one header, signed with the secret all nodes share.

It names the client whose request it is. Each header is good for a few seconds, for one node, method, target and
body, and once where that may change something; nothing in it tells the secret. Pure but for the values it remembers:
it is told the time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections import deque
from dataclasses import dataclass

NODE_HEADER = "Resender-Node"
# On answers out of memory between nodes: how long the answer was waited for there, in ms.
WAITED_HEADER = "Resender-Waited"
# In place of a client's address: the node itself asks, for streams that it hands to many.
ANYBODY = "0.0.0.0"
# Clocks of nodes may differ by so much; a value that is older may have been used already.
_GOOD_MS = 10_000
_MAX_REMEMBERED = 200_000
_VERSION = "1"
_READS = ("GET", "HEAD")
_EMPTY = hashlib.sha256(b"").hexdigest()


class BadProof(ValueError):
    """A header that shows nothing."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a good header tells. Shape: `client` an address, `body_sha256` hexadecimal."""

    client: str
    body_sha256: str


def make_proof(
    secret: str, node: str, now_ms: int, method: str, target: str, body: bytes, client: str
) -> str:
    """Return the value of the header for a node of this name. Units: `now_ms` epoch milliseconds."""
    digest = hashlib.sha256(body).hexdigest() if body else _EMPTY
    words = [_VERSION, str(now_ms), secrets.token_hex(12), client, digest]
    return " ".join([*words, _sign(secret, node, words, method, target)])


def _sign(secret: str, node: str, words: list[str], method: str, target: str) -> str:
    text = "\n".join([node, *words, method, target])
    return hmac.new(secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def fits_body(shown: Shown, body: bytes) -> bool:
    """Tell whether this is the body the header was made for."""
    return hmac.compare_digest(hashlib.sha256(body).hexdigest(), shown.body_sha256)


class ProofReader:
    """Reads headers of other nodes, each that may change something once. Shape: `node` is the name of this one."""

    def __init__(self, secret: str, node: str) -> None:
        self._secret = secret
        self._node = node
        self._used: set[str] = set()
        self._order: deque[tuple[int, str]] = deque()

    def read(self, value: str, now_ms: int, method: str, target: str) -> Shown:
        """Return what a header tells.

        Raises: BadProof in words for the log.
        """
        words = value.split(" ")
        if len(words) != 6 or words[0] != _VERSION or not value.isascii():
            raise BadProof("it cannot be read")
        if not hmac.compare_digest(_sign(self._secret, self._node, words[:5], method, target), words[5]):
            raise BadProof("it was made with another NODE_SECRET, for another node or another request")
        at_ms = int(words[1]) if words[1].isdigit() else 0
        if abs(now_ms - at_ms) > _GOOD_MS:
            raise BadProof(f"it is {(now_ms - at_ms) / 1000:.0f} s old: the clocks of the nodes differ")
        try:
            ipaddress.ip_address(words[3])
        except ValueError:
            raise BadProof("it names no client") from None
        # A read that is sent again tells nothing new, and clients of HTTP repeat some.
        if method not in _READS:
            self._remember(words[2], now_ms)
        return Shown(words[3], words[4])

    def _remember(self, nonce: str, now_ms: int) -> None:
        while self._order and (self._order[0][0] < now_ms or len(self._order) >= _MAX_REMEMBERED):
            self._used.discard(self._order.popleft()[1])
        if nonce in self._used:
            raise BadProof("it was used before")
        self._used.add(nonce)
        # By the time it is read: one of a clock that is ahead stays good longer.
        self._order.append((now_ms + 2 * _GOOD_MS + 1, nonce))
