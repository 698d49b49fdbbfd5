"""TLS of the program's own as a process: one port for all workers, renewed while it runs, refused in one line."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from resender.sandbox.authority import Certificate
from tests.support.admin import PASSWORD
from tests.support.authority import AUTHORITY, client_context
from tests.support.processes import PATIENCE_S, Answer, GatewayProcess, Program, SandboxThread, until

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

CLIENT = client_context()
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=20"


class TlsGateway(GatewayProcess):
    """A gateway that is called over TLS."""

    def call(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        one = Kept(self.port)
        try:
            return one.ask(method, target, headers, body)
        finally:
            one.close()


class Kept:
    """One connection of a client; which worker has it, the kernel decides."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=CLIENT)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        self._connection.request(method, target, body, dict(headers or {}))
        return Answer(self._connection.getresponse())

    def close(self) -> None:
        self._connection.close()


def renew(folder: Path) -> Certificate:
    issued = AUTHORITY.issue("localhost", "127.0.0.1")
    (folder / "fullchain.pem").write_bytes(issued.certificate_pem)
    (folder / "privkey.pem").write_bytes(issued.key_pem)
    return issued


def shown(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as plain:
        with CLIENT.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            return x509.load_der_x509_certificate(wrapped.getpeercert(True) or b"").serial_number


async def listen(url: str) -> list[str]:
    """Hear a stream and ask the WebSocket API, on several connections."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=CLIENT)) as session:

        async def once() -> str:
            async with session.ws_connect(f"{url}/ws/ethusdt@bookTicker") as socket:
                text = str((await socket.receive(timeout=PATIENCE_S)).data)
            async with session.ws_connect(f"{url}/ws-api/v3") as socket:
                await socket.send_json({"id": 1, "method": "ping"})
                assert (await socket.receive_json(timeout=PATIENCE_S))["status"] == 200
            # The collector's alone: another worker hands the connection over.
            async with session.ws_connect(f"{url}/local/spot/closes?interval=1m") as socket:
                await socket.ping()
            return text

        heard = await asyncio.gather(*(once() for _ in range(12)))
    # TLS connections end a moment after they are closed; the loop must not be gone by then.
    await asyncio.sleep(0.25)
    return heard


@pytest.mark.slow
def test_all_workers_speak_tls_and_the_pages_know_it(exchange: SandboxThread, tmp_path: Path) -> None:
    old = renew(tmp_path)
    gateway = TlsGateway(
        tmp_path, WORKERS=2, PRELOAD="spot:BTCUSDT@1m", LOG_LEVEL="INFO", ADMIN_PASSWORD=PASSWORD,
        TLS_CERT=tmp_path / "fullchain.pem", TLS_KEY=tmp_path / "privkey.pem", **exchange.settings(),
    )  # fmt: skip
    many: list[Kept] = []
    try:
        until(lambda: "2 workers serve on" in gateway.stderr, "all workers are ready")
        assert gateway.stderr.count(" over TLS") == 2
        until(lambda: gateway.call("GET", KLINES).headers.get("x-resender-cache") == "hit", "a hit")
        # Forty clients at once; both workers get some, and answer out of the memory of one.
        many = [Kept(gateway.port) for _ in range(40)]
        with ThreadPoolExecutor(len(many)) as pool:
            answers = list(pool.map(lambda one: one.ask("GET", KLINES), many))
        assert {answer.headers.get("x-resender-cache") for answer in answers} == {"hit"}
        check_pages(many)
        assert len(asyncio.run(listen(f"https://127.0.0.1:{gateway.port}"))) == 12
        check_strangers(gateway)
        check_renewal(gateway, tmp_path, many, old)
    finally:
        for one in many:
            one.close()
        try:
            if gateway.process.poll() is None:
                gateway.stop(signal.SIGTERM, [PASSWORD])
        finally:
            gateway.kill()


def check_pages(many: list[Kept]) -> None:
    """The pages are the collector's: half of the connections are handed over to it, without TLS."""
    login = f'{{"username":"root","password":"{PASSWORD}"}}'.encode()
    seen = set()
    for one in many[:16]:
        answer = one.ask("POST", "/admin/api/login", {"Content-Type": "application/json"}, login)
        assert answer.status == 200, answer.body
        seen.add("Secure" in answer.headers["set-cookie"])
        assert one.ask("GET", "/readyz").json()["status"] == "ready"
        assert one.ask("GET", "/metrics").status == 200
    assert seen == {True}


def check_strangers(gateway: TlsGateway) -> None:
    """Whoever speaks no TLS leaves nothing in the log and takes nothing away."""
    before = len(gateway.stderr.splitlines())
    for number in range(60):
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_S) as plain:
            if number % 3:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            if number % 2:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert gateway.call("GET", "/api/v3/time").status == 200
    lines = gateway.stderr.splitlines()[before:]
    assert len(lines) <= 3, lines
    assert not any("SSL" in line for line in lines), lines


def check_renewal(gateway: TlsGateway, folder: Path, many: list[Kept], old: Certificate) -> None:
    before = x509.load_pem_x509_certificate(old.certificate_pem).serial_number
    new = x509.load_pem_x509_certificate(renew(folder).certificate_pem).serial_number
    until(lambda: gateway.stderr.count("the new certificate of") == 2, "both workers take it", pause_s=0.1)
    assert {shown(gateway.port) for _ in range(12)} == {new}
    assert new != before
    # Connections go on with what they began with.
    assert {one.ask("GET", KLINES).status for one in many} == {200}


@pytest.mark.parametrize("workers", [1, 2])
def test_certificate_that_cannot_be_used_is_one_line_and_no_start(tmp_path: Path, workers: int) -> None:
    renew(tmp_path)
    (tmp_path / "privkey.pem").write_bytes(AUTHORITY.issue("localhost").key_pem)
    program = Program(
        tmp_path / "run", HOST="127.0.0.1", PORT=0, DATA_DIR=tmp_path / "data", WORKERS=workers, UPSTREAM_DATA="off",
        TLS_CERT=tmp_path / "fullchain.pem", TLS_KEY=tmp_path / "privkey.pem",
    )  # fmt: skip
    assert program.wait() == 2, program.stderr
    lines = [line for line in program.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        f"error: TLS cannot be served: the private key does not belong to the certificate of "
        f"{tmp_path / 'fullchain.pem'}"
    ]
    program.check_healthy()
    assert not re.search(r"PRIVATE KEY|[A-Za-z0-9+/]{60}", program.stderr)
    assert not (tmp_path / "data" / "resender.db").exists()
