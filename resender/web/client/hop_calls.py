"""Requests between the nodes of one installation: reading who sent one, passing on what this node has not got.

A request another node has sent is answered here as one of the client it names; it is never sent on to a third node.
No state.
"""

from __future__ import annotations

import time

from tornado import httputil

from resender.core.binance.headers import Pairs, headers_up
from resender.core.cluster.node_info import FRONT_ROLE
from resender.core.cluster.node_proof import NODE_HEADER, WAITED_HEADER, BadProof, Shown, fits_body
from resender.errors import AnswerError, BadRequest, Busy, Denied, EgressAway
from resender.services import Services
from resender.upstream import RestResponse
from resender.web.answers import client_ip
from resender.web.client.signed_calls import SignedCalls

# What is about this node, whatever its role.
_OWN_PATHS = ("/local/status",)


def read_caller(
    services: Services, connection: object, headers: httputil.HTTPHeaders, method: str, target: str
) -> tuple[str, Shown | None]:
    """Find the client's address, by the word of another node if its header shows that; the header is taken off.

    Raises: Denied if the header shows nothing.
    """
    address = client_ip(services, connection, headers)
    if NODE_HEADER not in headers:
        is_insider = getattr(getattr(connection, "context", None), "is_insider", False)
        if FRONT_ROLE not in services.config.roles and not is_insider:
            raise Denied("This node serves other nodes only: the role `front` is not among its ROLES.")
        return address, None
    value = headers[NODE_HEADER]
    del headers[NODE_HEADER]
    reader = services.proofs
    if reader is None:
        return address, None  # there are no other nodes: a client's own word means nothing
    try:
        shown = reader.read(value, services.clock.now_ms(), method, target)
    except BadProof as error:
        services.access.note_stranger(address, f"a request as of another node came from {address}: {error}")
        raise Denied(f"This is no request of another node: {error}.") from None
    return shown.client, shown


class HopCalls(SignedCalls):
    """What one request needs for that."""

    ip: str
    target: str
    body: bytes
    hop: Shown | None = None

    def _check_hop(self) -> None:
        """See that the body is the one the other node sent. Raises: BadRequest."""
        if self.hop is not None and not fits_body(self.hop, self.body):
            raise BadRequest("The body is not the one the other node sent; nothing was sent on.")

    def _stopping(self) -> AnswerError:
        """Say that nothing is begun any more; another node takes that for a sign to choose again."""
        text = "The gateway is stopping; nothing was sent."
        return Busy(text) if self.hop is None else EgressAway(text)

    def _with_waited(self, extra: Pairs | None) -> Pairs | None:
        """Tell another node how long an answer out of memory was waited for here."""
        if self.hop is None:
            return extra
        return [*(extra or ()), (WAITED_HEADER, str(int((time.monotonic() - self.started) * 1000)))]

    async def _serve_local(self, target: str) -> None:
        await (self._serve_by_collector() if self._is_of_collector else super()._serve_local(target))

    @property
    def _is_of_collector(self) -> bool:
        """Whether this is a local endpoint that only a node with market data can answer."""
        hops = self.services.dispatch.hops
        path = self.target.partition("?")[0]
        return hops is not None and hops.homes.is_front and self.hop is None and path not in _OWN_PATHS

    async def _serve_by_collector(self) -> None:
        """Have the node that has market data answer a local endpoint."""
        hops = self.services.dispatch.hops
        assert hops is not None

        async def ask() -> RestResponse:
            headers = headers_up(self.headers.get_all(), self.services.user_agent)
            if "Authorization" in self.headers:  # a personal token: of accounts
                headers.append(("Authorization", self.headers["Authorization"]))
            return await hops.ask_collector(self.method, self.target, headers, self.body, self.ip)

        await self._pass_answer("a local call of another node", ask)
