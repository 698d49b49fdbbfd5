"""The egresses: a session through the machine's route, a source address, a proxy or another gateway.

It decides neither which egress a call takes nor how often one is tried; it makes what `RestClient`
and `StreamSession` need for one. No state.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import socket
import ssl
from typing import Any

import aiohttp

from resender.core.binance.markets import BY_MARKET, Market
from resender.core.egress.spec import EgressSpec
from resender.upstream.connector import DIRECT, Connector, EgressFault, EgressRoute, Timeouts
from resender.upstream.rest import RestClient

logger = logging.getLogger("resender.upstream")


class SourceConnector(Connector):
    """Connects from one local address, to upstream addresses of the same family only."""

    def __init__(self, address: str, **options: Any) -> None:
        self._address = ipaddress.ip_address(address)
        family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET
        super().__init__(local_addr=(address, 0), family=family, **options)

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
        words = f"IPv{self._address.version}"
        try:
            is_literal = ipaddress.ip_address(host).version != self._address.version
        except ValueError:
            is_literal = False
        if is_literal:
            raise EgressFault(f"its address is not {words} and the source address is", is_whole=False)
        try:
            return await super()._resolve_host(host, port, traces)
        except OSError:
            raise EgressFault(f"its name cannot be resolved to an {words} address", is_whole=False) from None

    async def _wrap_create_connection(self, *args: Any, **options: Any) -> Any:
        try:
            return await super()._wrap_create_connection(*args, **options)
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL):
                raise
            raise EgressFault(
                bind_problem(str(self._address)) or "the machine has no free port left"
            ) from None


def bind_problem(address: str) -> str:
    """Say why a connection cannot come from an address; empty if it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return f"cannot bind {address}: not an address of this machine"
        return f"cannot bind {address}: {(error.strerror or 'refused by the system').lower()}"
    return ""


def make_route(spec: EgressSpec, market: Market | None = None) -> EgressRoute:
    """Turn an entry of `EGRESS` into what a session needs; `market` is for another gateway."""
    if spec.kind == "address":
        return EgressRoute(spec.name, functools.partial(SourceConnector, spec.address))
    if spec.kind == "proxy":
        # Its packages are a tenth of the program's start, and few have use for them.
        from resender.upstream.proxies import ProxyConnector

        return EgressRoute(spec.name, functools.partial(ProxyConnector, spec))
    if spec.kind == "resender":
        assert market is not None, "the prefix of another gateway depends on the market"
        return EgressRoute(spec.name, prefix=f"/{BY_MARKET[market].prefix}", is_gateway=True)
    return DIRECT


def gateway_url(spec: EgressSpec) -> str:
    """Return the base URL of another gateway."""
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    return f"{spec.scheme}://{host}:{spec.port}"


def make_rest_client(
    spec: EgressSpec,
    market: Market,
    base_url: str,
    timeouts: Timeouts,
    *,
    keepalive_s: float = 55.0,
    dns_cache_s: float = 300.0,
    ssl_context: ssl.SSLContext | None = None,
    resender_ssl_context: ssl.SSLContext | None = None,
) -> RestClient:
    """Make the session of one egress to one market's host; start it before use.

    Through another gateway targets go in prefix form (`/fapi` + `/fapi/v1/...`) and its own
    host stands for `base_url`. `resender_ssl_context` is for `resenders://`, else `ssl_context`.
    """
    if spec.kind == "resender":
        base_url = gateway_url(spec)
        ssl_context = resender_ssl_context or ssl_context
    return RestClient(
        base_url,
        timeouts,
        keepalive_s=keepalive_s,
        dns_cache_s=dns_cache_s,
        ssl_context=ssl_context,
        egress=make_route(spec, market),
    )
