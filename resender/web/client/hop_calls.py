"""Requests between the nodes of one installation: reading who sent one, passing on what this node has not got.

A request another node has sent is answered here as one of the client it names; it is never sent on to a third node.
No state.
"""

from __future__ import annotations

import time

from tornado import httputil

from resender.core.account.calls import read_params
from resender.core.binance.headers import Pairs, headers_up
from resender.core.binance.host_names import DOWNLOAD_NAME
from resender.core.cluster.homes import Peer
from resender.core.cluster.node_info import FRONT_ROLE
from resender.core.cluster.node_proof import NODE_HEADER, WAITED_HEADER, BadProof, Shown, fits_body
from resender.errors import AnswerError, BadRequest, Busy, Denied, EgressAway, InternalError
from resender.market import Hit, Pieces
from resender.services import Services
from resender.upstream import Hops, RestResponse
from resender.web.answers import client_ip
from resender.web.client.local_accounts import account_market, posted_key
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
        """Answer here, or have the node do it that has the market data or the account."""
        hops = self.services.dispatch.hops
        if hops is None or self.hop is not None or target.partition("?")[0] in _OWN_PATHS:
            await super()._serve_local(target)
            return
        peer, problem = None, None
        try:
            peer = self._home_of_local(hops)
        except AnswerError as error:
            problem = error
        if peer is None and problem is None:
            await super()._serve_local(target)
            return

        async def ask() -> RestResponse:
            if peer is None:
                raise problem or InternalError()
            headers = headers_up(self.headers.get_all(), self.services.user_agent)
            if "Authorization" in self.headers:  # a personal token: of accounts
                headers.append(("Authorization", self.headers["Authorization"]))
            return await hops.pass_on(peer, self.method, self.target, headers, self.body, self.ip)

        await self._pass_answer("a local call of another node", ask)

    def _home_of_local(self, hops: Hops) -> Peer | None:
        path, _, query = self.target.partition("?")
        market = account_market(path)
        key = self.headers.get("X-Mbx-Apikey")
        if market is not None and self.method == "POST":
            key = posted_key(self.body) or key
        name = (read_params(query) or {}).get("account") if market is not None else None
        return hops.home_of_local(market, None if "Authorization" in self.headers else key, name)

    async def _serve_download(self, target: str) -> None:
        """Pass a bulk file on; a front has no route to where they are."""
        hops = self.services.dispatch.hops
        if hops is None or not hops.homes.is_front:
            await super()._serve_download(target)
            return

        async def ask() -> RestResponse:
            up = [
                pair
                for pair in headers_up(self.headers.get_all(), self.services.user_agent)
                if not pair[0].startswith("X-")
            ]
            return await hops.ask_collector(self.method, f"/{DOWNLOAD_NAME}{target}", up, b"", self.ip)

        await self._pass_answer("a download by another node", ask)

    async def _write_pieces(self, pieces: Pieces, hit: Hit, extra: Pairs) -> None:
        await super()._write_pieces(pieces, hit, self._with_waited(extra) or [])
