"""What the tests of the web layer share: services made by hand, a connection that is written to, a server.

`served` puts handlers on a loopback port, `administered` the admin pages with somebody logged in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, RequestStartLine
from tornado.netutil import bind_sockets
from tornado.routing import URLSpec
from tornado.web import Application

from resender.access import Access
from resender.aio import Clock, Tasks
from resender.calls import Calls
from resender.config import Config
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.egress.governor import Governor
from resender.core.egress.spec import parse_egress
from resender.fanout import Fanout, FanoutOptions
from resender.loop_lag import LoopLag
from resender.metrics import Metrics
from resender.savings import Savings
from resender.status import Status
from resender.store import SessionRow, TokenRow, UserRow
from resender.web.admin.routes import admin_routes
from resender.web.admin.sessions import Login
from resender.web.base import NotFoundHandler
from tests.support.admin import Browser

NOW_MS = 1_790_000_000_000
USER = UserRow(7, "root", "no hash", True, False, NOW_MS, NOW_MS, None, None)
SESSION = SessionRow(70, 7, NOW_MS - 1000, NOW_MS, "127.0.0.1", "tests")


class Entry:
    """A whitelist entry."""

    def __init__(self, number: int, address: str) -> None:
        self.id = number
        self.address = address
        self.enabled = True


class FakeStore:
    """The database's place: keeps what is written; `answers` holds what its methods give.

    Any method not defined here returns `answers[name]`, which may be an error or a function.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.audit: list[tuple[Any, ...]] = []
        self.seen: list[tuple[int, int]] = []
        self.rows: list[Any] = []
        self.log_enabled = False
        self.stats = SimpleNamespace(
            log_written=0, log_dropped=0, log_queued=0, errors=0, healthy=True, last_error=""
        )

    def note_seen(self, entry_id: int, now_ms: int) -> None:
        self.seen.append((entry_id, now_ms))

    def log(self, record: Any) -> None:
        self.rows.append(record)

    async def audit_add(self, *row: Any) -> None:
        self.audit.append(row)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        async def method(*args: Any, **options: Any) -> Any:
            self.asked.append((name, args, options))
            answer = self.answers[name]
            if callable(answer):
                answer = answer(*args, **options)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method


class FakeRepository:
    """The tables as one change sees them: as `FakeStore`, and `audit` with `audit_add`'s rows."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.audit: list[tuple[Any, ...]] = []

    def transaction(self) -> Any:
        return nullcontext()

    def audit_add(self, *row: Any) -> None:
        self.audit.append(row)

    def change(self, work: Any) -> Any:
        """Do a piece of work, as the store's methods for changes do."""
        try:
            return work(self)
        except Exception as error:
            return error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def method(*args: Any, **options: Any) -> Any:
            self.asked.append((name, args, options))
            answer = self.answers[name]
            if callable(answer):
                answer = answer(*args, **options)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method


class FakeLogins:
    """The log-in of who shows the cookie or token "good"; None for everybody else."""

    def __init__(self) -> None:
        self.login: Login | None = Login(USER, session=SESSION)
        self.asked: list[tuple[str, bool, bool]] = []
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1

    async def by_session(
        self, secret: str, ip: str, *, touch: bool = True, fresh: bool = False
    ) -> Login | None:
        self.asked.append((secret, touch, fresh))
        return self.login if secret == "good" else None

    by_token = by_session


class NoAccounts:
    """No account is watched: nobody answers, nobody learns."""

    all: tuple[()] = ()

    def ask(self, *call: object) -> None:
        return None

    def watch(self, *call: object, **how: object) -> None:
        return None


def make_services(*, store: FakeStore | None = None, cache: Any = None, **settings: Any) -> Any:
    """Make services of plain objects; loopback is whitelisted with the number 1."""
    clock = Clock(now_ms=lambda: NOW_MS, mono=lambda: 100.0)
    config = Config(**settings)
    access = Access(config.trusted_proxies, clock)
    access.set_whitelist([Entry(1, "127.0.0.1")])
    egress = SimpleNamespace(
        governor=Governor(parse_egress(["default"]), ExchangeClock.guess(NOW_MS, 100.0)),
        upstreams=tuple(config.upstreams),
        markets=frozenset(config.upstreams),
        used_weight={},
        clients={},
    )
    dispatch = SimpleNamespace(egress=egress, last_answers={}, hops=None)
    store = store or FakeStore()
    calls = Calls()
    calls.is_open = True
    savings = Savings(clock)
    fanout = Fanout(cast(Any, None), FanoutOptions(), clock=clock, tasks=Tasks())
    return SimpleNamespace(
        config=config,
        clock=clock,
        metrics=Metrics(),
        access=access,
        calls=calls,
        tasks=Tasks(),
        dispatch=dispatch,
        cache=cache,
        store=store,
        fanout=fanout,
        accounts=NoAccounts(),
        alerts=None,
        cluster=None,
        worker=None,
        asks=None,
        crew=None,
        transfers=Tasks(),
        proofs=None,
        in_flight=0,
        status=Status(
            access=access,
            dispatch=cast(Any, dispatch),
            cache=cache,
            fanout=fanout,
            lag=LoopLag(),
            savings=savings,
            store=cast(Any, store),
            clock=clock,
        ),
        savings=savings,
        consent={},
        user_agent="binance-resender/0",
        ssl_context=None,
    )


class FakeConnection:
    """A client's connection, as far as answers are written to it."""

    keep_alive = "timeout=9"

    def __init__(self, method: str = "GET", ip: str = "127.0.0.1") -> None:
        self.context = SimpleNamespace(remote_ip=ip)
        self.stream = SimpleNamespace(closed=lambda: False)
        self.is_kept = True
        self.status = 0
        self.headers = HTTPHeaders()
        self.body = b""
        self.raw = b""
        self.is_finished = False
        self.is_closed = False
        self.max_body = 0
        self._request_start_line = RequestStartLine(method, "/", "HTTP/1.1")

    def set_max_body_size(self, size: int) -> None:
        self.max_body = size

    def set_close_callback(self, callback: Any) -> None:
        self.on_close = callback

    def write_headers(self, start: Any, headers: Any, chunk: bytes = b"") -> None:
        self.status = start.code
        for name, value in headers.get_all():
            self.headers.add(name, value)
        self.body += chunk

    def write(self, data: bytes) -> None:
        self.raw += data

    def finish(self) -> None:
        assert not self.is_finished
        self.is_finished = True

    def close(self) -> None:
        self.is_closed = True


@asynccontextmanager
async def served(services: Any, routes: Sequence[URLSpec], **server: Any) -> AsyncIterator[int]:
    """Serve handlers on a loopback port."""
    app = Application(
        list(routes),
        default_handler_class=NotFoundHandler,
        default_handler_args={"services": services},
        log_function=lambda handler: None,
    )
    http = HTTPServer(app, **server)
    sockets = bind_sockets(0, "127.0.0.1")
    http.add_sockets(sockets)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        http.stop()
        await http.close_all_connections()
        await services.tasks.cancel()


class Admin(Browser):
    """A browser on admin pages, logged in; `site` is what the handlers share."""

    def __init__(self, port: int, services: Any, routes: Sequence[URLSpec]) -> None:
        super().__init__(port)
        self.services = services
        self.store: FakeStore = services.store
        shared = cast(Any, routes[0].kwargs)
        self.site = shared["site"]
        self.logins = FakeLogins()
        self.site.logins = self.logins
        self.live = next(
            cast(Any, route.kwargs)["live"] for route in routes if "live" in (route.kwargs or {})
        )
        self.cookies = {"resender_session": "good"}


@asynccontextmanager
async def administered(services: Any | None = None) -> AsyncIterator[Admin]:
    """Serve the admin pages to somebody who is logged in."""
    services = services or make_services()
    routes = admin_routes(services)
    async with served(services, routes) as port:
        yield Admin(port, services, routes)


@asynccontextmanager
async def reading(port: int, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for an answer that goes on for long, as somebody who is logged in; the client leaves in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: resender_session=good\r\n\r\n".encode()
        )
        yield reader
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def token(scope: str) -> Login:
    """Return a log-in by an access token."""
    row = TokenRow(9, USER.id, USER.username, "script", scope, NOW_MS, None, None, None)
    return Login(USER, token=row)
