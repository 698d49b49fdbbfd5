"""Run the gateway as a process: sockets, signals, exit code.

It reads no setting by itself and writes no answer. It owns the server and the `Gateway` while
they run.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

from tornado.netutil import bind_sockets

from resender import __version__
from resender.assembly import tell_failed_upgrade
from resender.config import Config
from resender.core.cluster.worker import Worker
from resender.errors import StartError, StartLater, StoreError
from resender.gateway import Gateway
from resender.lock import data_dir_lock
from resender.places import home
from resender.server_tls import ServerTls
from resender.store import UpgradeFailed, is_for_good, undo_upgrade
from resender.store.connection import parse_url
from resender.systemd import is_listening, keep_informed, notify, status_line
from resender.web.application import GatewayServer, make_admin_server, make_server
from resender.web.inner import make_inner_server

logger = logging.getLogger("resender")

_OLD_LOOKS = 1000
_SWITCH_S = 0.0005
_PDEATHSIG = 1
# Which pipe of its parent a worker tells that it is ready and does not hang, in the environment.
READY = "BINANCE_RESENDER_READY"
_TELL_EVERY_S = 2.0
# How often the files of the certificate are looked at.
_TLS_LOOK_S = 5.0

_BACKLOG = 2048
_FINISHING = "finishing the calls in flight"
# Wrong for good, unless somebody changes something.
_NEVER_BINDS = frozenset({errno.EADDRINUSE, errno.EACCES})


def run_loop(coro: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop where there is one."""
    run: Callable[..., int] = asyncio.run
    with suppress(ImportError):  # of this import alone: a package may be missing in what is run too
        import uvloop

        run = uvloop.run
    return int(run(coro))


def raise_file_limit() -> None:
    """Allow as many sockets as the system lets us: 1,000 clients need 2,000 and more."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_allocator() -> None:
    """Have glibc give the memory of large passing bodies back to the system.

    Left alone it raises its own threshold with the first large block and keeps such blocks for
    good, and makes arenas for threads that need none.
    Source: mallopt(3): M_MMAP_THRESHOLD is -3, M_ARENA_MAX is -8.
    """
    with suppress(Exception):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 20)
        libc.mallopt(-8, 2)


def tune_collector() -> None:
    """Look for cycles among what has been there for long a hundred times as seldom.

    Such a look takes 60 to 110 ms with some hundred series, during which no order leaves, and finds next to nothing:
    candles are in blocks of bytes, and the cycles of a call are found young (bench/README-streams.md, "Orders first").
    """
    gc.collect()
    gc.freeze()
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, max(old, _OLD_LOOKS))


def tune_threads() -> None:
    """Let the event loop have its turn again sooner: a thread that makes rows may keep it from it for so long.

    It loses its turn with every call of the system, some of which an order needs; by default the wait is 5 ms.
    Source: https://docs.python.org/3/library/sys.html#sys.setswitchinterval.
    """
    sys.setswitchinterval(_SWITCH_S)


def die_with_parent() -> None:
    """Have this process told to stop when its parent ends, however that ends. Source: prctl(2)."""
    with suppress(Exception):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


async def _tell_parent() -> None:
    """Tell the parent of this worker that it is ready, and then that it does not hang."""
    number = int(os.environ[READY])
    try:
        while True:
            os.write(number, b".")
            await asyncio.sleep(_TELL_EVERY_S)
    except OSError:  # it is gone: perhaps before this process could ask to be told so
        os.kill(os.getpid(), signal.SIGTERM)


# What helps where an address cannot be listened on.
_CURES = {
    errno.EADDRINUSE: "; stop the program that listens there, or choose another {}",
    errno.EACCES: "; below 1024 only root and who has CAP_NET_BIND_SERVICE may: choose another {}",
    errno.EADDRNOTAVAIL: "; it is not an address of this machine",
}


def bind(host: str, port: int, *, is_shared: bool = False, setting: str = "PORT") -> list[socket.socket]:
    """Bind the listening sockets; "::" means IPv6 and IPv4. With `is_shared` other workers have the port too.

    Shape: `setting` is the one that chose the port.

    Raises: StartError in one line if the address cannot be used, StartLater if it may be some day.
    """
    try:
        return bind_sockets(port, None if host == "::" else host, backlog=_BACKLOG, reuse_port=is_shared)
    except (OSError, UnicodeError) as error:
        text = getattr(error, "strerror", None) or str(error)
        number = getattr(error, "errno", None)
        kind = StartError if number in _NEVER_BINDS else StartLater
        cure = _CURES.get(number, "").format(setting) if number is not None else ""
        raise kind(f"cannot listen on {host} port {port}: {text}{cure}") from None


def bind_admin(config: Config) -> list[socket.socket]:
    """Bind the sockets of the admin pages' own port, if they are to have one.

    Raises: StartError in one line if the address cannot be used.
    """
    if not config.admin_enabled or not config.admin_port:
        return []
    return bind(config.admin_host, config.admin_port, setting="ADMIN_PORT")


def open_tls(config: Config) -> ServerTls | None:
    """Read the certificate clients are shown, if there is one. Raises: StartError in one line."""
    if not config.tls_cert:
        return None
    return ServerTls(home() / config.tls_cert, home() / config.tls_key if config.tls_key else None)


async def _refresh_tls(tls: ServerTls, servers: list[GatewayServer]) -> None:
    """Have new connections shown a new certificate."""
    while True:
        await asyncio.sleep(_TLS_LOOK_S)
        if tls.refresh():
            for server in servers:
                server.ssl_options = tls.context


def stop_on_signal(*, is_worker: bool = False) -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once.

    A worker gets one from its parent and one from systemd: it is its parent who ends it if it takes too long.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            if is_worker:
                return
            raise SystemExit(128 + number)
        logger.info("%s: stopping, calls in flight are finished", number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _start(gateway: Gateway) -> None:
    """Start a gateway; if it does not start, the database is left as the version before can use it."""
    try:
        await gateway.start()
    except UpgradeFailed as error:
        await tell_failed_upgrade(gateway.config, error, gateway.ssl_context)
        raise
    except BaseException as error:
        if (path := parse_url(gateway.config.database).path) is not None:
            undo_upgrade(path)
        if isinstance(error, StoreError) and is_for_good(error):
            raise StartError(str(error).rstrip(".")) from None
        raise


async def serve(
    config: Config,
    *,
    announce: Callable[[str], None] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    prepare: Callable[[], None] | None = None,
    worker: Worker | None = None,
) -> int:
    """Serve until a signal comes, then finish the calls in flight; return the exit code.

    Shape: `prepare` is called once the data folder is this process' own; `ssl_context` is for the
        upstreams; without it the system's authorities are trusted. `worker` is this process among others.
    Raises: StartError or StoreError, one line each, if the start fails.
    """
    raise_file_limit()
    tune_allocator()
    tune_threads()
    stop = stop_on_signal(is_worker=worker is not None)
    async with AsyncExitStack() as stack:
        if worker is None:
            stack.enter_context(data_dir_lock(config.data_path, is_needed=config.is_data_dir_needed))
        else:
            die_with_parent()
        if prepare is not None:
            prepare()
        is_shared = worker is not None
        sockets = bind(config.host, worker.port if worker is not None else config.port, is_shared=is_shared)
        for listening in sockets:
            stack.callback(listening.close)
        tls = open_tls(config)
        admin_sockets = bind_admin(config) if worker is None or worker.is_collector else []
        for listening in admin_sockets:
            stack.callback(listening.close)
        ends_at = (lambda: tls.ends_at) if tls is not None else None
        gateway = Gateway(config, ssl_context=ssl_context, worker=worker, certificate_ends=ends_at)
        await _start(gateway)
        tune_collector()
        stack.push_async_callback(gateway.stop)
        server = make_server(gateway.services, tls.context if tls is not None else None)
        server.add_sockets(sockets)
        stack.push_async_callback(server.close_all_connections)
        # On loopback there is nobody to read along, and a tunnel's name fits no certificate.
        admin_tls = tls.context if tls is not None and not _is_loopback(config.admin_host) else None
        admin_server = make_admin_server(gateway.services, admin_tls) if admin_sockets else None
        if admin_server is not None:
            admin_server.add_sockets(admin_sockets)
            stack.push_async_callback(admin_server.close_all_connections)
            logger.info("the admin pages are on %s port %d", config.admin_host, config.admin_port)
        inner_server = None
        if worker is not None and worker.is_collector:
            inner = socket.socket(fileno=worker.inner_fd)
            inner.setblocking(False)
            stack.callback(inner.close)
            inner_server = make_inner_server(gateway.services, worker)
            inner_server.add_sockets([inner])
            stack.push_async_callback(inner_server.close_all_connections)
        port = sockets[0].getsockname()[1]
        logger.info(
            "Binance Resender %s serves on %s port %d%s, %d whitelist entries",
            __version__,
            config.host,
            port,
            " over TLS" if tls is not None else "",
            gateway.access.whitelist.size,
        )
        if announce is not None:
            announce(local_url(config.host, port, is_tls=tls is not None))

        def status() -> str:
            if stop.is_set():
                return _FINISHING
            return f"serving on {config.host} port {port}; {gateway.status.in_words()}"

        if tls is not None:
            shown = [
                each for each in (server, admin_server) if each is not None and each.ssl_options is not None
            ]
            gateway.tasks.spawn(_refresh_tls(tls, shown), name="refresh-tls")
        if worker is not None:
            gateway.tasks.spawn(_tell_parent(), name="tell-parent")
        if is_listening():
            gateway.tasks.spawn(keep_informed(status, stop.is_set), name="systemd-inform")
        await stop.wait()
        # From now on every answer says that its connection ends, as it will.
        servers = [each for each in (server, admin_server, inner_server) if each is not None]
        for each in servers:
            each.conn_params.no_keep_alive = True
        notify("STOPPING=1", status_line(_FINISHING))
        for each in servers:
            each.stop()
        # Calls in flight first, then the connections they are answered on.
        await gateway.drain()
    logger.info("stopped")
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def local_url(host: str, port: int, *, is_tls: bool = False) -> str:
    """Return a URL under which this machine reaches the gateway."""
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1"
    return f"http{'s' * is_tls}://[{host}]:{port}" if ":" in host else f"http{'s' * is_tls}://{host}:{port}"
