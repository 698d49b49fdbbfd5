"""Bulk files of past market data, streamed through: `data.binance.vision`.

They cost no weight and are no calls; nothing is kept. `Downloads` owns one session for each egress.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from resender.core.binance.headers import Pairs
from resender.core.egress.spec import EgressSpec
from resender.errors import RouteError, UpstreamUnreachable
from resender.upstream.connector import Timeouts
from resender.upstream.egresses import make_route
from resender.upstream.rest import RestClient, RestResponse

# A file of a whole month takes its time at 30 Mbit/s.
_TOTAL_S = 3600.0


class Downloads:
    """Fetches files; `url` is the base URL, empty = not served."""

    def __init__(
        self,
        url: str,
        specs: Sequence[EgressSpec],
        *,
        connect_s: float,
        read_s: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        timeouts = Timeouts(connect_s, read_s, _TOTAL_S)
        # Another gateway would charge it; the others are tried in turn.
        self._clients = [
            (spec.name, RestClient(url, timeouts, ssl_context=ssl_context, egress=make_route(spec)))
            for spec in specs
            if url and spec.kind != "resender"
        ]
        self._turn = 0

    async def start(self) -> None:
        for _, client in self._clients:
            await client.start()

    async def stop(self) -> None:
        for _, client in self._clients:
            await client.stop()

    async def get(self, method: str, target: str, headers: Pairs) -> RestResponse:
        """Ask for a file.

        Raises: RouteError if this is not served; AnswerError if there is no answer.
        """
        if not self._clients:
            raise RouteError("Bulk files are not served: UPSTREAM_DATA is off, or no egress can fetch them.")
        self._turn += 1
        failure: UpstreamUnreachable | None = None
        for number in range(len(self._clients)):
            name, client = self._clients[(self._turn + number) % len(self._clients)]
            try:
                response = await client.send(method, target, headers, b"")
                response.egress = name
                return response
            except UpstreamUnreachable as error:
                failure = error
        assert failure is not None
        raise failure
