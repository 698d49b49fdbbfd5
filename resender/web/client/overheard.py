"""An answer on its way to a client that the cache takes a copy of: it costs no weight a second time.

It changes nothing of what the client gets. One belongs to one call.
"""

from __future__ import annotations

import asyncio
import logging

from resender.market import Wanting
from resender.upstream import RestResponse, SharedAnswer, gunzip

logger = logging.getLogger("resender.forward")

_MAX_BYTES = 4 << 20
_UNPACKED_AT_ONCE = 64 << 10


class Overheard:
    """The face of an answer that is being read.

    Shape: the whole body of a 200 answer, or with `any_status` of any, goes to `wanting.take`, unpacked, before
        its last piece is handed out; otherwise `wanting.leave` is called once.
    """

    def __init__(
        self, response: RestResponse | SharedAnswer, wanting: Wanting, *, any_status: bool = False
    ) -> None:
        self._response = response
        self._wanting: Wanting | None = wanting
        self._chunks: list[bytes] = []
        self._size = 0
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.egress = response.egress
        self.kind = response.kind
        self.told = response.told
        self.age_ms = response.age_ms
        self._is_gzip = False
        for name, value in response.headers:
            if name.lower() == b"content-encoding":
                self._is_gzip = value.strip().lower() == b"gzip"
                if not self._is_gzip and value.strip().lower() != b"identity":
                    self._leave()  # nothing here can read it
        if self.status != 200 and not any_status:
            self._leave()

    async def next_chunk(self) -> bytes:
        """Return the next bytes of the body, see `RestResponse.next_chunk`."""
        chunk = await self._response.next_chunk()
        if self._wanting is not None:
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size > _MAX_BYTES:
                self._leave()
            elif not chunk or self._response.at_end():
                await self._take()
        return chunk

    async def _take(self) -> None:
        wanting, self._wanting = self._wanting, None
        assert wanting is not None
        body = b"".join(self._chunks)
        self._chunks.clear()
        try:
            if self._is_gzip:
                is_large = len(body) > _UNPACKED_AT_ONCE
                body = await asyncio.to_thread(gunzip, body) if is_large else gunzip(body)
        except Exception:
            wanting.leave()  # what cannot be unpacked is the client's to judge
            return
        except BaseException:
            wanting.leave()
            raise
        try:
            wanting.take(body)
        except Exception:
            logger.exception("an answer could not be taken into the cache")  # the client gets it all the same

    def _leave(self) -> None:
        if self._wanting is not None:
            self._wanting.leave()
            self._wanting = None
            self._chunks.clear()

    def at_end(self) -> bool:
        return self._response.at_end()

    def close(self) -> None:
        self._leave()
        self._response.close()
