"""The reverse proxies people put in front: the real programs with the shipped configurations.

A copy of the configuration is changed in names, ports, certificate paths and the client's address,
and in nothing else; what is not found where it is expected fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.authority import AUTHORITY, ca_file
from tests.support.client import Reply, build
from tests.support.kept import Kept, NoAnswer, is_announced_kept
from tests.support.ports import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = "localhost"
#: Whom the proxy lets in and the gateway whitelists; and somebody else.
CLIENT, STRANGER = "127.0.0.9", "127.0.0.8"
_PATIENCE_S = 15.0


def find_program(name: str) -> str:
    """Return the path of a program of the system; skip the test where it is missing, in CI fail."""
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        reason = f"{name} is not installed: apt-get install {name}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _put(text: str, changes: Sequence[tuple[str, str]]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"the shipped configuration has {text.count(old)} times {old!r}"
        text = text.replace(old, new)
    return text


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for `NAME` and its key; return their paths."""
    issued = AUTHORITY.issue(NAME)
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(issued.certificate_pem)
    key.write_bytes(issued.key_pem)
    return chain, key


@dataclass
class ReverseProxy:
    """A running reverse proxy. Shape: `port` speaks TLS, `folder` holds its logs."""

    kind: str
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    context: ssl.SSLContext = field(default_factory=lambda: ssl.create_default_context(cafile=ca_file()))

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    @asynccontextmanager
    async def connection(self, source: str = CLIENT) -> AsyncIterator[Kept]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.context,
            server_hostname=NAME,
            local_addr=(source, 0),
            limit=1 << 26,
        )
        try:
            yield Kept(reader, writer, 30.0)
        finally:
            writer.close()
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)

    async def call(
        self,
        method: str,
        target: str | bytes,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        *,
        source: str = CLIENT,
    ) -> Reply:
        """Make one call on a connection of its own."""
        async with self.connection(source) as one:
            await one.send(self.build(method, target, headers, body))
            return await one.answer(method)

    def build(
        self,
        method: str,
        target: str | bytes,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> bytes:
        raw = build(method, target, headers, body, close=False)
        return raw.replace(b"Host: gateway", f"Host: {NAME}:{self.port}".encode(), 1)

    def logs(self) -> str:
        files = [file for file in self.folder.rglob("*.log") if file.is_file()]
        return "\n".join(file.read_text("utf-8", "replace") for file in files)


class Visitor:
    """A client that keeps its connection to a proxy and makes one call after the other."""

    def __init__(self, proxy: ReverseProxy, source: str = CLIENT) -> None:
        self._proxy = proxy
        self._source = source
        self._stack = contextlib.AsyncExitStack()
        self._one: Kept | None = None

    async def call(self, method: str, target: str, body: bytes = b"") -> Reply:
        if self._one is None:
            self._one = await self._stack.enter_async_context(self._proxy.connection(self._source))
        await self._one.send(self._proxy.build(method, target, (), body))
        reply = await self._one.answer(method)
        if not is_announced_kept(reply):
            await self.close()
        return reply

    async def close(self) -> None:
        self._one = None
        await self._stack.aclose()


def nginx_configuration(folder: Path, gateway_port: int, port: int, allowed: str = CLIENT) -> Path:
    """Write the shipped nginx.conf for this test; return the path of the main configuration."""
    chain, key = write_certificate(folder)
    name = "gateway.example.com"
    text = _put(
        (DEPLOY / "nginx.conf").read_text("utf-8"),
        [
            ("server 127.0.0.1:8000;", f"server 127.0.0.1:{gateway_port};"),
            ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
            ("listen [::]:443 ssl http2;", f"listen [::1]:{port} ssl http2;" if _has_ipv6() else ""),
            (f"server_name {name};", f"server_name {NAME};"),
            (f"/etc/letsencrypt/live/{name}/fullchain.pem", str(chain)),
            (f"/etc/letsencrypt/live/{name}/privkey.pem", str(key)),
            ("/var/log/nginx/binance-resender.log", str(folder / "access.log")),
            ("/var/log/nginx/binance-resender.error.log", str(folder / "error.log")),
            ("allow 203.0.113.5;", f"allow {allowed};"),
        ],
    )
    (folder / "site.conf").write_text(text, "utf-8")
    # What Debian's own nginx.conf is around it.
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\n"
        f"daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/main.log;\n"
        "events { worker_connections 768; }\n"
        f"http {{\nsendfile on;\ntcp_nopush on;\ndefault_type application/octet-stream;\n{temporary}\n"
        f"include {folder}/site.conf;\n}}\n",
        "utf-8",
    )
    return main


def caddy_configuration(folder: Path, gateway_port: int, port: int, allowed: str = CLIENT) -> Path:
    """Write the shipped Caddyfile for this test; return its path."""
    chain, key = write_certificate(folder)
    text = _put(
        (DEPLOY / "Caddyfile").read_text("utf-8"),
        [
            ("\ngateway.example.com {", f"\nhttps://{NAME}:{port} {{\n\ttls {chain} {key}"),
            ("remote_ip 203.0.113.5", f"remote_ip {allowed}"),
            ("reverse_proxy 127.0.0.1:8000", f"reverse_proxy 127.0.0.1:{gateway_port}"),
        ],
    )
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}\n"
    path = folder / "Caddyfile"
    path.write_text(options + text, "utf-8")
    return path


def haproxy_configuration(folder: Path, nodes: Sequence[int], port: int) -> Path:
    """Write the shipped haproxy.cfg for this test; return its path."""
    chain, key = write_certificate(folder)
    pem = folder / "both.pem"
    pem.write_bytes(chain.read_bytes() + key.read_bytes())
    servers = "\n    ".join(f"server gw{number} 127.0.0.1:{node}" for number, node in enumerate(nodes, 1))
    text = _put(
        (DEPLOY / "haproxy.cfg").read_text("utf-8"),
        [
            ("log /dev/log local0 notice", f"log {folder}/log.sock local0 notice"),
            ("bind :443 ssl", f"bind 127.0.0.1:{port} ssl"),
            ("/etc/haproxy/certs/gateway.example.com.pem", str(pem)),
            ("src 203.0.113.5", f"src {CLIENT}"),
            ("server gw1 10.0.0.1:8000\n    server gw2 10.0.0.2:8000", servers),
        ],
    )
    path = folder / "haproxy.cfg"
    path.write_text(text, "utf-8")
    return path


@asynccontextmanager
async def balancer(folder: Path, nodes: Sequence[int]) -> AsyncIterator[ReverseProxy]:
    """Run HAProxy before several nodes."""
    program = find_program("haproxy")
    folder.mkdir()
    port = free_port()
    command = [program, "-db", "-f", str(haproxy_configuration(folder, nodes, port))]
    async with _started("haproxy", command, folder, port) as proxy:
        yield proxy


@asynccontextmanager
async def reverse_proxy(
    kind: str, folder: Path, gateway_port: int, *, allowed: str = CLIENT
) -> AsyncIterator[ReverseProxy]:
    """Run nginx or Caddy before a gateway. Shape: `allowed` is the address their own rules let in."""
    program = find_program(kind)
    folder.mkdir()
    port = free_port()
    if kind == "nginx":
        command = [
            program,
            "-c",
            str(nginx_configuration(folder, gateway_port, port, allowed)),
            "-p",
            str(folder),
        ]
    else:
        path = caddy_configuration(folder, gateway_port, port, allowed)
        command = [program, "run", "--config", str(path), "--adapter", "caddyfile"]
    async with _started(kind, command, folder, port) as proxy:
        yield proxy


@asynccontextmanager
async def _started(kind: str, command: list[str], folder: Path, port: int) -> AsyncIterator[ReverseProxy]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220  starting takes no time
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    proxy = ReverseProxy(kind, port, folder, process)
    try:
        await _until_it_listens(proxy)
        yield proxy
        assert process.poll() is None, proxy.logs()
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # Signatures are in the query; neither program may write it down.
    assert "signature=" not in proxy.logs()


async def _until_it_listens(proxy: ReverseProxy) -> None:
    deadline = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        assert proxy.process.poll() is None, proxy.logs()
        with suppress(OSError, NoAnswer):
            async with proxy.connection():
                return
        assert asyncio.get_running_loop().time() < deadline, proxy.logs()
        await asyncio.sleep(0.02)
