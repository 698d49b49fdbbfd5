"""Names of our own behind the samples with a wildcard certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from resender.sandbox import Sandbox
from tests.support import reverse_proxies
from tests.support.authority import AUTHORITY
from tests.support.cache_bench import gateway_config, small_exchange
from tests.support.reverse_proxies import CLIENT, ReverseProxy, reverse_proxy
from tests.support.running import Running, running

pytestmark = pytest.mark.component

SUFFIX = "gw.example.com"


def texts(kind: str) -> tuple[str, str]:
    """Return the ordinary sample and the one for names, their heads left out."""
    names = ("nginx.conf", "nginx-names.conf") if kind == "nginx" else ("Caddyfile", "Caddyfile-names")
    mark = "\nupstream " if kind == "nginx" else "\n# There is no"
    one, other = ((reverse_proxies.DEPLOY / name).read_text("utf-8").partition(mark)[2] for name in names)
    return one, other


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_samples_differ_in_their_names_and_certificates_only(kind: str) -> None:
    one, other = texts(kind)
    mine = [line for line in one.splitlines() if "gateway.example.com" not in line]
    others = [line for line in other.splitlines() if SUFFIX not in line]
    assert [line for line in mine if line] == [line for line in others if line]


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Running]:
    async with Sandbox(small_exchange()) as sandbox:
        settings = {"whitelist": CLIENT, "trusted_proxies": "127.0.0.1", "host_suffix": SUFFIX}
        async with running(gateway_config(tmp_path / "data", sandbox, **settings)) as run:
            yield run


@pytest.fixture
async def front(
    kind: str, behind: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ReverseProxy]:
    """The shipped sample for names, as the ordinary one is run: its own names and certificate in their places."""
    deploy = tmp_path / "deploy"
    deploy.mkdir()
    text = (
        reverse_proxies.DEPLOY / ("nginx-names.conf" if kind == "nginx" else "Caddyfile-names")
    ).read_text("utf-8")
    if kind == "nginx":
        text = text.replace(f"server_name {SUFFIX} *.{SUFFIX};", "server_name gateway.example.com;")
        text = text.replace(f"live/{SUFFIX}/", "live/gateway.example.com/")
        (deploy / "nginx.conf").write_text(text, "utf-8")
    else:
        first, _, rest = text.partition(f"{SUFFIX}, *.{SUFFIX} {{\n")
        (deploy / "Caddyfile").write_text(
            f"{first}gateway.example.com {{\n{rest.partition(chr(10))[2]}", "utf-8"
        )
    monkeypatch.setattr(reverse_proxies, "DEPLOY", deploy)
    monkeypatch.setattr(reverse_proxies, "NAME", f"*.{SUFFIX}")

    def certificate(folder: Path) -> tuple[Path, Path]:
        issued = AUTHORITY.issue(f"*.{SUFFIX}", SUFFIX)
        chain, key = folder / "fullchain.pem", folder / "privkey.pem"
        chain.write_bytes(issued.certificate_pem)
        key.write_bytes(issued.key_pem)
        return chain, key

    monkeypatch.setattr(reverse_proxies, "write_certificate", certificate)
    monkeypatch.setattr(reverse_proxies, "_until_it_listens", listens)
    async with reverse_proxy(kind, tmp_path / "front", behind.port) as proxy:
        yield proxy


async def listens(proxy: ReverseProxy) -> None:
    for _ in range(500):
        with suppress(OSError, ssl.SSLError):
            _, writer = await asyncio.open_connection(
                "127.0.0.1",
                proxy.port,
                ssl=proxy.context,
                server_hostname=f"fapi.{SUFFIX}",
                local_addr=(CLIENT, 0),
            )
            writer.close()
            return
        await asyncio.sleep(0.02)
    raise AssertionError(proxy.logs())


async def test_each_name_leads_to_its_host(front: ReverseProxy) -> None:
    for label, path, status in (
        ("api", "/api/v3/time", b"200"),
        ("fapi", "/fapi/v1/time", b"200"),
        ("dapi", "/dapi/v1/time", b"200"),
        ("fapi", "/api/v3/time", b"404"),
    ):
        name = f"{label}.{SUFFIX}"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=front.context, server_hostname=name, local_addr=(CLIENT, 0)
        )
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {name}:{front.port}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 " + status), (name, path, answer[:300])
        writer.close()
