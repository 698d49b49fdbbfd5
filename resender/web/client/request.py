"""The hot path: one client's call, from its headers to the last byte of its answer.

It goes around Tornado's RequestHandler, which costs as much as the rest of a call. Whatever
has a page (`/`, `/healthz`, `/metrics`, `/admin...`) it hands to the Tornado application.
A `RequestDelegate` lives for one request and holds its state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import cast

from tornado import httputil

from resender.core.binance.headers import Pairs, headers_up
from resender.core.binance.host_names import behind_host, download_of
from resender.core.binance.routing import (
    METHODS,
    Route,
    encode_high_bytes,
    has_dot_segment,
    has_signature,
    resolve,
)
from resender.core.market.consent import max_age_ms
from resender.core.market.requests import Miss
from resender.core.redact import path_only
from resender.core.sharing import share_key
from resender.errors import (
    OUTCOME_UNKNOWN,
    AnswerError,
    BadRequest,
    BodyTooLarge,
    Busy,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    UpstreamLost,
)
from resender.market import PATHS, Hit, Outcome, Wanting
from resender.services import Services
from resender.store import LogRecord
from resender.turns import as_order
from resender.upstream import REPEATABLE, Call, RestResponse, SharedAnswer
from resender.web.answers import write_error
from resender.web.client.cached import ask_cache, cached_path, saved_weight, write_hit
from resender.web.client.hop_calls import HopCalls, read_caller
from resender.web.client.local import LOCAL_PREFIX
from resender.web.client.overheard import Overheard
from resender.web.client.relay import RelayedAnswer
from resender.web.client.signed_calls import ACCOUNT
from resender.web.client.streams import wants_upgrade
from resender.web.client.transfer import hand_over, is_elsewhere
from resender.web.client.tunnel import read_authority
from resender.web.connection import UNLIMITED, ClientConnection, declared_length

logger = logging.getLogger("resender.forward")

# A refused body is read and thrown away up to here, so that the client gets to read the answer.
_DRAIN_BYTES = 16 << 20
_DRAIN_BYTES_STRANGER = 64 << 10
_ADMIN_BODY_BYTES = 8 << 20
_PAGE_BODY_BYTES = 1 << 10
_READS = ("GET", "HEAD")
_PAGES = frozenset({"/", "/healthz", "/readyz", "/metrics"})


def has_page(path: str) -> bool:
    """Tell whether a path belongs to the Tornado application instead of an upstream."""
    return path in _PAGES or path == "/admin" or path.startswith("/admin/")


class RequestDelegate(HopCalls):
    """One request of one client."""

    def __init__(
        self,
        services: Services,
        application: httputil.HTTPServerConnectionDelegate,
        server_connection: object,
        connection: ClientConnection,
    ) -> None:
        super().__init__(services, connection)
        self.application = application
        self.server_connection = server_connection
        self.inner: httputil.HTTPMessageDelegate | None = None
        self.error: AnswerError | None = None
        self.body = b""
        self.size = 0
        self.limit = services.config.max_body_bytes
        self.ip = ""
        self.target = ""
        self.entry_id: int | None = None
        self.is_local = False
        self.started = 0.0
        self.outcome: Outcome | None = None
        # Under which of its paths the cache was asked.
        self.cached_path: str | None = None
        # The cache would like to see the answer.
        self.wanting: Wanting | None = None

    # --- what Tornado calls ----------------------------------------------------------------

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        request_line = cast(httputil.RequestStartLine, start_line)
        self.method, self.target, self.version = request_line
        self.headers = headers
        # The limit is ours to enforce, Tornado's own answer to a large body is not JSON.
        self.connection.set_max_body_size(UNLIMITED)
        path = self.target.partition("?")[0]
        is_upgrade = wants_upgrade(self.method, headers)
        if self.services.worker is not None and is_elsewhere(
            self.services, self.target, headers, is_upgrade=is_upgrade
        ):
            hand_over(self.services.transfers, self.services.worker, self.connection)
            return None
        if is_upgrade or has_page(path):
            # The admin part streams bodies and knows its own limits; the other pages take none.
            self.limit = (
                _PAGE_BODY_BYTES if is_upgrade or path in _PAGES else max(self.limit, _ADMIN_BODY_BYTES)
            )
            self.error = self._too_large(headers)
            if self.error is None:
                self.inner = self.application.start_request(self.server_connection, self.connection)
                return self.inner.headers_received(start_line, headers)
        else:
            try:
                self._admit(headers)
            except AnswerError as error:
                self.error = error
        if self.error is not None and not self._worth_draining(headers):
            self._refuse(self.error, close=True)
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self.size += len(chunk)
        if self.error is not None:
            if self.size > _DRAIN_BYTES:
                self._refuse(self.error, close=True)
            return None
        if self.size > self.limit:
            self.error = self._over_limit()
            self.body = b""
            if self.inner is not None:
                self.inner.on_connection_close()
                self.inner = None
            return None
        if self.inner is not None:
            return self.inner.data_received(chunk)
        self.body = self.body + chunk if self.body else chunk
        return None

    def finish(self) -> None:
        if self.inner is not None:
            self.inner.finish()
            return
        services = self.services
        if self.error is None:
            try:
                self._check_hop()
                target = self._final_target()
                if not services.calls.is_open:
                    raise self._stopping()
                if services.calls.in_flight >= services.config.max_in_flight:
                    raise Busy("Too many calls are in flight in this gateway; nothing was sent.")
            except AnswerError as error:
                self.error = error
        if self.error is not None:
            self._refuse(self.error, close=not services.calls.is_open)
            return
        self.started = time.monotonic()
        if self._answer_from_cache() or self._answer_from_account():
            return
        if isinstance(
            self.outcome, asyncio.Future
        ):  # another worker is asked: no task for what is mostly a hit
            services.calls.asked.add(self.outcome)
            self.outcome.add_done_callback(lambda found: self._was_answered(found, target))
            return
        self._begin(target)

    def _was_answered(self, found: asyncio.Future[Hit | Miss], target: str) -> None:
        self.services.calls.asked.discard(found)
        self.outcome = None
        try:
            outcome = found.result()
            if isinstance(outcome, Hit):
                self._write_hit(outcome)
            else:
                self._note_miss(outcome)
                self._begin(target)
        except Exception:
            logger.exception("%s %s failed", self.method, path_only(self.target))
            self.connection.close()

    def _begin(self, target: str) -> None:
        """Start the task of a call that is not answered at once."""
        services = self.services
        services.calls.in_flight += 1
        self.connection.set_close_callback(self._client_gone)
        if self.authority is not None:
            work = self._serve_tunnel(*self.authority)
        elif self.download is not None:
            work = self._serve_download(encode_high_bytes(self.download))
        elif self.method not in REPEATABLE and not self.is_local:
            work = as_order(self._forward, target)
        else:
            work = self._serve_local(self.target) if self.is_local else self._forward(target)
        self.task = services.calls.tasks.spawn(work, name="call-forward")

    def on_connection_close(self) -> None:
        # The client left while it was still sending: nothing has been forwarded yet.
        if self.inner is not None:
            self.inner.on_connection_close()

    @property
    def may_stop(self) -> bool:
        return self.is_local or super().may_stop

    # --- admission -------------------------------------------------------------------------

    def _admit(self, headers: httputil.HTTPHeaders) -> None:
        """Decide by the headers alone whether and where the call may go."""
        services = self.services
        self.ip, self.hop = read_caller(services, self.connection, headers, self.method, self.target)
        self.entry_id = services.access.whitelist.match(self.ip)
        if self.entry_id is None:
            raise Forbidden(self.ip)
        if self.method == "CONNECT":
            self.authority = read_authority(services, self.target)
            if not services.fanout.has_room:
                raise Busy("There are as many lasting connections as MAX_STREAM_CLIENTS allows.")
            return
        target = self.target
        if services.config.host_suffix:
            target = behind_host(target, headers.get("Host"), services.config.host_suffix)
        self.download = download_of(target)
        if self.download is not None:
            if self.method not in _READS:
                raise MethodNotAllowed("Bulk files can be read only.", "GET, HEAD")
            if has_dot_segment(self.download):
                raise BadRequest("A path cannot contain '.' or '..' segments.")
            return
        self.is_local = self.target.startswith(LOCAL_PREFIX)
        if self.is_local and self.method != "GET":
            takes_post = self.target.partition("?")[0].endswith(("/klines", "/userDataStream"))
            if self.method != "POST" or not takes_post:
                text = "Local endpoints answer GET only, klines and userDataStream POST too."
                raise MethodNotAllowed(text, "GET, POST" if takes_post else "GET")
        if not self.is_local:
            self.route = resolve(target)
        if self.method not in METHODS:
            raise MethodNotAllowed(f"The method {self.method[:20]} is not allowed.")
        too_large = self._too_large(headers)
        if too_large is not None:
            raise too_large

    def _over_limit(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self.limit} bytes.")

    def _too_large(self, headers: httputil.HTTPHeaders) -> BodyTooLarge | None:
        if declared_length(headers) > self.limit:
            return self._over_limit()
        return None

    def _worth_draining(self, headers: httputil.HTTPHeaders) -> bool:
        """Tell whether to read a refused body before the answer: some clients send it all first."""
        if "Expect" in headers:
            return False
        limit = _DRAIN_BYTES_STRANGER if isinstance(self.error, Forbidden) else _DRAIN_BYTES
        return declared_length(headers) <= limit

    def _final_target(self) -> str:
        """Return the upstream's request target in ASCII."""
        if self.route is None:
            return self.target
        target = self.route.target
        if target.isascii():
            return target
        if has_signature(target, self.body):
            raise BadRequest(
                "The request target holds raw bytes above 0x7f and a signature. Percent-encode the "
                "parameters before you sign them, as Binance demands; a signed call cannot be changed."
            )
        return encode_high_bytes(target)

    def _refuse(self, error: AnswerError, *, close: bool = False) -> None:
        """Answer by ourselves."""
        metrics = self.services.metrics
        metrics.count_answer(error.name)
        metrics.tally.note_refused()
        if isinstance(error, Forbidden):
            self.services.access.refused.note(self.ip, path_only(self.target), self.services.clock.now_ms())
            self.services.access.note_stranger(self.ip, f"refused {self.ip}: not in the whitelist")
        sent = 0
        if not self.connection.stream.closed():
            sent = write_error(self.connection, error, close=close)
        self._log(error.answer.status, None, 0.0, sent, error.msg)

    # --- the cache -------------------------------------------------------------------------

    def _answer_from_cache(self) -> bool:
        """Answer out of memory if that can be done at once; remember why not otherwise."""
        route, cache, asks = self.route, self.services.cache, self.services.asks
        if route is None or (cache is None and asks is None):
            return False
        path = self.cached_path = cached_path(route.market, route.path)
        if path is None or route.market not in self.services.dispatch.egress.markets:
            return False
        if self.method != "GET":
            self.miss = "method"
            return False
        if self.body:
            self.miss = "body"
            return False
        self.outcome = ask_cache(cache or asks, path, route, self.headers, self.services.consent)
        if isinstance(self.outcome, Hit):
            self._write_hit(self.outcome)
            return True
        if isinstance(self.outcome, Miss):
            self._note_miss(self.outcome)
        return False

    def _note_miss(self, miss: Miss) -> None:
        self.miss = miss.reason
        self.wanting = miss if isinstance(miss, Wanting) else None

    def _write_hit(self, hit: Hit, extra: Pairs | None = None) -> None:
        sent = 0
        if not self.is_gone and not self.connection.stream.closed():
            market = self.route.market if self.route is not None else None
            sent = write_hit(
                self.connection,
                market,
                self.services.dispatch.egress.used_weight,
                hit,
                version=self.version,
                extra=self._with_waited(extra),
            )
            if self.route is not None:
                saved = saved_weight(self.route) - hit.cost
                path, kind = self.cached_path, (self.route.market.value, ACCOUNT)
                saved_as = kind if path is None else PATHS[path].saved_as
                self.services.savings.note(saved_as, saved)
        duration_ms = (time.monotonic() - self.started) * 1000
        self.services.metrics.count_hit(duration_ms, sent)
        self._log(200, None, duration_ms, sent, None)

    async def _settle(self) -> bool:
        """Wait for the cache at a candle's end; return whether it answered."""
        outcome = self.outcome
        if not isinstance(outcome, Awaitable):
            return False
        self.outcome = None
        found = await outcome
        if isinstance(found, Hit):
            self._write_hit(found)
            return True
        self._note_miss(found)
        return False

    # --- forwarding ------------------------------------------------------------------------

    async def _forward(self, target: str) -> None:
        services, route = self.services, self.route
        assert route is not None
        started = time.monotonic()
        response: RelayedAnswer | None = None
        status = sent = 0
        problem: str | None = None
        was_hit = False
        try:
            if await self._settle():
                was_hit = True
                return
            self._watch_call(route, target)
            answer = await self._send(route, target)
            response = self._overhear(answer)
            if self.wanting is not None and not answer.kind:  # others' answers are older than this call
                response = Overheard(answer, self.wanting)
                self.wanting = None  # its answer leaves for it
            status = response.status
            sent, problem = await self.relay(response)
        except AnswerError as error:
            self._note_no_answer(error)
            status, problem = error.answer.status, error.msg
            sent = self._answer(error)
        except asyncio.CancelledError:
            if self.is_gone:
                problem = "client gone"
            else:
                status, sent, problem = self._cut_off()
        except Exception:
            logger.exception("%s %s failed", self.method, path_only(route.path))
            bug = InternalError()
            status, problem = bug.answer.status, bug.msg
            if self.has_begun:  # a second answer inside the first would look like its body
                self.connection.close()
            else:
                sent = self._answer(bug)
        finally:
            services.calls.in_flight -= 1
            if response is not None:
                response.close()
            if self.wanting is not None:
                self.wanting.leave()
            self._note_no_answer(None)
            duration_s = time.monotonic() - started
            upstream_status = response.status if response is not None else None
            if self.is_gone:
                services.metrics.clients_gone.inc()
                problem = problem or "client gone"
                if self.method not in REPEATABLE:
                    end = upstream_status or status
                    logger.warning(
                        "client %s went away; %s %s %s",
                        self.ip, self.method, path_only(route.path),
                        f"was finished all the same: status {end}" if end else "was cut off: outcome unknown",
                    )  # fmt: skip
            if not was_hit:
                services.metrics.count_request(route.market, self.method, status, duration_s, sent)
                self._log(status, upstream_status, duration_s * 1000, sent, problem)

    async def _send(self, route: Route, target: str) -> RestResponse | SharedAnswer:
        """Send the call, or join an equal one.

        Raises: AnswerError.
        """
        up = self._readable(headers_up(self.headers.get_all(), self.services.user_agent))
        key = self.headers.get("X-Mbx-Apikey")
        if key is None and has_signature(target, self.body):
            key = ""
        is_fresh = False
        consent_ms: int | None = None
        if self.method == "GET" and key is None and not self.body:
            self.share_key, is_fresh = share_key(route.market, target, up)
            consent_ms = max_age_ms(route.path, self.headers.get_all(), self.services.consent)
        is_hop = self.hop is not None
        call = Call(route.market, self.method, target, up, self.body, key, self.ip, is_hop=is_hop)
        response = await self.services.dispatch.send(
            call,
            self.share_key,
            is_fresh=is_fresh,
            max_age_s=None if consent_ms is None else consent_ms / 1000,
        )
        is_key_made = self.method == "POST" and route.path.endswith("/listenKey")
        if is_key_made and response.status == 200 and isinstance(response, RestResponse):
            # Its stream goes through the same egress.
            self.services.relays.note_made(await response.peek(), response.egress)
        return response

    def _cut_off(self) -> tuple[int, int, str]:
        """The gateway stops and can wait no longer; a client left without a word might repeat the call."""
        if self.has_begun:
            self.connection.close()
            return 0, 0, "gateway stopped in the middle of the answer"
        text = "The gateway was stopped before the upstream answered."
        error = UpstreamLost(text if self.method in REPEATABLE else f"{text} {OUTCOME_UNKNOWN}")
        return error.answer.status, self._answer(error, close=True), "gateway stopped"

    def _answer(self, error: AnswerError, *, close: bool = False) -> int:
        self.services.metrics.count_answer(error.name)
        if self.is_gone or self.connection.stream.closed():
            return 0
        return write_error(self.connection, error, close=close)

    def _log(
        self, status: int, upstream_status: int | None, duration_ms: float, sent: int, error: str | None
    ) -> None:
        """Put a row into the request log, if that is on, and count the caller."""
        store = self.services.store
        now_ms = self.services.clock.now_ms()
        if self.entry_id is not None:
            store.note_seen(self.entry_id, now_ms)
        if store.log_enabled:
            route = self.route
            store.log(
                LogRecord(
                    time_ms=now_ms,
                    ip=self.ip,
                    method=self.method[:16],
                    market=route.market.value if route is not None else "",
                    path=path_only(self.target)[:512],
                    status=status,
                    upstream_status=upstream_status,
                    duration_ms=round(duration_ms, 3),
                    bytes=sent,
                    error=error,
                )
            )
