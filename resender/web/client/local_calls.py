"""Calls below `/local/`: read here, answered by `local.py` and `local_accounts.py`, written whole or in pieces.

Nothing is sent upstream for them, but for a subscription a client has signed. One belongs to one request.
"""

from __future__ import annotations

import asyncio
import logging
import time

from tornado.iostream import StreamClosedError

from resender.core.binance.headers import Pairs
from resender.core.redact import path_only
from resender.errors import AnswerError, InternalError
from resender.market import Hit, Pieces
from resender.web.client.cached import accepts_gzip, write_pieces
from resender.web.client.local import answer_local
from resender.web.client.local_accounts import Caller, answer_account, is_account_path
from resender.web.client.side_calls import SideCalls

logger = logging.getLogger("resender.forward")


class LocalCalls(SideCalls):
    """What one request needs for them."""

    body: bytes
    started: float

    def _write_hit(self, hit: Hit, extra: Pairs | None = None) -> None:
        raise NotImplementedError

    async def _serve_local(self, target: str) -> None:
        path, _, query = target.partition("?")
        try:
            posted = self.body if self.method == "POST" else None
            if is_account_path(path):
                caller = Caller(self.ip, self.headers.get("X-Mbx-Apikey"), self.headers.get("Authorization"))
                self._write_hit(await answer_account(self.services, caller, path, query, posted), [])
                return
            hit, extra = await answer_local(
                self.services, path, query, packed=accepts_gzip(self.headers), body=posted
            )
            if hit.pieces is None:
                self._write_hit(hit, extra)
            else:
                await self._write_pieces(hit.pieces, hit, extra)
        except AnswerError as error:
            self.services.metrics.tally.note_refused()
            sent = self._answer(error)
            self._log(error.answer.status, None, 0.0, sent, error.msg)
        except asyncio.CancelledError:
            self.connection.close()
        except Exception:
            logger.exception("%s failed", path_only(target))
            if self.has_begun:
                self.connection.close()
            else:
                self._answer(InternalError())
        finally:
            self.services.calls.in_flight -= 1

    async def _write_pieces(self, pieces: Pieces, hit: Hit, extra: Pairs) -> None:
        sent, problem = 0, None
        if not self.is_gone and not self.connection.stream.closed():
            self.has_begun = True
            try:
                sent = await write_pieces(self.connection, pieces, hit, version=self.version, extra=extra)
            except StreamClosedError:
                problem = "client gone"
        duration_ms = (time.monotonic() - self.started) * 1000
        self.services.metrics.count_hit(duration_ms, sent)
        self._log(200, None, duration_ms, sent, problem)
