"""Send one REST call to one Binance host and hand its answer back in pieces.

It does not choose the host or the egress, knows no client and no whitelist, and changes nothing
in what passes. A `RestClient` owns one pooled session; its owner starts and closes it. The ways
out (`EgressRoute`) are made by `egresses.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from yarl import URL

from resender.core.binance.headers import Pairs
from resender.errors import (
    OUTCOME_UNKNOWN,
    AnswerError,
    StartError,
    UpstreamLost,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from resender.upstream.connector import (
    DIRECT,
    Attempt,
    Connector,
    EgressFault,
    EgressRoute,
    EgressUnusable,
    Timeouts,
    current_attempt,
    note_unexpected,
    why_not,
)

logger = logging.getLogger("resender.upstream")

REPEATABLE = frozenset({"GET", "HEAD"})
_SKIPPED_DEFAULTS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_MAX_HEADER_BYTES = 65536


@dataclass(slots=True)
class RestStats:
    """Counters of one client, read by the metrics."""

    connections_new: int = 0
    connections_reused: int = 0
    repeats: int = 0


class RestResponse:
    """An answer whose body is still on its way; close it in any case."""

    __slots__ = (
        "_client", "_content", "_method", "_pending", "_response", "egress", "headers", "reason",
        "status", "told",
    )  # fmt: skip
    # Not shared with anybody, see `SharedAnswer`.
    kind = ""
    age_ms = 0

    def __init__(self, client: RestClient, method: str, response: aiohttp.ClientResponse) -> None:
        self._client = client
        self._method = method
        self._response = response
        self._content = response.content
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = response.raw_headers
        # Read ahead by `peek` and not handed over yet.
        self._pending = b""
        #: Name of the egress it came through.
        self.egress = ""
        #: What another node of this installation tells the client of its answer.
        self.told: Pairs = []

    async def peek(self) -> bytes:
        """Return the first bytes of the body without taking them; b"" if there are none."""
        if not self._pending:
            try:
                self._pending = await self.next_chunk()
            except AnswerError:
                return b""  # whoever reads the body gets to know
        return self._pending

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body as they came, b"" at its proper end.

        Raises: UpstreamLost or UpstreamTimeout when the body breaks off.
        """
        if self._pending:
            chunk, self._pending = self._pending, b""
            return chunk
        try:
            return await self._content.readany()
        except asyncio.TimeoutError:
            raise UpstreamTimeout(
                self._client.unknown(self._method, "was silent in the middle of its answer")
            ) from None
        except Exception as error:
            note_unexpected(self._client.host, error)
            raise UpstreamLost(
                self._client.unknown(self._method, "broke off in the middle of its answer")
            ) from None

    async def chunks(self, limit_bytes: int) -> AsyncIterator[bytes]:
        """Yield the whole body.

        Raises: UpstreamLost or UpstreamTimeout when it breaks off or is longer than the limit.
        """
        size = 0
        while chunk := await self.next_chunk():
            size += len(chunk)
            if size > limit_bytes:
                raise UpstreamLost(f"The upstream {self._client.host} sent more than {limit_bytes} bytes.")
            yield chunk

    def at_end(self) -> bool:
        return not self._pending and self._content.at_eof()

    def close(self) -> None:
        """Give the connection back, or end it if the body was not read to its end."""
        self._response.close()


class RestClient:
    """One pooled session to one upstream host."""

    def __init__(
        self,
        base_url: str,
        timeouts: Timeouts,
        *,
        keepalive_s: float = 55.0,
        dns_cache_s: float = 300.0,
        ssl_context: ssl.SSLContext | None = None,
        egress: EgressRoute = DIRECT,
    ) -> None:
        self._base = URL(base_url)
        self._egress = egress
        # For texts; of another gateway only the name of the way is shown.
        self.host = egress.name if egress.is_gateway else self._base.raw_host or ""
        self._timeouts = timeouts
        self._keepalive_s = keepalive_s
        self._dns_cache_s = dns_cache_s
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None
        self.stats = RestStats()

    async def start(self) -> None:
        connector = self._egress.connector(
            limit=0,  # calls in flight are bounded by the gateway
            keepalive_timeout=self._keepalive_s,
            ttl_dns_cache=max(1, int(self._dns_cache_s)),
            use_dns_cache=self._dns_cache_s > 0,
            ssl=self._ssl_context if self._ssl_context is not None else True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_DEFAULTS,
            trust_env=False,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(
                total=self._timeouts.total_s,
                connect=self._timeouts.connect_s,
                sock_read=self._timeouts.read_s,
                ceil_threshold=3600,
            ),
        )
        # aiohttp repeats GET, PUT and DELETE by itself when a connection dies before the answer.
        # A DELETE or PUT may trade: nothing is repeated but by `send` below.
        if not hasattr(self._session, "_retry_connection"):
            raise StartError("this aiohttp has no switch against repeating calls; use the pinned version")
        self._session._retry_connection = False

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        connector = session.connector
        await session.close()
        if isinstance(connector, Connector):
            connector.abort_all()
            await asyncio.sleep(0)  # what was aborted is told so in the loop's next turn

    async def send(self, method: str, target: str, headers: Pairs, body: bytes) -> RestResponse:
        """Send a call once; a GET or HEAD a second time if a kept connection proved dead.

        Shape: `target` is the request target to be written as it is, ASCII; `headers` go as given.
        Raises: UpstreamUnreachable (nothing was sent), UpstreamLost, UpstreamTimeout.
        """
        attempt = Attempt()
        try:
            response = await self._try(attempt, method, target, headers, body)
        except Exception as error:
            stale = attempt.connected and attempt.reused and not attempt.answered
            if isinstance(error, asyncio.TimeoutError) or not stale or method not in REPEATABLE:
                raise self._explain(attempt, method, error) from None
            self.stats.repeats += 1
            attempt = Attempt(must_be_new=True)
            try:
                response = await self._try(attempt, method, target, headers, body)
            except Exception as second:
                raise self._explain(attempt, method, second) from None
        return RestResponse(self, method, response)

    async def _try(
        self, attempt: Attempt, method: str, target: str, headers: Pairs, body: bytes
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "start() first"
        base = self._base
        # The whole target is the "path" of an already encoded URL: yarl takes nothing in it apart,
        # so nothing in it can change the host, and every byte stays what it was.
        path = self._egress.prefix + target
        url = URL.build(scheme=base.scheme, authority=base.raw_authority, path=path, encoded=True)
        current_attempt.set(attempt)
        response = await self._session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False
        )
        if attempt.reused:
            self.stats.connections_reused += 1
        else:
            self.stats.connections_new += 1
        return response

    def unknown(self, method: str, what: str) -> str:
        """Text for a call that was sent and not answered in full."""
        text = f"The upstream {self.host} {what}."
        return text if method in REPEATABLE else f"{text} {OUTCOME_UNKNOWN}"

    def _through(self) -> str:
        egress = self._egress
        return f" through {egress.name}" if egress.name and not egress.is_gateway else ""

    def _explain(self, attempt: Attempt, method: str, error: BaseException) -> AnswerError:
        """Turn an error of the HTTP client into one of ours; its own text may hold the URL.

        Whatever goes wrong below HTTP costs the calls it hits and nothing else: an error nobody
        has thought of, too, is one of the line, and what may have been sent has no known outcome.
        """
        note_unexpected(self.host, error)
        # Its text may hold the whole address, and with it a secret.
        logger.debug("%s %s: %s", method, self.host, type(error).__name__)
        if not attempt.connected:
            text = (
                f"The upstream {self.host} cannot be reached{self._through()}: "
                f"{why_not(error, attempt, self._timeouts)}."
            )
            is_whole = self._egress.is_gateway or bool(attempt.waits_for)
            if isinstance(error, EgressFault):
                is_whole = error.is_whole
            if not is_whole:
                return UpstreamUnreachable(text)
            unusable = EgressUnusable(text)
            is_silent = isinstance(error, asyncio.TimeoutError)
            unusable.is_certain = error.is_certain if isinstance(error, EgressFault) else not is_silent
            return unusable
        if isinstance(error, asyncio.TimeoutError):
            return UpstreamTimeout(self.unknown(method, "did not answer in time"))
        if isinstance(error, aiohttp.ClientResponseError):
            return UpstreamLost(self.unknown(method, "answered with something that is not HTTP"))
        return UpstreamLost(self.unknown(method, "closed the connection before it answered"))


def gunzip(body: bytes) -> bytes:
    """Unpack a whole body. Raises: UpstreamLost if it is damaged."""
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        raise UpstreamLost("The upstream sent a damaged compressed answer.") from None


def readable(body: bytes) -> bytes:
    """Return the beginning of a body, unpacked if it is gzip."""
    if body[:2] == b"\x1f\x8b":
        try:
            return zlib.decompressobj(wbits=31).decompress(body, 4096)
        except zlib.error:
            return b""
    return body[:4096]
