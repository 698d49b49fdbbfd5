"""The ways out to Binance and the sessions on them.

It sends, it does not interpret. `EgressPool` owns one `RestClient` for each market's host;
every REST call of the gateway, its own ones too, leaves through `send`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from resender.core.headers import Pairs
from resender.core.markets import Market
from resender.errors import RouteError
from resender.upstream.rest import RestClient, RestResponse, Timeouts
from resender.upstream.tls import make_context


class EgressPool:
    """The default route of the machine, with one pooled session for each upstream."""

    def __init__(
        self,
        upstreams: Mapping[Market, str],
        timeouts: Timeouts,
        *,
        keepalive_s: float,
        dns_cache_s: float,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        context = ssl_context or make_context()
        self.clients: dict[Market, RestClient] = {
            market: RestClient(
                url, timeouts, keepalive_s=keepalive_s, dns_cache_s=dns_cache_s, ssl_context=context
            )
            for market, url in upstreams.items()
        }

    async def start(self) -> None:
        for client in self.clients.values():
            await client.start()

    async def stop(self) -> None:
        for client in self.clients.values():
            await client.stop()

    async def send(
        self, market: Market, method: str, target: str, headers: Pairs, body: bytes
    ) -> RestResponse:
        """Send a call to a market's host, see `RestClient.send`.

        Raises: RouteError if the market is switched off.
        """
        client = self.clients.get(market)
        if client is None:
            raise RouteError(f"The market {market} is switched off in the settings of this gateway.")
        return await client.send(method, target, headers, body)
