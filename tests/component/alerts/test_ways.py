"""Messages leave by the egress of choice, judged by what the services see: a source address, or a proxy."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from resender.aio import Clock
from resender.alerts import NotSent, Sender, sending
from resender.assembly import make_sender
from resender.core.alerts.channels import check_fields
from resender.core.egress.spec import DEFAULT_ROUTE, EgressSpec
from resender.secret_box import SecretBox
from resender.upstream import open_socket
from tests.support.alert_events import MARK, event
from tests.support.alert_robots import ROBOTS, Robot
from tests.support.alert_smtp import PASSWORD, MailServer
from tests.support.authority import AUTHORITY, client_context
from tests.support.egress_ways import BAD_PASSWORD, PROXIES, USER, address, make_proxy
from tests.support.ports import free_port
from tests.support.proxies import Proxy
from tests.support.running import make_config
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

NAME = "there.example"
EVENTS = [event("banned")]


def sender(folder: Path, egress: EgressSpec | None) -> Sender:
    return Sender(SecretBox("k" * 32, folder), egress, client_context(), Clock(), "gw1")


class Eager(Proxy):
    """A proxy that has the first words of the host already when it says that it is connected, and says both at once."""

    _first = b""

    async def _dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await super()._dial(host, port)
        with suppress(asyncio.TimeoutError):
            self._first = await asyncio.wait_for(reader.read(1000), 0.2)
        return reader, writer

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        first, self._first = self._first, b""
        await super()._say(writer, data + first)


def robot_of(kind: str) -> Robot:
    """Make a service whose name only a proxy knows."""
    return Robot(kind, _server=RawUpstream(context=AUTHORITY.server_context(NAME)))


def eager(way: str) -> Proxy:
    """Make a proxy behind which a mail server, which speaks first, is heard at once."""
    plain = make_proxy(way)
    return Eager(plain.kind, plain.username, plain.password)


def named(robot: Robot) -> dict[str, str]:
    return {name: text.replace("127.0.0.1", NAME) for name, text in robot.fields.items()}


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize(
    ("egress", "peer"),
    [(None, "127.0.0.1"), (DEFAULT_ROUTE, "127.0.0.1"), (address("127.0.0.2"), "127.0.0.2")],
    ids=["none", "default", "address"],
)
async def test_service_sees_the_address_of_the_egress(
    tmp_path: Path, kind: str, egress: EgressSpec | None, peer: str
) -> None:
    async with Robot(kind) as robot:
        await sender(tmp_path, egress).send_to(kind, robot.fields, "en", EVENTS)
        assert robot.peers == [peer]
        assert len(robot.texts) == 1


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize("way", PROXIES)
async def test_message_leaves_by_a_proxy_that_hears_a_name_and_no_secret(
    tmp_path: Path, kind: str, way: str
) -> None:
    async with robot_of(kind) as robot, make_proxy(way) as proxy:
        proxy.names[NAME] = "127.0.0.1"
        await sender(tmp_path, proxy.spec()).send_to(kind, named(robot), "en", EVENTS)
        assert proxy.targets == [(NAME, robot.port)], "no name is resolved here"
        assert MARK.encode() not in b"".join(proxy.handshakes)
        assert len(robot.texts) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("way", PROXIES)
async def test_mail_leaves_by_a_proxy(tmp_path: Path, security: str, way: str) -> None:
    context = AUTHORITY.server_context(NAME)
    async with MailServer(security, context=context) as server, eager(way) as proxy:
        proxy.names[NAME] = "127.0.0.1"
        fields = check_fields("email", server.fields(host=NAME))
        await sender(tmp_path, proxy.spec()).send_to("email", fields, "en", EVENTS)
        assert proxy.targets == [(NAME, server.port)]
        assert server.mails[0].over == security


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
async def test_mail_leaves_by_a_source_address(tmp_path: Path, security: str) -> None:
    async with MailServer(security) as server:
        for egress in (None, DEFAULT_ROUTE, address("127.0.0.2")):
            await sender(tmp_path, egress).send_to("email", server.fields(), "en", EVENTS)
        assert server.peers == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]


async def test_setting_chooses_the_egress(tmp_path: Path) -> None:
    async with Robot("webhook") as robot, Proxy("socks5", USER, "w/rd") as proxy:
        via = f"socks5://{quote(USER, '')}:{quote('w/rd', '')}@127.0.0.1:{proxy.port}"
        for name, peers, through in (
            ("", ["127.0.0.1"], 0),
            ("own", ["127.0.0.2"], 0),
            ("via", ["127.0.0.1"], 1),
        ):
            config = make_config(tmp_path, egress=["own=127.0.0.2", f"via={via}"], alert_egress=name)
            made = make_sender(config, "gw1", SecretBox("", tmp_path), client_context(), Clock())
            robot.peers.clear()
            await made.send_to("webhook", robot.fields, "en", EVENTS)
            assert robot.peers == peers
            assert len(proxy.targets) == through


# --- ways that fail -------------------------------------------------------------------------------


async def failure(made: Sender, kind: str, fields: dict[str, str], caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.DEBUG)
    begun = time.monotonic()
    with pytest.raises(NotSent) as caught:
        await made.send_to(kind, fields, "en", EVENTS)
    assert time.monotonic() - begun < 4
    text = str(caught.value)
    said = text + "".join(each.getMessage() for each in caplog.records if each.name.startswith("resender"))
    assert not {word for word in (MARK, PASSWORD, BAD_PASSWORD) if word in said}
    return text


@pytest.mark.parametrize("kind", ["webhook", "email"])
@pytest.mark.parametrize("way", PROXIES)
async def test_proxy_that_refuses_is_told(
    tmp_path: Path, kind: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = {"socks5": 2, "socks4": 91, "http": 403}[way.split(" ")[0]]
    async with Robot("webhook") as robot, MailServer() as server, make_proxy(way) as proxy:
        proxy.refuse = code
        fields = robot.fields if kind == "webhook" else server.fields()
        assert "the proxy" in await failure(sender(tmp_path, proxy.spec()), kind, fields, caplog)
        assert robot.peers == server.peers == []


@pytest.mark.parametrize("kind", ["webhook", "email"])
@pytest.mark.parametrize("way", ["socks5 login", "http login"])
async def test_proxy_that_wants_another_password_is_told(
    tmp_path: Path, kind: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Robot("webhook") as robot, MailServer() as server, make_proxy(way) as proxy:
        made = sender(tmp_path, proxy.spec(password=BAD_PASSWORD))
        fields = robot.fields if kind == "webhook" else server.fields()
        assert "user name or password" in await failure(made, kind, fields, caplog)
        assert robot.peers == server.peers == []


@pytest.mark.parametrize("kind", ["webhook", "email"])
@pytest.mark.parametrize("way", ["socks5", "socks4", "http"])
async def test_proxy_that_says_nothing_is_given_up_in_time(
    tmp_path: Path, kind: str, way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_LONGEST_S", 0.4)
    async with Robot("webhook") as robot, MailServer() as server, make_proxy(way) as proxy:
        proxy.hangs = True
        fields = robot.fields if kind == "webhook" else server.fields()
        assert "proxy" in await failure(sender(tmp_path, proxy.spec()), kind, fields, caplog)


@pytest.mark.parametrize("kind", ["webhook", "email"])
@pytest.mark.parametrize("fault", ["drops", "gone"])
async def test_proxy_that_hangs_up_or_is_gone_is_told(
    tmp_path: Path, kind: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Robot("webhook") as robot, MailServer() as server, Proxy("socks5") as proxy:
        proxy.drops = True
        spec = proxy.spec()
        if fault == "gone":
            spec = EgressSpec("via", "proxy", scheme="socks5", host="127.0.0.1", port=free_port())
        fields = robot.fields if kind == "webhook" else server.fields()
        assert "the proxy" in await failure(sender(tmp_path, spec), kind, fields, caplog)


@pytest.mark.parametrize("kind", ["webhook", "email"])
async def test_address_the_machine_lacks_is_told(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Robot("webhook") as robot, MailServer() as server:
        fields = robot.fields if kind == "webhook" else server.fields()
        text = await failure(sender(tmp_path, address("192.0.2.7", "lost")), kind, fields, caplog)
    assert "cannot" in text


# --- the connection of a mail ---------------------------------------------------------------------


async def in_thread(*arguments: object) -> socket.socket:
    return await asyncio.to_thread(open_socket, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["default", "address", *PROXIES])
async def test_connection_waits_for_its_answers_as_long_as_was_said(way: str) -> None:
    async with MailServer("none") as server:
        if way in PROXIES:
            async with eager(way) as proxy:
                await _check_socket(proxy.spec(), server)
        else:
            await _check_socket(DEFAULT_ROUTE if way == "default" else address("127.0.0.2"), server)


async def _check_socket(spec: EgressSpec, server: MailServer) -> None:
    line = await in_thread(spec, "127.0.0.1", server.port, 3.0)
    try:
        assert line.gettimeout() == 3.0
        assert (await asyncio.to_thread(line.recv, 100)).startswith(b"220 ")
    finally:
        line.close()


@pytest.mark.parametrize("way", ["socks5", "socks4", "http"])
async def test_connection_that_is_given_up_is_closed(way: str) -> None:
    async with make_proxy(way) as proxy:
        proxy.hangs = True
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(OSError, match="does not connect in time"):
                await in_thread(proxy.spec(), NAME, 25, 0.1)
        # Those of the proxy itself are still open, one each.
        assert len(os.listdir("/proc/self/fd")) - before <= 5
