"""What the end-to-end tests share: the sandbox in a thread, the program and the clients as processes.

Everything here is synchronous: the sandbox has an event loop and a thread of its own, so a test may
block while a process runs. Nothing is left running by `stop()`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest

from resender.core.binance.markets import MARKETS, Market
from resender.sandbox import API_KEY, API_SECRET, Call, Sandbox, SandboxConfig, sign
from tests.support.authority import ca_file

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENTS = ROOT / "tests" / "e2e" / "clients"
T = TypeVar("T")
# Nothing of ours may lie beside the program's own files.
BYTECODE = os.environ.get("PYTHONPYCACHEPREFIX") or str(ROOT / ".pytest_cache" / "bytecode")

# Long enough for a loaded machine; it is a limit, never what a test waits for.
PATIENCE_S = 30.0

# Headers that tell who the client is, or that belong to the gateway's own browser users.
FORBIDDEN_HEADERS = {
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded", "via",
    "x-client-ip", "true-client-ip", "cf-connecting-ip", "cookie", "authorization",
}  # fmt: skip
# What a call through one more proxy looks like: none of it may reach Binance.
STRANGER = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "Via": "1.1 somewhere",
    "Cookie": "session=BrowserCookie0123",
}
_TROUBLE = ("Traceback", "Exception ignored", "never retrieved", "never awaited", "ResourceWarning")


def until(
    predicate: Callable[[], T], what: str, timeout_s: float = PATIENCE_S, *, pause_s: float = 0.01
) -> T:
    """Poll until something is true and return it; fail when it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(pause_s)
    return value


class SandboxThread:
    """A sandbox exchange on a loop and a thread of its own."""

    def __init__(self, config: SandboxConfig | None = None) -> None:
        self._config = config
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)

    def __enter__(self) -> SandboxThread:
        self._thread.start()
        self.sandbox = Sandbox(self._config)
        self.run(self.sandbox.start())
        return self

    def __exit__(self, *exc: object) -> None:
        self.run(self.sandbox.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        left = [task.get_name() for task in asyncio.all_tasks(self._loop)]
        self._loop.close()
        assert not left

    def run(self, coro: Any) -> Any:
        """Run a coroutine on the sandbox's own thread and return its result."""
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(PATIENCE_S)

    def ask(self, question: Callable[[Sandbox], T]) -> T:
        """Run a function of the sandbox on its own thread and return what it returns."""

        async def answer() -> T:
            return question(self.sandbox)

        result: T = self.run(answer())
        return result

    def calls(self, path: str = "", method: str = "", host: str = "") -> list[Call]:
        """List what arrived, the oldest first; `path` exactly, without the query."""
        every = self.ask(lambda sandbox: list(sandbox.calls))
        wanted = {"path": path, "method": method, "host": host}
        return [one for one in every if all(not v or getattr(one, n) == v for n, v in wanted.items())]

    def client_calls(self) -> list[Call]:
        """List what clients sent; the market cache's own reads name the gateway as their agent."""
        return [c for c in self.calls() if not (c.header("user-agent") or "").startswith("binance-resender/")]

    def settings(self) -> dict[str, str]:
        """Return the gateway's settings that lead here."""
        return dict(self.sandbox.urls)


class Program:
    """`run.py` as a process of its own, with the settings given and no others.

    Its system trusts the tests' certificate authority and nobody else's.
    """

    def __init__(self, folder: Path, *arguments: str, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.stderr")))
        self.folder = folder
        self._stdout = folder / f"{number}.stdout"
        self._stderr = folder / f"{number}.stderr"
        # Another folder than the repository: nothing may depend on where it is started.
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *arguments],
                cwd=folder,
                env=environment(settings) | {"SSL_CERT_FILE": ca_file()} | self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def variables(self) -> dict[str, str]:
        """Return further variables of the environment; the file of standard error is there already."""
        return {}

    @property
    def stdout(self) -> str:
        return self._stdout.read_text("utf-8")

    @property
    def said(self) -> str:
        """Standard output without the line that names the database, whose place is the test's own."""
        lines = self.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("(database "))

    @property
    def stderr(self) -> str:
        return self._stderr.read_text("utf-8")

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the process to end and return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the program did not end:\n{self.stderr}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def check_healthy(self) -> None:
        """Assert that nothing went wrong unseen: no traceback, nothing forgotten at the end."""
        for word in _TROUBLE:
            assert word not in self.stderr, self.stderr

    def check_refusal(self, code: int, *words: str) -> str:
        """Assert that it ended with this code and one clear line on standard error; return the line."""
        assert self.wait() == code, self.stderr
        # We asked Python for these; a user does not see them, and the process ends anyway.
        lines = [line for line in self.stderr.splitlines() if "ResourceWarning" not in line]
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        assert all(word in lines[0] for word in words), lines[0]
        assert self.stdout == ""
        return lines[0]


class GatewayProcess(Program):
    """`run.py` that serves on a port the system chose."""

    port: int

    def __init__(self, folder: Path, *arguments: str, **settings: object) -> None:
        self.data = folder / "data"
        values: dict[str, object] = {"HOST": "127.0.0.1", "PORT": 0, "DATA_DIR": self.data}
        # No test may reach Binance by mistake: what is not named leads nowhere.
        values |= {facts.rest_setting: "https://127.0.0.1:9" for facts in MARKETS}
        streams = ("STREAM_SPOT", "STREAM_UM", "STREAM_CM", "STREAM_MARGIN")
        values |= dict.fromkeys((*streams, "WS_API_SPOT", "WS_API_UM", "WS_API_CM"), "wss://127.0.0.1:9")
        values |= {"UPSTREAM_DATA": "off", "WHITELIST": "127.0.0.1", "LOG_LEVEL": "DEBUG", **settings}
        self.settings = values
        super().__init__(folder, *arguments, **values)
        try:
            self.port = int(until(self._find_port, "the program listens"))
            self.url = f"http://127.0.0.1:{self.port}"
            until(self._is_healthy, "/healthz answers 200")
        except BaseException:
            self.kill()
            raise

    def _find_port(self) -> str:
        found = re.search(r" serves on \S+ port (\d+)", self.stderr)
        if found is None:
            assert self.process.poll() is None, f"the program ended at its start:\n{self.stderr}"
        return found.group(1) if found else ""

    def _is_healthy(self) -> bool:
        try:
            return self.call("GET", "/healthz").status == 200
        except OSError:
            return False

    def command(self, *arguments: str, **settings: object) -> Program:
        """Run another command of the program beside this one, on the same data; wait for its end."""
        program = Program(self.folder, *arguments, **{**self.settings, **settings})
        program.wait()
        return program

    def call(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Make one call on a connection of its own."""
        return call(self.port, method, target, headers, body)

    def stop(self, number: signal.Signals = signal.SIGTERM, secrets: Iterable[str] = ()) -> None:
        """Stop it the proper way; it must end well, and keep quiet about secrets."""
        self.process.send_signal(number)
        assert self.wait() == 0, self.stderr
        assert "stopped" in self.stderr
        self.check_quiet(secrets)

    def check_quiet(self, secrets: Iterable[str] = ()) -> None:
        """Assert that nothing went wrong unseen and no secret was written down anywhere."""
        self.check_healthy()
        assert_no_secrets(self.folder, [API_KEY, API_SECRET, "BrowserCookie0123", *secrets])


Start = Callable[..., GatewayProcess]


def starter(folder: Path, exchange: SandboxThread | None = None) -> Iterator[Start]:
    """Yield the function that starts a gateway; all share a folder and its database."""
    started: list[GatewayProcess] = []
    upstreams: Mapping[str, str] = exchange.settings() if exchange is not None else {}

    def begin(*arguments: str, **settings: object) -> GatewayProcess:
        program = GatewayProcess(folder, *arguments, **{**upstreams, **settings})
        started.append(program)
        return program

    yield begin
    running = [program for program in started if program.process.poll() is None]
    calls: Sequence[Call] = exchange.calls() if exchange is not None else ()
    try:
        for program in running:
            program.stop(secrets=signatures(calls))
    finally:
        for program in running:
            program.kill()


class Answer:
    """What came back from the gateway."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


def call(
    port: int, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Make one call on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, target, body, dict(headers or {}))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def signed(path: str, query: str = "") -> str:
    """Return a request target signed for the sandbox's account."""
    query = f"{query}&timestamp={time.time_ns() // 1_000_000}".lstrip("&")
    return f"{path}?{query}&signature={sign(API_SECRET, query.encode())}"


KEY_HEADER = {"X-MBX-APIKEY": API_KEY}


def environment(settings: Mapping[str, object] | None = None) -> dict[str, str]:
    """Build the environment of a child: nothing of ours but the path, no proxy, these settings."""
    values = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    # Compiled once for all: each start would cost twice as much.
    values |= {"LANG": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONPYCACHEPREFIX": BYTECODE}
    values |= {"PYTHONWARNINGS": "default::ResourceWarning"}
    return values | {f"RESENDER_{name}": str(value) for name, value in (settings or {}).items()}


def run_client(
    name: str, url: str, script: str = "calls", account: tuple[str, str] = (API_KEY, API_SECRET)
) -> dict[str, Any]:
    """Run a client script with its library's own Python and return the document it prints."""
    python = ROOT / ".venv-clients" / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{name} is not installed: make .venv-clients/{name}/ready")
    result = subprocess.run(
        [str(python), str(CLIENTS / f"{name}_{script}.py"), url, *account, json.dumps(STRANGER)],
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    # Some libraries have a word for the user when they are imported the first time.
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def assert_no_secrets(folder: Path, secrets: Iterable[str]) -> None:
    """Assert that no file below a folder holds one of these words."""
    words = {secret.encode() for secret in secrets}
    assert all(len(word) >= 12 for word in words)
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found = [word for word in words if word in content]
        assert not found, f"{path} holds {found}"


def signatures(calls: Iterable[Call]) -> set[str]:
    """Return the values of `signature` and `listenKey` in calls."""
    found: set[str] = set()
    for one in calls:
        for name, value in parse_qsl(one.query) + parse_qsl(one.body.decode("latin-1")):
            if name in ("signature", "listenKey"):
                found.add(value)
    return found


def is_signed(one: Call) -> bool:
    return "signature=" in one.query or b"signature=" in one.body


def assert_faithful(calls: Sequence[Call], exchange: SandboxThread) -> None:
    """Assert of all calls that they arrived as a client of Binance itself would have sent them."""
    urls = exchange.settings()
    hosts = {facts.prefix: urls[facts.rest_setting].partition("//")[2] for facts in MARKETS}
    assert calls
    for one in calls:
        names = {name.decode("latin-1").lower() for name, _ in one.headers}
        assert not names & FORBIDDEN_HEADERS, one
        assert not [name for name in names if name.startswith("x-resender-")], one
        assert b"203.0.113.9" not in b"".join(value for _, value in one.headers), one
        assert one.header("host") == hosts[one.host], one
        assert one.header("user-agent"), one
        if is_signed(one):
            assert one.header("x-mbx-apikey") == API_KEY, one
        # The first segment of Binance's own paths names the host.
        root = one.path.split("/")[1]
        assert one.host == {"sapi": "api"}.get(root, root if root != "futures" else one.host), one


def placed(exchange: SandboxThread, host: str) -> list[tuple[str, int]]:
    """List the orders one host accepted, as symbol and order id."""
    orders = exchange.ask(lambda sandbox: list(sandbox.orders))
    return [(o.params["symbol"], o.order_id) for o in orders if o.host == host and o.order_id is not None]


def assert_one_order(exchange: SandboxThread, path: str, symbol: str, order_id: int) -> None:
    """Assert that an order was placed by one POST and cancelled by one DELETE, both at the right host."""
    host = path.split("/")[1]
    assert placed(exchange, host).count((symbol, order_id)) == 1
    cancels = [one for one in exchange.calls(path, "DELETE") if parameter(one, "orderId") == str(order_id)]
    assert [one.host for one in cancels] == [host]
    # Every POST that arrived is known to the exchange's book, so none came twice under another id.
    posts = exchange.calls(path, "POST")
    orders = exchange.ask(lambda sandbox: [order for order in sandbox.orders if order.host == host])
    assert len(posts) == len(orders)
    mine = [one for one in posts if parameter(one, "symbol") == symbol]
    assert {one.host for one in mine} == {host}
    assert len({parameter(one, "signature") for one in mine}) == len(mine)


def parameter(one: Call, name: str) -> str | None:
    """Return a parameter of a call from its query or form body."""
    return dict(parse_qsl(one.query) + parse_qsl(one.body.decode("latin-1"))).get(name)


def assert_klines(rows: Any, exchange: SandboxThread, market: Market, symbol: str) -> None:
    """Assert three 1m klines that are the exchange's own, but for the last one, which is open."""
    assert [len(row) for row in rows] == [12, 12, 12]
    times = [row[0] for row in rows]
    assert times == [times[2] - 120_000, times[2] - 60_000, times[2]]
    truth = exchange.ask(lambda sandbox: sandbox.market(market).kline_rows(symbol, "1m", limit=10))
    known = {row[0]: list(row) for row in truth}
    assert [known[row[0]] for row in rows[:2]] == rows[:2]
