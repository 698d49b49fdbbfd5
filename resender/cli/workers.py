"""Several processes on one port: `WORKERS`. The parent starts them, keeps them running and ends them.

It serves nothing itself and opens no database. The first worker, the collector, is started before the others: it
brings the database up to date and makes the first account. Where `REDIS_URL` is empty a private Redis is started,
on a socket in the data folder, without persistence.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from resender import __version__
from resender.aio import Tasks, end_tasks, within
from resender.cli.serve import READY, bind, die_with_parent, serve, stop_on_signal
from resender.config import Config
from resender.core.cluster.worker import ENVIRONMENT, Worker, redis_socket
from resender.errors import StartError, StartLater
from resender.lock import data_dir_lock
from resender.systemd import is_listening, keep_informed, notify, status_line

logger = logging.getLogger("resender.workers")

_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that has run so long is tried again at once when it ends.
_GOOD_LIFE_S = 60.0
# One that says nothing for so long hangs and is ended.
_SILENCE_S = 60.0
_START_S = 120.0
_REDIS_START_S = 10.0
# What a worker takes to end after its calls have.
_GRACE_S = 15.0
# sockaddr_un, unix(7).
_LONGEST_SOCKET_PATH = 107


@dataclass(eq=False)
class _Process:
    """One worker: what runs it now."""

    worker: Worker
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    heard_mono: float = 0.0
    failures: int = 0


async def serve_workers(config: Config) -> int:
    """Serve with several processes until a signal comes; return the exit code.

    Raises: StartError or StartLater, one line each, if the start fails.
    """
    redis = shutil.which("redis-server") or ""
    if not redis and not config.redis_url:
        logger.error(
            "WORKERS=%d needs Redis: install redis-server (apt-get install redis-server) or set REDIS_URL; "
            "one process serves",
            config.workers,
        )
        return await serve(config)
    stop = stop_on_signal()
    async with AsyncExitStack() as stack:
        stack.enter_context(data_dir_lock(config.data_path))
        port = reserve_port(config.host, config.port, stack)
        inner = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stack.callback(inner.close)
        inner.bind(("127.0.0.1", 0))
        inner.listen(1024)
        redis_url = ""
        if redis:
            path = redis_socket(config.data_path.resolve())
            if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
                raise StartError(f"the path of {path} is too long for a socket: choose a shorter DATA_DIR")
            redis_url = f"unix://{path}"
        first = Worker(
            0, config.workers, port, inner.getsockname()[1], inner.fileno(), secrets.token_hex(32), redis_url
        )
        team = _Team(config, first, stop)
        stack.push_async_callback(team.stop)
        if redis:
            await team.start_redis(redis, Path(redis_socket(config.data_path.resolve())))
        if await team.start():
            logger.info(
                "Binance Resender %s: %d workers serve on %s port %d",
                __version__, config.workers, config.host, port,
            )  # fmt: skip
        if is_listening():
            team.tasks.spawn(keep_informed(team.in_words, stop.is_set), name="systemd-inform")
        await stop.wait()
        notify("STOPPING=1", status_line("finishing the calls in flight"))
    if not team.exit_code:
        logger.info("stopped")
    return team.exit_code


def reserve_port(host: str, port: int, stack: AsyncExitStack) -> int:
    """Make sure that nobody else listens, and keep the port while workers are started again; return it.

    Raises: StartError or StartLater.
    """
    taken = bind(host, port)
    port = taken[0].getsockname()[1]
    for listening in taken:
        # Bound and not listening: connections never come here.
        keeper = socket.socket(listening.family, socket.SOCK_STREAM)
        stack.callback(keeper.close)
        if listening.family == socket.AF_INET6:
            keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        address = (listening.getsockname()[0], port)
        listening.close()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            keeper.bind(address)
        except OSError as error:
            raise StartLater(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return port


class _Team:
    """All processes of a node."""

    def __init__(self, config: Config, first: Worker, stop: asyncio.Event) -> None:
        self._config = config
        self._stop = stop
        self._secret_fd = first.inner_fd
        self._workers = [_Process(replace(first, number=number)) for number in range(config.workers)]
        self._redis: asyncio.subprocess.Process | None = None
        self.tasks = Tasks()
        self._is_stopping = False
        # All have been ready once.
        self._is_up = False
        self.exit_code = 0

    def in_words(self) -> str:
        up = sum(one.process is not None and one.ready.is_set() for one in self._workers)
        port = self._workers[0].worker.port
        return f"{up} of {len(self._workers)} workers serve on {self._config.host} port {port}"

    # --- starting --------------------------------------------------------------------------

    async def start(self) -> bool:
        """Start the collector, then the others; return whether all are ready."""
        for group in (self._workers[:1], self._workers[1:]):
            for one in group:
                self.tasks.spawn(self._keep(one), name=f"worker-{one.worker.number}")
            end = time.monotonic() + _START_S
            while not all(one.ready.is_set() for one in group):
                if self._stop.is_set():
                    return False
                if time.monotonic() > end:
                    raise StartLater("a worker does not get ready")
                await asyncio.sleep(0.02)
        self._is_up = True
        return True

    async def _spawn(self, one: _Process) -> int:
        """Run a worker until it ends; return its exit code."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        fds = [writing] + ([self._secret_fd] if one.worker.is_collector else [])
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        environment[ENVIRONMENT] = one.worker.to_text()
        environment[READY] = str(writing)
        try:
            one.process = process = await asyncio.create_subprocess_exec(
                sys.executable, *sys.orig_argv[1:], env=environment, pass_fds=fds, start_new_session=True
            )
        finally:
            os.close(writing)
        one.heard_mono = time.monotonic()
        listening = self.tasks.spawn(self._listen(one, reading), name="worker-listen")
        try:
            return await process.wait()
        finally:
            one.ready.clear()
            one.process = None
            await end_tasks({listening})

    async def _listen(self, one: _Process, reading: int) -> None:
        """Hear the worker's signs of life; end one that hangs."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(reading, "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while True:
                try:
                    data = await within(reader.read(64), 5.0)
                except asyncio.TimeoutError:
                    silent_s = time.monotonic() - one.heard_mono
                    if one.ready.is_set() and silent_s > _SILENCE_S and one.process is not None:
                        logger.error("worker %d hangs: it is ended", one.worker.number)
                        one.process.kill()
                    continue
                if not data:
                    return
                one.heard_mono = time.monotonic()
                one.ready.set()
        finally:
            transport.close()

    async def _keep(self, one: _Process) -> None:
        """Start a worker again whenever it ends."""
        while not self._is_stopping:
            began = time.monotonic()
            code = await self._spawn(one)
            if self._is_stopping or self._stop.is_set():
                return
            if not self._is_up:
                # It has said why; the others would fail alike.
                self.exit_code = code if code > 0 else 1
                self._stop.set()
                return
            if time.monotonic() - began > _GOOD_LIFE_S:
                one.failures = 0
            pause_s = _BACKOFF_S[min(one.failures, len(_BACKOFF_S) - 1)]
            one.failures += 1
            logger.error(
                "worker %d has ended (%s); it is started again in %g s",
                one.worker.number,
                _how(code),
                pause_s,
            )
            with suppress(asyncio.TimeoutError):
                await within(self._stop.wait(), pause_s)

    # --- Redis -----------------------------------------------------------------------------

    async def start_redis(self, program: str, path: Path) -> None:
        """Start the private Redis and keep it running. Raises: StartLater if it does not answer."""
        self.tasks.spawn(self._keep_redis(program, path), name="redis")
        end = time.monotonic() + _REDIS_START_S
        while not await _answers(path):
            if time.monotonic() > end:
                raise StartLater("the private redis-server does not answer")
            await asyncio.sleep(0.02)

    async def _keep_redis(self, program: str, path: Path) -> None:
        words = [
            "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600", "--save", "",
            "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction",
            "--dir", str(path.parent), "--loglevel", "warning",
        ]  # fmt: skip
        failures = 0
        while not self._is_stopping:
            with suppress(FileNotFoundError):
                os.unlink(path)
            self._redis = await asyncio.create_subprocess_exec(
                program, *words,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
            code = await self._redis.wait()
            await asyncio.sleep(0.1)  # systemd ends all at once
            if self._is_stopping or self._stop.is_set():
                return
            pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            for one in self._workers:
                one.worker = replace(one.worker, has_lost=True)
            logger.error("the private Redis has ended (%s); it is started again in %g s", _how(code), pause_s)
            await asyncio.sleep(pause_s)

    # --- stopping --------------------------------------------------------------------------

    async def stop(self) -> None:
        """End all workers, calls in flight first; then Redis."""
        self._is_stopping = True
        running = [one.process for one in self._workers if one.process is not None]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        ending = [self.tasks.spawn(process.wait(), name="worker-end") for process in running]
        if ending:
            _, late = await asyncio.wait(ending, timeout=self._config.shutdown_s + _GRACE_S)
            for process, end in zip(running, ending, strict=True):
                if end in late:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await end
                elif process.returncode and process.returncode != -signal.SIGTERM:
                    self.exit_code = self.exit_code or 1
        if self._redis is not None and self._redis.returncode is None:
            with suppress(ProcessLookupError):
                self._redis.kill()  # it has nothing to keep
            await self._redis.wait()
        await self.tasks.cancel()


async def _answers(path: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await within(reader.readline(), 1.0) == b"+PONG\r\n"
    except (OSError, asyncio.TimeoutError):
        return False
    finally:
        writer.close()


def _how(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
