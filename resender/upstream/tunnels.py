"""TCP connections to named hosts through an egress: what `CONNECT` of a client asks for.

It passes no bytes itself and looks at none: TLS is between the client and the host. No state.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from resender.aio import within
from resender.core.egress.spec import EgressSpec
from resender.errors import BadRequest, UpstreamUnreachable
from resender.upstream.connector import EgressFault

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LIMIT_BYTES = 1 << 17


class Tunnels:
    """Opens connections through the egresses there are, in the order of the settings."""

    def __init__(self, specs: Sequence[EgressSpec], connect_s: float) -> None:
        self._specs = {spec.name: spec for spec in specs if spec.kind != "resender"}
        self._connect_s = connect_s

    async def open(self, host: str, port: int, egress: str | None = None) -> Streams:
        """Connect to a host.

        Shape: `egress` is the name of the one to take, None = the first that can.
        Raises: BadRequest for an egress there is not; UpstreamUnreachable.
        """
        if egress is not None and egress not in self._specs:
            raise BadRequest(f"There is no egress {egress[:50]!r} that carries connections.")
        specs = [self._specs[egress]] if egress is not None else list(self._specs.values())
        why = "no egress carries connections"
        for spec in specs:
            try:
                return await within(self._open(spec, host, port), self._connect_s)
            except asyncio.TimeoutError:
                why = f"no connection within {self._connect_s:g} s"
            except EgressFault as error:
                why = error.reason
            except OSError:
                why = "the connection failed"
        raise UpstreamUnreachable(f"Cannot connect to {host}: {why}. Nothing was sent.")

    async def _open(self, spec: EgressSpec, host: str, port: int) -> Streams:
        if spec.kind == "proxy":
            from resender.upstream.proxies import open_tunnel

            sock = await open_tunnel(spec, host, port)
            return await asyncio.open_connection(sock=sock, limit=_LIMIT_BYTES)
        local = (spec.address, 0) if spec.kind == "address" else None
        return await asyncio.open_connection(host, port, local_addr=local, limit=_LIMIT_BYTES)


def open_socket(spec: EgressSpec | None, host: str, port: int, longest_s: float) -> socket.socket:
    """Connect to a host through an egress, in a thread that may wait; without one by the machine's default route.

    Raises: OSError, whatever keeps it from that.
    """
    if spec is None or spec.kind == "default":
        return socket.create_connection((host, port), longest_s)
    if spec.kind == "address":
        return socket.create_connection((host, port), longest_s, source_address=(spec.address, 0))
    from resender.upstream.proxies import open_tunnel

    try:
        # The steps of a proxy are written for an event loop; this thread has one of its own for the moment.
        found = asyncio.run(within(open_tunnel(spec, host, port), longest_s))
    except EgressFault as error:
        raise OSError(error.reason) from None
    except asyncio.TimeoutError:
        raise OSError("the proxy does not connect in time") from None
    found.settimeout(longest_s)
    return found
