"""Calls that are no calls of an API: bulk files, and connections of `CONNECT`.

They use no weight and share nothing. `RequestDelegate` decides that a request is one of these.
"""

from __future__ import annotations

import asyncio
import logging
import time

from resender.core.binance.headers import headers_up
from resender.errors import AnswerError, InternalError
from resender.upstream import RestResponse
from resender.web.client.relay import AnswerRelay
from resender.web.client.tunnel import serve_tunnel

logger = logging.getLogger("resender.forward")

EGRESS_WANTED = "X-Resender-Egress"


class SideCalls(AnswerRelay):
    """What one request needs for them."""

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
        services = self.services
        started = time.monotonic()
        response: RestResponse | None = None
        status = sent = 0
        problem: str | None = None
        try:
            up = headers_up(self.headers.get_all(), services.user_agent)
            response = await services.downloads.get(self.method, target, up)
            status = response.status
            sent, problem = await self.relay(response)
        except AnswerError as error:
            status, problem = error.answer.status, error.msg
            sent = self._answer(error)
        except asyncio.CancelledError:
            problem = "client gone" if self.is_gone else "gateway stopped"
            self.connection.close()
        except Exception:
            logger.exception("a download failed")
            problem = "internal error"
            if self.has_begun:
                self.connection.close()
            else:
                self._answer(InternalError())
        finally:
            services.calls.in_flight -= 1
            if response is not None:
                response.close()
            upstream_status = response.status if response is not None else None
            services.metrics.bytes_sent.inc(sent)
            self._log(status, upstream_status, (time.monotonic() - started) * 1000, sent, problem)

    async def _serve_tunnel(self, host: str, port: int) -> None:
        services = self.services
        started = time.monotonic()
        status = up = down = 0
        problem: str | None = None
        try:
            upstream = await services.tunnels.open(host, port, self.headers.get(EGRESS_WANTED))
            services.calls.in_flight -= 1  # it may last for days
            if self.is_gone or self.connection.stream.closed():
                upstream[1].close()
                problem = "client gone"
                return
            status = 200
            up, down = await serve_tunnel(services.tasks, self.connection.detach(), upstream)
        except AnswerError as error:
            services.calls.in_flight -= 1
            status, problem = error.answer.status, error.msg
            self._answer(error, close=True)
        finally:
            services.metrics.tunnels.inc()
            services.metrics.tunnel_bytes.inc(up + down)
            self._log(status, None, (time.monotonic() - started) * 1000, up + down, problem)
