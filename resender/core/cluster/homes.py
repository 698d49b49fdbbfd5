"""Which node a call is sent from: an API key has one home in the whole installation.

The home is the node with the egress a key is bound to, by its pin or by rendezvous hashing over all egresses that
work: every node computes the same out of what the nodes tell. A node without egresses of its own sends everything
through others. Pure: it is told who is there, and the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from resender.core.binance.markets import Market
from resender.core.cluster.node_info import COLLECTOR_ROLE, NodeInfo, node_of
from resender.core.egress.spec import Pins, place_of, rank_of
from resender.errors import Denied, EgressAway

# A node that could not be reached is left alone for so long, whatever it tells over Redis.
_AVOID_S = 5.0
_MAX_KEYS = 10_000
_ALL = frozenset(market.value for market in Market)
_NOBODY = "No node that calls Binance is there now; nothing was sent."


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node, as it is called. Shape: `url` without a slash at its end."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class _Egress:
    """An egress of another node. Shape: `place` is what is hashed, `markets` those in which it works."""

    place: str
    name: str
    markets: frozenset[str]
    peer: Peer


class Homes:
    """What one node knows of the others as far as calls are sent through them.

    Shape: `own` returns the places of this node's own egresses of a market that work now; a front has none.
    """

    def __init__(
        self, node: str, pins: Pins, own: Callable[[Market], Sequence[str]], *, is_front: bool
    ) -> None:
        self.node = node
        self.is_front = is_front
        # This node is about to be stopped: keys that no pin holds are at home elsewhere from now on.
        self.is_drained = False
        self._pins = pins
        self._own = own
        self._egresses: tuple[_Egress, ...] = ()
        self._collectors: tuple[Peer, ...] = ()
        self._drained: frozenset[str] = frozenset()
        self._avoided: dict[str, float] = {}
        self._found: dict[tuple[Market, bytes, tuple[str, ...]], Peer | None] = {}

    def may_watch(self, market: Market, digest: str, mono: float) -> bool:
        """Tell whether an account is watched here. Shape: `digest` is the SHA-256 of its key, hexadecimal."""
        if self.is_front:
            return False
        try:
            pinned = self._pins.digests.get(digest)
            if pinned is not None:
                return self._pinned(pinned, mono) is None
            return self.home_of_digest(market, bytes.fromhex(digest), mono) is None
        except EgressAway:
            return False

    @property
    def has_others(self) -> bool:
        """Whether any other node can send calls."""
        return bool(self._egresses)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The nodes that send calls and serve market data, the one fronts ask first at the beginning."""
        return self._collectors

    def learn(self, nodes: Iterable[NodeInfo]) -> bool:
        """Take what the nodes tell; return whether anything changed."""
        egresses: list[_Egress] = []
        collectors: dict[str, tuple[bool, Peer]] = {}
        known: set[tuple[str, str]] = set()
        for node in nodes:
            name = node_of(node.name)
            if name == self.node or not node.is_up or not node.url or COLLECTOR_ROLE not in node.roles:
                continue
            peer = Peer(name, node.url.rstrip("/"))
            collectors.setdefault(name, (node.is_drained, peer))
            for egress in node.egresses:
                if (name, egress.name) not in known:
                    known.add((name, egress.name))
                    markets = (frozenset(egress.markets) or _ALL) - frozenset(egress.down)
                    if node.is_drained:
                        markets = frozenset()  # a call may meet its end; pins count all the same
                    place = egress.place or place_of(name, egress.name)
                    egresses.append(_Egress(place, egress.name, markets, peer))
        found = tuple(sorted(egresses, key=lambda egress: (egress.place, egress.peer.name)))
        # The same one for all fronts, so that each stream is asked for once.
        ordered = tuple(
            peer for _, peer in sorted(collectors.values(), key=lambda each: (each[0], each[1].name))
        )
        drained = frozenset(name for name, (is_drained, _) in collectors.items() if is_drained)
        if (found, ordered, drained) == (self._egresses, self._collectors, self._drained):
            return False
        self._egresses, self._collectors, self._drained = found, ordered, drained
        self._found.clear()
        return True

    def avoid(self, peer: Peer, mono: float) -> None:
        """A node could not be reached: others take its place for some seconds."""
        self._avoided[peer.name] = mono + _AVOID_S
        self._found.clear()

    def _is_avoided(self, peer: Peer, mono: float) -> bool:
        until = self._avoided.get(peer.name)
        if until is None:
            return False
        if until > mono:
            return True
        del self._avoided[peer.name]
        self._found.clear()
        return False

    def collector(self, mono: float) -> Peer | None:
        """Return the node that serves market data for those that have none themselves."""
        return next((peer for peer in self._collectors if not self._is_avoided(peer, mono)), None)

    def streams_of(self, mono: float) -> Peer | None:
        """Return the node that has the streams for the clients of all; None is this one.

        Shape: the same one wherever it is asked, the first by name that is not about to be stopped.
        """
        peer = self.collector(mono)
        if peer is None or self.is_front:
            return peer
        mine = (self.is_drained, self.node)
        return peer if (peer.name in self._drained, peer.name) < mine else None

    def peer(self, name: str, mono: float) -> Peer:
        """Return a node by its name. Raises: EgressAway if it is not there."""
        for peer in self._collectors:
            if peer.name == name and not self._is_avoided(peer, mono):
                return peer
        raise EgressAway(
            f"The node {name}, through which this was begun, is not there now; nothing was sent."
        )

    def home(self, market: Market, key: str | None, mono: float) -> Peer | None:
        """Return the node a call leaves from; None is this one.

        Shape: `key` as `Call.key`.
        Raises: EgressAway if the node of a pinned key is not there, or a front knows nobody.
        """
        if key:
            pinned = self._pins.find(key) if self._pins else None
            if pinned is not None:
                return self._pinned(pinned, mono)
            return self.home_of_digest(market, hashlib.sha256(key.encode("utf-8", "replace")).digest(), mono)
        if not self.is_front:
            return None
        peer = self.collector(mono)
        if peer is None:
            raise EgressAway(_NOBODY)
        return peer

    def check(self, key: str | None) -> None:
        """See that a call another node has sent may leave here. Raises: Denied if its key is bound elsewhere."""
        pinned = self._pins.find(key) if key and self._pins else None
        if pinned is None and not self.is_front:
            return
        node = (pinned or "").rpartition("/")[0]
        if self.is_front or node not in ("", self.node):
            raise Denied(
                f"Another node sent this call to {self.node}, which may not send it on: the EGRESS_PINS or ROLES of "
                "the nodes differ; nothing was sent."
            )

    def home_of_digest(self, market: Market, digest: bytes, mono: float) -> Peer | None:
        """Return the home of a key that is known by its SHA-256 only, see `home`."""
        for peer in [egress.peer for egress in self._egresses] if self._avoided else []:
            self._is_avoided(peer, mono)
        own = () if self.is_front or self.is_drained else tuple(self._own(market))
        place = (market, digest, own)
        if place in self._found:
            return self._found[place]
        best: Peer | None = None
        least = min((rank_of(digest, name) for name in own), default=b"\xff" * 33)
        # A node whose own egresses all fail tries them nevertheless.
        is_found = not self.is_front
        for egress in self._egresses:
            is_good = (
                market.value in egress.markets
                and egress.place not in own
                and egress.peer.name not in self._avoided
            )
            if is_good and (rank := rank_of(digest, egress.place)) < least:
                best, least, is_found = egress.peer, rank, True
        if not is_found:
            raise EgressAway(_NOBODY)
        if len(self._found) >= _MAX_KEYS:
            self._found.clear()
        self._found[place] = best
        return best

    def _pinned(self, name: str, mono: float) -> Peer | None:
        node, mark, egress = name.rpartition("/")
        if not mark or node == self.node:
            if not self.is_front:
                return None
            node = ""
        found = [
            each.peer
            for each in self._egresses
            if each.name == egress and (not node or each.peer.name == node)
        ]
        for peer in found:
            if not self._is_avoided(peer, mono):
                return peer
        raise EgressAway(
            f"This API key is bound to the egress {name}, which is not there now; nothing was sent."
        )
