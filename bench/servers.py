"""Start and stop the programs that are compared, and read the CPU time they take.

Each is a real process on a free loopback port with its files in a temporary folder. It measures
nothing. `started` owns a process for a block and ends it in any case.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
_START_S = 15.0
_STOP_S = 10.0
_DRAIN_S = 15.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_UPSTREAM_SETTINGS = ("API", "FAPI", "DAPI", "EAPI", "PAPI")
_EMPTY_SETTINGS = ("DATABASE_URL", "EGRESS", "TRUSTED_PROXIES")


class ServerError(Exception):
    """A program could not be started, or ended by itself."""


class NotInstalled(Exception):
    """A program that may be missing is missing."""


@dataclass(frozen=True, slots=True)
class Server:
    """A program that runs. Shape: `ca_file` is what its clients have to trust; None is plain HTTP."""

    name: str
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    errors: Path
    has_log: bool = False
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"

    def get(self, path: str, timeout_s: float = 10) -> Any:
        """Open a GET of its own connection, for a `with`."""
        context = ssl.create_default_context(cafile=str(self.ca_file)) if self.ca_file else None
        return urllib.request.urlopen(self.url + path, timeout=timeout_s, context=context)

    def check(self) -> None:
        """Raises: ServerError if the program has ended."""
        if self.process.poll() is not None:
            tail = self.errors.read_text(errors="replace").strip()[-500:]
            raise ServerError(f"{self.name} ended with code {self.process.returncode}: {tail}")

    def cpu_s(self) -> float:
        """Return the CPU seconds used so far, user and system, by it and its child processes."""
        self.check()
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_cpu_s(number) for number in (str(pid), *children))

    def log_samples(self) -> dict[str, float]:
        """Return the gateway's metrics of its request log: queued, written, dropped."""
        with self.get("/metrics", 5) as response:
            text = response.read().decode()
        queued = re.search(r"^resender_log_queued(?:\{.*\})? ([\d.e+]+)$", text, re.MULTILINE)
        rows = re.findall(r'^resender_log_rows_total\{result="(\w+)"\} ([\d.e+]+)$', text, re.MULTILINE)
        if queued is None or len(rows) != 2:
            raise ServerError(f"{self.name} shows no metrics of its request log")
        return {"queued": float(queued[1]), **{result: float(value) for result, value in rows}}

    def drain(self) -> None:
        """Wait until the request log is written, so that its cost is counted where it belongs.

        Raises: ServerError if it takes too long.
        """
        deadline = time.monotonic() + _DRAIN_S
        while self.has_log and self.log_samples()["queued"]:
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not write its request log within {_DRAIN_S:g} s")
            time.sleep(0.1)


def _cpu_s(pid: str) -> float:
    # The second field is the program's name in parentheses, it may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def find_python() -> str:
    """Return a Python that has the gateway's packages: this one or that of `make`.

    Raises: ServerError if there is none.
    """
    own = ROOT / ".venv" / "bin" / "python"
    if all(importlib.util.find_spec(name) for name in ("aiohttp", "tornado", "uvloop")):
        return sys.executable
    if own.exists():
        return str(own)
    raise ServerError("the gateway's packages are missing; run `make bench`")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def started(
    name: str,
    command: list[str],
    port: int,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    has_log: bool = False,
    ca_file: Path | None = None,
) -> Iterator[Server]:
    """Run a program for a block, from the moment its port answers.

    Raises: ServerError if it does not come up.
    """
    errors = folder / f"{_file_name(name)}.stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
        )
    server = Server(name, port, process, errors, has_log, ca_file)
    try:
        _wait_for_port(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def ca_file(folder: Path, name: str) -> Path:
    """Return where a program that plays an exchange writes its certificate authority."""
    return folder / f"{_file_name(name)}-ca.pem"


def trust(folder: Path) -> dict[str, str]:
    """Return the variable that has a program trust every exchange started so far, and nobody else."""
    bundle = folder / "trusted.pem"
    bundle.write_bytes(b"".join(file.read_bytes() for file in sorted(folder.glob("*-ca.pem"))))
    return {"SSL_CERT_FILE": str(bundle)}


def _wait_for_port(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        server.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
        if time.monotonic() > deadline:
            raise ServerError(f"{server.name} does not listen after {_START_S:g} s")
        time.sleep(0.05)


# --- the programs --------------------------------------------------------------------------------


def upstream(
    python: str,
    folder: Path,
    *,
    name: str = "direct",
    is_plain: bool = False,
    options: tuple[str, ...] = (),
) -> contextlib.AbstractContextManager[Server]:
    """Run the stand-in for Binance, over TLS unless it is to be plain."""
    port = free_port()
    ca = None if is_plain else ca_file(folder, name)
    egress = ["--plain"] if ca is None else ["--ca-file", str(ca)]
    command = [python, str(BENCH / "upstream.py"), str(port), *egress, *options]
    return started(name, command, port, folder, ca_file=ca)


def bare(
    python: str, folder: Path, upstream_url: str, *, name: str = "bare"
) -> contextlib.AbstractContextManager[Server]:
    port = free_port()
    command = [python, str(BENCH / "bare_forwarder.py"), str(port), upstream_url]
    return started(name, command, port, folder, env=os.environ | trust(folder))


def nginx(folder: Path, upstream_url: str) -> contextlib.AbstractContextManager[Server]:
    """Run nginx with one worker and nothing of the system's configuration.

    Raises: NotInstalled
    """
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotInstalled("nginx is not installed")
    port = free_port()
    prefix = folder / "nginx"
    prefix.mkdir()
    # As root the worker would become `nobody`, who may not enter the temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n    ".join(
        f"{kind}_temp_path {prefix}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (prefix / "nginx.conf").write_text(f"""
daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temporary}
    keepalive_requests 100000000;
    upstream binance {{
        server {upstream_url.partition("//")[2]};
        keepalive 64;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {upstream_url.partition(":")[0]}://binance;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {trust(folder)["SSL_CERT_FILE"]};
            proxy_ssl_name localhost;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
""")
    command = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
    return started("nginx", command, port, folder)


@contextlib.contextmanager
def gateway(
    python: str, folder: Path, upstream_url: str, *, with_log: bool, name: str = "", **settings: str
) -> Iterator[Server]:
    """Run this gateway with default settings, every market at `upstream_url`, loopback let in.

    Shape: `settings` are further ones, by their names without the prefix.
    """
    name = name or ("gateway+log" if with_log else "gateway")
    port = free_port()
    data = folder / _file_name(name)
    env = {key: value for key, value in os.environ.items() if not key.startswith("RESENDER_")}
    env |= trust(folder)
    env |= {f"RESENDER_UPSTREAM_{market}": upstream_url for market in _UPSTREAM_SETTINGS}
    env |= {f"RESENDER_{setting}": "" for setting in _EMPTY_SETTINGS}
    env |= {
        "RESENDER_HOST": "127.0.0.1",
        "RESENDER_PORT": str(port),
        "RESENDER_DATA_DIR": str(data),
        "RESENDER_WHITELIST": "127.0.0.1",
        "RESENDER_WEIGHT_LIMIT_SPOT": "10000000",  # the load must not be refused for weight
    }
    env |= {f"RESENDER_{setting}": value for setting, value in settings.items()}
    run = [python, str(ROOT / "run.py")]
    switch = subprocess.run(
        [*run, "log", "on" if with_log else "off"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=_START_S,
    )  # fmt: skip
    if switch.returncode:
        raise ServerError(f"{name}: {switch.stderr.strip()[-500:]}")
    with started(name, run, port, folder, env=env, has_log=with_log) as server:
        yield server
