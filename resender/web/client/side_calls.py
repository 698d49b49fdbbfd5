"""Calls that are no calls of an API: bulk files, and connections of `CONNECT`.

They use no weight and share nothing. `RequestDelegate` decides that a request is one of these.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tornado.iostream import IOStream

from resender.core.binance.headers import headers_up
from resender.errors import AnswerError, InternalError
from resender.upstream import RestResponse
from resender.web.client.relay import AnswerRelay
from resender.web.client.tunnel import Streams, serve_tunnel

logger = logging.getLogger("resender.forward")

EGRESS_WANTED = "X-Resender-Egress"


@dataclass(slots=True)
class Tunnel:
    """One connection of CONNECT. It is a `Guest` of the fan-out; its bytes are counted when it has ended."""

    address: str
    path: str
    since_ms: int
    ends: list[Callable[[], object]]
    kind: str = "tunnel"
    market: str = ""
    frames_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0

    def close(self, code: int, reason: str) -> None:
        for end in self.ends:
            end()


class SideCalls(AnswerRelay):
    """What one request needs for them."""

    ip: str
    # Path and query of the bulk file that is wanted; host and port of the connection.
    download: str | None = None
    authority: tuple[str, int] | None = None

    def _answer(self, error: AnswerError, *, close: bool = False) -> int:
        raise NotImplementedError

    def _log(
        self, status: int, upstream_status: int | None, duration_ms: float, sent: int, error: str | None
    ) -> None:
        raise NotImplementedError

    async def _serve_download(self, target: str) -> None:
        async def ask() -> RestResponse:
            up = headers_up(self.headers.get_all(), self.services.user_agent)
            # An API key is no business of a host of files, or of a mirror.
            up = [pair for pair in up if not pair[0].startswith("X-")]
            return await self.services.downloads.get(self.method, target, up)

        await self._pass_answer("a download", ask)

    async def _pass_answer(self, what: str, ask: Callable[[], Awaitable[RestResponse]]) -> None:
        """Hand down an answer that is no call of an API. Shape: `what` names it in the log."""
        services = self.services
        started = time.monotonic()
        response: RestResponse | None = None
        status = sent = 0
        problem: str | None = None
        try:
            response = await ask()
            status = response.status
            sent, problem = await self.relay(response)
        except AnswerError as error:
            status, problem = error.answer.status, error.msg
            sent = self._answer(error)
        except asyncio.CancelledError:
            problem = "client gone" if self.is_gone else "gateway stopped"
            self.connection.close()
        except Exception:
            logger.exception("%s failed", what)
            bug = InternalError()
            status, problem = bug.answer.status, bug.msg
            if self.has_begun:
                self.connection.close()
            else:
                sent = self._answer(bug)
        finally:
            services.calls.in_flight -= 1
            if response is not None:
                response.close()
            upstream_status = response.status if response is not None else None
            services.metrics.bytes_sent.inc(sent)
            self._log(status, upstream_status, (time.monotonic() - started) * 1000, sent, problem)

    @contextmanager
    def _shown(self, authority: str, ends: list[Callable[[], object]]) -> Iterator[None]:
        """Let a tunnel be seen among the clients that last, and be ended there."""
        fanout = self.services.fanout
        number = fanout.next_number()
        fanout.guests[number] = Tunnel(self.ip, authority, self.services.clock.now_ms(), ends)
        try:
            yield
        finally:
            fanout.guests.pop(number, None)

    async def _serve_tunnel(self, host: str, port: int) -> None:
        services = self.services
        started = time.monotonic()
        status, is_open = 0, False
        problem: str | None = None
        try:
            try:
                upstream = await services.tunnels.open(host, port, self.headers.get(EGRESS_WANTED))
            finally:
                services.calls.in_flight -= 1  # it may last for days
            is_allowed = services.access.whitelist.match(self.ip) is not None
            if self.is_gone or self.connection.stream.closed() or not is_allowed:
                upstream[1].close()
                self.connection.close()
                problem = "client gone" if is_allowed else "not in the whitelist any more"
                return
            # It may last for days and is no call any more: a stop does not wait for it.
            stream = self.connection.detach()
            services.tasks.spawn(
                self._carry(stream, upstream, f"{host}:{port}", started), name="tunnel:carry"
            )
            is_open = True
        except AnswerError as error:
            status, problem = error.answer.status, error.msg
            self._answer(error, close=True)
        except asyncio.CancelledError:
            problem = "gateway stopped"
            self.connection.close()
        except Exception:
            logger.exception("a tunnel failed")
            bug = InternalError()
            status, problem = bug.answer.status, bug.msg
            self._answer(bug, close=True)
        finally:
            if not is_open:
                self._log(status, None, (time.monotonic() - started) * 1000, 0, problem)

    async def _carry(self, stream: IOStream, upstream: Streams, authority: str, started: float) -> None:
        """Pass a tunnel's bytes on until it ends."""
        services = self.services
        up = down = 0
        try:
            with self._shown(authority, [stream.close, upstream[1].transport.abort]):
                up, down = await serve_tunnel(services.tasks, stream, upstream)
        finally:
            services.metrics.tunnels.inc()
            services.metrics.tunnel_bytes.inc(up + down)
            self._log(200, None, (time.monotonic() - started) * 1000, up + down, None)
