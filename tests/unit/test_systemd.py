"""What systemd hears, at a real socket of the kind it listens on."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from resender.systemd import keep_informed, notify, status_line, watchdog_s


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> list[str]:
    """Return the messages that are waiting."""
    messages = []
    with suppress(BlockingIOError):
        while True:
            messages.append(sock.recv(65536).decode())
    return messages


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with listening(path) as sock:
        yield sock


# --- messages ----------------------------------------------------------------------------------


def test_messages_arrive_as_they_are(systemd: socket.socket) -> None:
    assert notify("READY=1", status_line("serving, 币安"))
    assert notify("WATCHDOG=1")
    assert notify("STOPPING=1")
    assert heard(systemd) == ["READY=1\nSTATUS=serving, 币安", "WATCHDOG=1", "STOPPING=1"]


def test_messages_arrive_at_a_name_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"resender-test-{uuid.uuid4()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listening(f"\0{name}") as sock:
        assert notify("READY=1")
        assert heard(sock) == ["READY=1"]


@pytest.mark.parametrize("address", [None, "", "relative/path", "vsock:2:1234", "@", "/nowhere/notify"])
def test_nothing_is_sent_where_nobody_listens(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_path_too_long_for_a_socket_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/" + "x" * 300)
    assert not notify("READY=1")


def test_status_is_one_line_of_bounded_length() -> None:
    assert status_line("  serving\non\r\n\tport 8000 ") == "STATUS=serving on port 8000"
    assert status_line("") == "STATUS="
    assert status_line("币" * 1000) == "STATUS=" + "币" * 200
    assert "\n" not in status_line("a\x0bb\x85c\u2028READY=1")


# --- the watchdog ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pid", "seconds"),
    [
        (None, None, 0.0),
        ("30000000", None, 30.0),
        ("1500000", "", 1.5),
        ("30000000", "mine", 30.0),
        ("30000000", "1", 0.0),
        ("0", None, 0.0),
        ("-5", None, 0.0),
        ("soon", None, 0.0),
        ("", None, 0.0),
    ],
)
def test_watchdog_is_of_this_process_or_none(
    text: str | None, pid: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", text), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "mine" else value)
    assert watchdog_s() == seconds


async def gather_for(sock: socket.socket, seconds: float) -> list[str]:
    await asyncio.sleep(seconds)
    return heard(sock)


async def test_watchdog_is_fed_in_time_with_the_status_of_now(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    words = ["one"]
    task = asyncio.create_task(keep_informed(lambda: words[-1]))
    try:
        messages = await gather_for(systemd, 1.05)
        assert messages[0] == "READY=1\nWATCHDOG=1\nSTATUS=one"
        assert set(messages[1:]) == {"WATCHDOG=1\nSTATUS=one"}
        assert len(messages) >= 4, "a limit of 0.3 s means at least one each 0.15 s"
        words.append("two")
        assert "WATCHDOG=1\nSTATUS=two" in await gather_for(systemd, 0.5)
    finally:
        task.cancel()
        await asyncio.wait([task])
    heard(systemd)
    assert await gather_for(systemd, 0.3) == []


async def test_without_a_watchdog_the_status_is_told_seldom(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    task = asyncio.create_task(keep_informed(lambda: "fine"))
    assert len(await gather_for(systemd, 0.3)) == 1
    task.cancel()
    await asyncio.wait([task])


def fill(sock: socket.socket) -> None:
    """Send messages until no more fit, as while systemd itself is busy."""
    count = 0
    while notify("STATUS=filling"):
        count += 1
        assert count < 100_000


async def test_watchdog_is_fed_again_when_systemd_was_busy(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    fill(systemd)
    task = asyncio.create_task(keep_informed(lambda: "fine"))
    try:
        await asyncio.sleep(0.3)
        heard(systemd)
        messages = await gather_for(systemd, 1.0)
        assert "WATCHDOG=1\nSTATUS=fine" in messages, "the service would be killed although it is well"
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_watchdog_is_fed_again_when_systemd_was_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with listening(str(path)) as sock:
        task = asyncio.create_task(keep_informed(lambda: "fine"))
        assert await gather_for(sock, 0.2)
    try:
        await asyncio.sleep(0.3)
        path.unlink()
        with listening(str(path)) as sock:
            assert await gather_for(sock, 1.0), "the service would be killed although it is well"
    finally:
        task.cancel()
        await asyncio.wait([task])
