"""The link to Redis: scripts, reads and notices, each within a second, and nobody waits for a Redis that is gone.

Two kinds of connections: some for commands, one that listens. redis-py only sends PINGs there and takes a half-open
socket for a quiet one, so the answers are awaited here. What is shared over the link is its users' matter; what they
are told while Redis is gone is `RedisDown`, at once. One `RedisLink` belongs to one gateway or one command.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar, cast

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from resender.aio import Backoff, Clock, Tasks, end_tasks, within
from resender.cluster.redis_words import clock_words, refusal, words_of
from resender.core.cluster.redis_url import RedisAddress, parse_redis_url
from resender.errors import RedisDown
from resender.log import Seldom

logger = logging.getLogger("resender.cluster")

# Longest wait for one answer, connecting included.
LIMIT_S = 1.0
_PING_EVERY_S = 0.8
# The connection that listens is dead when nothing, not even a PONG, came for so long.
SILENCE_S = 2.4
_CONNECTIONS = 8
_AGAIN_FIRST_S, _AGAIN_CAP_S = 0.25, 4.0
_SAY_EVERY_S = 300.0
_CLOCK_EVERY_S = 30.0
_WAITING_MAX = 1000

T = TypeVar("T")
Callback = Callable[[dict[str, Any]], None]


class RedisLink:
    """The link of one node.

    Shape: `prefix` begins every key and channel, so that one Redis serves several installations; `problem` is why
        the link is down, in words that go on after "Redis at HOST:PORT ", "" while it is up; `warning` is what is
        wrong although it is up; `where` names the server without user and password.
    Units: `clock_off_ms` milliseconds that Redis' clock is ahead of this machine's.
    """

    def __init__(
        self,
        url: str,
        *,
        installation: str,
        clock: Clock,
        tasks: Tasks,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._address = parse_redis_url(url)
        self.where = self._address.where
        self.prefix = f"resender:{installation}:"
        self._clock = clock
        self._tasks = tasks
        self._own: set[asyncio.Task[Any]] = set()
        self._listeners: dict[str, list[Callback]] = {}
        self._connection = _connection_class(self._address, ssl_context)
        # What is counted by database number is kept apart; channels are not.
        self._channels = f"{self.prefix}{self._address.db}:"
        self._client = Redis(
            connection_pool=BlockingConnectionPool(
                max_connections=_CONNECTIONS,
                timeout=LIMIT_S,
                connection_class=self._connection,
                **_options(self._address),
            )
        )
        self._ear: Connection | None = None
        self._is_up = False
        self._lost = asyncio.Event()
        self._seldom = Seldom(logger, _SAY_EVERY_S)
        self._waiting = 0
        self.problem = "has not been asked yet"
        self.warning = ""
        self.clock_off_ms = 0.0
        # Monotonic seconds since when it is up or down.
        self.since_mono = clock.mono()
        self.losses = 0

    @property
    def is_up(self) -> bool:
        return self._is_up

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, and go on for as long as the link lives; it never fails and is never waited for."""
        self._spawn(self._keep(), "redis-link")

    async def open(self) -> None:
        """Connect once, for a command; nothing is listened to.

        Raises: RedisDown with one clear line.
        """
        try:
            await self._examine()
        except (RedisError, OSError, asyncio.TimeoutError, RedisDown) as error:
            raise RedisDown(self._sentence(words_of(error, LIMIT_S))) from None
        self._is_up, self.problem = True, ""

    async def stop(self) -> None:
        """End all connections; what is still to be published has a moment for it."""
        publishing = [task for task in self._own if task.get_name() == "redis-publish"]
        if publishing and self._is_up:
            await asyncio.wait(publishing, timeout=LIMIT_S)
        self._is_up = False
        self.problem = "is not asked any more"
        await end_tasks(self._own)
        await self._hang_up()

    def _spawn(self, coro: Any, name: str) -> None:
        task = self._tasks.spawn(coro, name=name)
        self._own.add(task)
        task.add_done_callback(self._own.discard)

    async def _keep(self) -> None:
        again = Backoff(first_s=_AGAIN_FIRST_S, cap_s=_AGAIN_CAP_S)
        while True:
            try:
                self._lost.clear()
                await self._examine()
                self._ear = await self._open_ear()
                self._set_up()
                again.reset()
                await self._listen_until_lost(self._ear)
            except (RedisError, OSError, asyncio.TimeoutError, RedisDown) as error:
                if not self._lost.is_set():  # else a command has told already
                    self._set_down(words_of(error, LIMIT_S))
            finally:
                self._lost.set()
                await self._hang_up()
            await asyncio.sleep(again.next_s())

    def _set_up(self) -> None:
        was_down_s = self._clock.mono() - self.since_mono
        self._is_up, self.problem = True, ""
        self.since_mono = self._clock.mono()
        if self.losses:
            logger.info("Redis at %s is back after %.1f s", self.where, was_down_s)
        else:
            logger.info("Redis at %s is connected", self.where)

    def _set_down(self, problem: str) -> None:
        if self._is_up or not self.losses:
            self.since_mono = self._clock.mono()
            self.losses += 1
        self._is_up, self.problem = False, problem
        text = f"{self._sentence(problem)}; nothing is shared with other nodes meanwhile, it is tried again"
        self._seldom.say(logging.ERROR, problem, self._clock.mono(), text)

    def _sentence(self, problem: str) -> str:
        return f"Redis at {self.where} {problem}"

    async def _hang_up(self) -> None:
        ear, self._ear = self._ear, None
        with suppress(RedisError, OSError, asyncio.TimeoutError):
            if ear is not None:
                await ear.disconnect(nowait=True)
        with suppress(RedisError, OSError, asyncio.TimeoutError):
            await self._client.connection_pool.disconnect(inuse_connections=True)

    # --- connecting ------------------------------------------------------------------------

    async def _examine(self) -> None:
        """Connect and see that this Redis will do. Raises: RedisDown, RedisError, OSError, TimeoutError."""
        server = await self._within(self._client.info("server"))
        replication = await self._within(self._client.info("replication"))
        if (problem := refusal(server, replication)) is not None:
            raise RedisDown(problem)
        await self._compare_clocks()

    async def _compare_clocks(self) -> None:
        before = self._clock.now_ms()
        seconds, micros = await self._within(self._client.time())
        after = self._clock.now_ms()
        off_ms = seconds * 1000 + micros / 1000 - (before + after) / 2
        # What the way there and back may have taken is not the clock's fault.
        doubt_ms = max(0, after - before) / 2
        self.clock_off_ms = off_ms
        off_ms = max(0.0, abs(off_ms) - doubt_ms) * (1 if off_ms > 0 else -1)
        self.warning = clock_words(off_ms) or ""
        if self.warning:
            self._seldom.say(logging.ERROR, "clock", self._clock.mono(), f"{self._sentence(self.warning)}")

    async def _open_ear(self) -> Connection:
        ear: Connection = self._connection(**_options(self._address))
        try:
            await within(ear.connect(), LIMIT_S)  # type: ignore[no-untyped-call]
            await ear.send_command("SUBSCRIBE", *self._channel_names(), check_health=False)
        except BaseException:
            await ear.disconnect(nowait=True)
            raise
        return ear

    def _channel_names(self) -> list[str]:
        # One is always listened to: a connection without a subscription answers a PING otherwise.
        return [self._channels + word for word in sorted({"", *self._listeners})]

    # --- listening -------------------------------------------------------------------------

    def listen(self, word: str, callback: Callback) -> None:
        """Have what any node publishes under a word handed over, what this one does included.

        Notices get lost while the link is down: they may wake up, what counts is read.
        """
        is_new = word not in self._listeners
        self._listeners.setdefault(word, []).append(callback)
        if is_new and self._ear is not None:
            self._spawn(self._subscribe(self._ear, word), "redis-subscribe")

    async def _subscribe(self, ear: Connection, word: str) -> None:
        try:
            await ear.send_command("SUBSCRIBE", self._channels + word, check_health=False)
        except (RedisError, OSError, asyncio.TimeoutError, AttributeError):
            self._lost.set()  # it will subscribe to all when it is back

    async def _listen_until_lost(self, ear: Connection) -> None:
        """Hand over notices. Raises: RedisDown, RedisError or OSError when the connection is lost."""
        self._lost.clear()
        self._spawn(self._ping(ear), "redis-ping")
        self._spawn(self._cut_when_lost(ear), "redis-watch")
        while True:
            found = await ear.read_response(timeout=SILENCE_S)
            if found is None:
                raise RedisDown(f"has said nothing for {SILENCE_S:g} s")
            if isinstance(found, list) and len(found) == 3 and found[0] == "message":
                self._hand_over(str(found[1]), found[2])

    async def _cut_when_lost(self, ear: Connection) -> None:
        """End the listening when a command found the server gone: its own silence would tell later."""
        await self._lost.wait()
        await ear.disconnect(nowait=True)

    async def _ping(self, ear: Connection) -> None:
        clocks = 0.0
        while ear is self._ear:
            try:
                await ear.send_command("PING", check_health=False)
                if clocks >= _CLOCK_EVERY_S:
                    clocks = 0.0
                    await self._compare_clocks()
            # redis-py has no better word for a connection that was ended while it was written to.
            except (RedisError, OSError, asyncio.TimeoutError, AttributeError):
                self._lost.set()
                return
            clocks += _PING_EVERY_S
            await asyncio.sleep(_PING_EVERY_S)

    def _hand_over(self, channel: str, data: Any) -> None:
        try:
            payload = orjson.loads(data)
        except (ValueError, TypeError):
            return
        if not isinstance(payload, dict):
            return
        for callback in self._listeners.get(channel.removeprefix(self._channels), ()):
            try:
                callback(payload)
            except Exception:
                logger.exception("a notice could not be handled")

    # --- asking ----------------------------------------------------------------------------

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a Lua script; the keys are given the prefix.

        Shape: texts come back as str, whole numbers as int, tables as lists.
        Raises: RedisDown if there is no answer within a second; then the script may have run or not.
        """
        full = [self.prefix + key for key in keys]

        async def ask() -> Any:
            try:
                return await self._client.evalsha(_sha(script), len(full), *full, *map(str, args))
            except NoScriptError:
                return await self._client.eval(script, len(full), *full, *map(str, args))

        return await self._ask(ask)

    async def read(self, keys: Sequence[str]) -> list[str | None]:
        """Read several texts at once; None where there is none. Raises: RedisDown."""
        if not keys:
            return []
        full = [self.prefix + key for key in keys]
        return await self._ask(lambda: cast("Awaitable[list[str | None]]", self._client.mget(full)))

    def publish(self, word: str, payload: dict[str, Any]) -> None:
        """Tell all nodes that are connected; nobody waits for it, and it is lost while the link is down."""
        if self._is_up and self._waiting < _WAITING_MAX:
            self._waiting += 1
            self._spawn(self._publish(self._channels + word, orjson.dumps(payload)), "redis-publish")

    async def _publish(self, channel: str, data: bytes) -> None:
        try:
            with suppress(RedisDown):
                await self._ask(lambda: self._client.publish(channel, data))
        finally:
            self._waiting -= 1

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        if not self._is_up:
            raise RedisDown(self._sentence(self.problem))
        try:
            return await self._within(ask())
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            problem = words_of(error, LIMIT_S)
            lost = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError, asyncio.TimeoutError)
            if isinstance(error, lost):
                if self._is_up:
                    self._set_down(problem)
                self._lost.set()
            else:
                self._seldom.say(logging.ERROR, problem, self._clock.mono(), self._sentence(problem))
            raise RedisDown(self._sentence(problem)) from None

    @staticmethod
    async def _within(awaitable: Awaitable[T]) -> T:
        return await within(awaitable, LIMIT_S)


class _TlsConnection(Connection):
    """TLS with a context that is made once: redis-py would read all authorities anew for each connection."""

    context: ssl.SSLContext

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "ssl": self.context}


def _connection_class(address: RedisAddress, context: ssl.SSLContext | None) -> type[Any]:
    if address.path:
        return UnixDomainSocketConnection
    if not address.is_tls:
        return Connection
    if context is None or address.ca_file or address.cert_file:
        context = ssl.create_default_context(cafile=address.ca_file or None)
        if address.cert_file:
            context.load_cert_chain(address.cert_file, address.key_file or None)
    return type("_OwnTlsConnection", (_TlsConnection,), {"context": context})


def _options(address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.user or None,
        "password": address.password or None,
        "socket_timeout": LIMIT_S,
        "socket_connect_timeout": LIMIT_S,
        "decode_responses": True,
        "protocol": 2,
        "driver_info": None,
    }
    if address.path:
        return options | {"path": address.path}
    return options | {"host": address.host, "port": address.port}


def installation_of(upstreams: Iterable[str]) -> str:
    """Name an installation by what it calls: nodes of the sandbox must not mix with those of the real exchange."""
    return hashlib.sha256("\n".join(sorted(upstreams)).encode()).hexdigest()[:12]


@lru_cache(maxsize=100)
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
