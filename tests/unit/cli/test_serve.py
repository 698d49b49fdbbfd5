"""Serving as a process: sockets that cannot be had, signals, and the URL that is announced."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from resender.cli import serve as module
from resender.cli.serve import bind, bind_admin, local_url, serve, stop_on_signal, tune_collector
from resender.errors import StartError, StartLater
from resender.lock import data_dir_lock
from tests.support.authority import client_context
from tests.support.client import call
from tests.support.running import make_config, wait_until

# Tornado leaves a socket it could not bind to the collector of garbage.
leaves_a_socket = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


def refusal(host: str, port: int) -> tuple[type[Exception], str]:
    """Return how binding fails; of the error itself, which holds on to sockets, nothing is left."""
    try:
        bind(host, port)
    except (StartError, StartLater) as error:
        return type(error), str(error)
    raise AssertionError("it was bound")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("10.0.0.1", "http://10.0.0.1:8000"),
        ("gw.example", "http://gw.example:8000"),
    ],
)
def test_announced_url_is_one_this_machine_can_open(host: str, url: str) -> None:
    assert local_url(host, 8000) == url


@leaves_a_socket
def test_port_that_is_taken_will_not_be_free_by_starting_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"cannot listen on 127.0.0.1 port {port}: Address already in use"
        cure = "; stop the program that listens there, or choose another PORT"
        assert refusal("127.0.0.1", port) == (StartError, text + cure)


@leaves_a_socket
@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid", "höst..example"])
def test_address_that_is_not_up_may_be_later(host: str) -> None:
    kind, text = refusal(host, 0)
    assert kind is StartLater
    assert text.startswith(f"cannot listen on {host} port 0: ")


def test_admin_pages_have_sockets_only_if_they_have_a_port(tmp_path: Path) -> None:
    assert bind_admin(make_config(tmp_path)) == []
    assert bind_admin(make_config(tmp_path, admin_port=1, admin_enabled=False)) == []


async def test_first_signal_stops_in_order_and_the_second_at_once() -> None:
    loop = asyncio.get_running_loop()
    stop = stop_on_signal()
    try:
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 5)
        handler = loop._signal_handlers[signal.SIGINT]  # type: ignore[attr-defined]
        with pytest.raises(SystemExit) as caught:
            handler._callback(*handler._args)
        assert caught.value.code == 130
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def test_worker_is_ended_by_its_parent_however_often_it_is_told_to_stop() -> None:
    loop: Any = asyncio.get_running_loop()
    stop = stop_on_signal(is_worker=True)
    try:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 5)
            await asyncio.sleep(0)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class Started:
    """A gateway served by `serve` in this process, stopped by an event instead of a signal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: Any, **options: Any) -> None:
        self.stop = asyncio.Event()
        self.urls: list[str] = []
        self.notes: list[tuple[str, ...]] = []
        monkeypatch.setattr(module, "stop_on_signal", lambda **_: self.stop)
        monkeypatch.setattr(module, "notify", lambda *words: self.notes.append(words))
        monkeypatch.setattr(module, "raise_file_limit", lambda: None)
        monkeypatch.setattr(module, "tune_allocator", lambda: None)
        self.task = asyncio.ensure_future(
            serve(config, announce=self.urls.append, ssl_context=client_context(), **options)
        )

    async def port(self) -> int:
        await wait_until(lambda: self.urls or self.task.done())
        return int(self.urls[0].rpartition(":")[2])


async def test_gateway_serves_until_it_is_stopped_and_ends_with_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(monkeypatch, make_config(tmp_path))
    port = await started.port()
    assert (await call(port, "GET", "/healthz")).json() == {"status": "ok"}
    started.stop.set()
    assert await started.task == 0
    assert started.notes[-1][0] == "STOPPING=1"
    with pytest.raises(ConnectionRefusedError):
        await call(port, "GET", "/healthz")


async def test_what_is_prepared_is_prepared_before_anybody_can_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def prepare() -> None:
        seen.append("prepared")
        with pytest.raises(StartError), data_dir_lock(tmp_path):
            pass

    started = Started(monkeypatch, make_config(tmp_path), prepare=prepare)
    await started.port()
    assert seen == ["prepared"]
    started.stop.set()
    await started.task


@leaves_a_socket
async def test_start_that_fails_frees_the_data_folder_and_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = make_config(tmp_path, port=taken.getsockname()[1])
        failed = Started(monkeypatch, config).task
        await asyncio.wait({failed})
        assert "Address already in use" in str(failed.exception())
        del failed
        gc.collect()
    started = Started(monkeypatch, config)
    assert await started.port() == config.port
    started.stop.set()
    await started.task


async def test_admin_pages_on_a_port_of_their_own_are_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = bind("127.0.0.1", 0)
    monkeypatch.setattr(module, "bind_admin", lambda config: own)
    started = Started(monkeypatch, make_config(tmp_path, admin_port=1, admin_password="open sesame 42"))
    port, admin_port = await started.port(), own[0].getsockname()[1]
    assert (await call(port, "GET", "/admin/login")).status == 404
    assert (await call(admin_port, "GET", "/admin/login")).status == 200
    assert (await call(admin_port, "GET", "/api/v3/time")).status == 404
    started.stop.set()
    await started.task


def test_what_is_old_is_looked_through_seldom_and_never_more_often_than_before() -> None:
    before = gc.get_threshold()
    try:
        tune_collector()
        assert gc.get_threshold() == (before[0], before[1], max(before[2], 1000))
        assert gc.get_freeze_count() > 0
        gc.set_threshold(before[0], before[1], 5000)
        tune_collector()
        assert gc.get_threshold()[2] == 5000
    finally:
        gc.set_threshold(*before)
