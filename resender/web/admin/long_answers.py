"""Base classes of live answers: the shared `Live`, and answers that go on for long.

A long answer never gets ahead of its client, ends when the client, its log-in or the gateway
goes, and lets the loop do other work. A handler owns only its own answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tornado.iostream import StreamClosedError

from resender.core.binance.markets import Market
from resender.errors import AnswerError, RouteError, StoreError
from resender.market import CACHED_MARKETS, MarketCache
from resender.services import Services
from resender.web.admin.base import AdminHandler
from resender.web.admin.fields import wrong
from resender.web.admin.readings import Live
from resender.web.admin.shared import AdminSite

# A client that takes nothing for so long is gone, whatever its connection says.
_PATIENCE_S = 30.0
_LOGIN_EVERY_S = 2.0
_BEAT_EVERY_S = 15.0
STOPPING = "stopping"
LOGGED_OUT = "logged out"


class LiveHandler(AdminHandler):
    """A route that shows or steers what goes on in the gateway."""

    def initialize(self, services: Services, site: AdminSite, live: Live) -> None:  # type: ignore[override]
        super().initialize(services, site)
        self.live = live

    async def prepare(self) -> None:
        self.live.start()
        await super().prepare()

    def cache(self) -> MarketCache:
        """Return the market cache.

        Raises: RouteError if it is switched off.
        """
        if self.services.cache is None:
            msg = "The market cache is switched off in the settings of this gateway."
            raise RouteError(msg, {"reason": "cache_off"})
        return self.services.cache

    def query_word(self, name: str, words: Sequence[str]) -> str | None:
        """Read one of some words from the query, None if it is absent.

        Raises: BadRequest.
        """
        text = self.query_text(name)
        if text and text not in words:
            raise wrong(name, f"{name!r} has to be one of: {', '.join(words)}.")
        return text or None

    def query_cached_market(self, *, is_needed: bool = False) -> Market | None:
        """Read a market that has series.

        Raises: BadRequest.
        """
        words = [market.value for market in CACHED_MARKETS]
        word = self.query_word("market", words)
        if word is None and is_needed:
            raise wrong("market", f"Give `market`, one of: {', '.join(words)}.")
        return Market(word) if word is not None else None


class LongHandler(LiveHandler):
    """An answer written piece by piece."""

    def initialize(self, services: Services, site: AdminSite, live: Live) -> None:  # type: ignore[override]
        super().initialize(services, site, live)
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._checked = asyncio.get_running_loop().time()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._set_gone()

    def _set_gone(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._gone.done()

    @property
    def gone(self) -> asyncio.Future[None]:
        return self._gone

    async def may_go_on(self) -> bool:
        """Tell whether the log-in holds on, looking every few seconds."""
        now = asyncio.get_running_loop().time()
        if now - self._checked < _LOGIN_EVERY_S:
            return True
        self._checked = now
        return await self.still_logged_in()

    async def push(self, data: bytes) -> bool:
        """Write and wait until the client's system has it; False when the client is gone."""
        if self._gone.done():
            return False
        self.write(data)
        written = self.flush()
        done, _ = await asyncio.wait(
            {written, self._gone}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if written in done and not self._gone.done():
            try:
                written.result()
            except StreamClosedError:
                self._set_gone()
        elif not done:
            self.break_off()
        return not self._gone.done()

    async def pause(self, seconds: float) -> bool:
        """Let time pass; False when the client is gone."""
        if not self._gone.done():
            await asyncio.wait({self._gone}, timeout=max(0.0, seconds))
        return not self._gone.done()

    def break_off(self) -> None:
        """Cut the connection, so that the client sees that the answer is not whole."""
        self._set_gone()
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None:
            stream.close()

    def _handle_request_exception(self, e: BaseException) -> None:
        if not self._headers_written:
            super()._handle_request_exception(e)
            return
        # In the middle of an answer there is no place for another one.
        if not isinstance(e, (AnswerError, StoreError, StreamClosedError)):
            self.log_exception(type(e), e, e.__traceback__)
        self.break_off()


class EventHandler(LongHandler):
    """Server-sent events.

    Source: HTML standard, section 9.2 (server-sent events).
    """

    async def begin(self) -> bool:
        """Write the headers and how soon a lost client should come again."""
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")  # nginx would collect the events
        loop = asyncio.get_running_loop()
        self._spoken = loop.time()
        return await self.push(b"retry: 3000\n\n")

    async def event(self, name: str, data: bytes) -> bool:
        """Send an event; `data` is one line. False when the client is gone."""
        self._spoken = asyncio.get_running_loop().time()
        return await self.push(b"event: %b\ndata: %b\n\n" % (name.encode(), data))

    async def goes_on(self, seconds: float) -> bool:
        """Let time pass; False when the stream is over, which the client is told."""
        if not await self.pause(seconds):
            return False
        now = asyncio.get_running_loop().time()
        if not self.services.calls.is_open:
            return await self.end(STOPPING)
        if not await self.may_go_on():
            return await self.end(LOGGED_OUT)
        if now - self._spoken >= _BEAT_EVERY_S:
            self._spoken = now
            return await self.push(b":\n\n")
        return True

    async def end(self, reason: str) -> bool:
        """Say why nothing more comes; always False."""
        await self.event("end", b'{"reason":"%b"}' % reason.encode())
        return False
