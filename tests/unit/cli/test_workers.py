"""The parent of several workers: its port, what becomes of a worker that ends, and of one that never gets ready."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from resender.cli import workers as module
from resender.cli.serve import bind
from resender.cli.workers import _how, _Process, _Team, reserve_port
from resender.core.cluster.worker import Worker
from resender.errors import StartError
from tests.support.running import make_config, wait_until

# Tornado leaves a socket it could not bind to the collector of garbage.
leaves_a_socket = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@leaves_a_socket
async def test_port_is_kept_for_workers_and_nobody_else() -> None:
    async with AsyncExitStack() as stack:
        port = reserve_port("127.0.0.1", 0, stack)
        listening = [bind("127.0.0.1", port, is_shared=True)[0] for _ in range(2)]
        with pytest.raises(StartError, match="in use"):
            bind("127.0.0.1", port)
        # Connections come to those that listen, and never to what only keeps the port.
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port), 1.0):
                accepted = 0
                for one in listening:
                    one.settimeout(0.05)
                    try:
                        one.accept()[0].close()
                        accepted += 1
                    except TimeoutError:
                        continue
                assert accepted == 1
        for one in listening:
            one.close()


@leaves_a_socket
async def test_port_somebody_listens_on_is_refused() -> None:
    async with AsyncExitStack() as stack:
        for is_shared in (False, True):
            (listening,) = bind("127.0.0.1", 0, is_shared=is_shared)
            with pytest.raises(StartError, match=r"cannot listen on 127\.0\.0\.1 port"):
                reserve_port("127.0.0.1", listening.getsockname()[1], stack)
            listening.close()


def test_how_a_process_ended_is_told_in_words() -> None:
    assert [_how(code) for code in (0, 2, -9, -200)] == [
        "exit code 0", "exit code 2", "signal SIGKILL", "exit code -200",
    ]  # fmt: skip


class Rehearsed(_Team):
    """A team whose workers are no processes: each ends with the next of `codes`, the last one stays."""

    def __init__(self, folder: Path, codes: list[int], *, are_ready: bool) -> None:
        config = make_config(folder, workers=2)
        super().__init__(config, Worker(0, 2, 8000, 1, 1, "ab" * 32), asyncio.Event())
        self.codes, self.are_ready = codes, are_ready
        self.started: list[int] = []

    async def _spawn(self, one: _Process) -> int:
        self.started.append(one.worker.number)
        if self.are_ready:
            one.ready.set()
        if one.worker.number == 0 and self.codes:
            await asyncio.sleep(0.05)
            one.ready.clear()
            return self.codes.pop(0)
        await asyncio.Event().wait()
        return 0


async def test_worker_that_never_gets_ready_ends_the_start_with_its_code(tmp_path: Path) -> None:
    team = Rehearsed(tmp_path, [2], are_ready=False)
    assert not await team.start()
    assert team.exit_code == 2
    assert team.started == [0], "the others are not even tried"
    await team.stop()


async def test_worker_that_ends_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_S", (0.01, 0.02))
    team = Rehearsed(tmp_path, [-9, 1, 0], are_ready=True)
    assert await team.start()
    assert " of 2 workers serve on 127.0.0.1 port 8000" in team.in_words()
    await wait_until(lambda: team.started.count(0) == 4)
    assert team.started.count(1) == 1
    await team.stop()
    assert "worker 0 has ended (signal SIGKILL); it is started again in 0.01 s" in caplog.text
    assert team.exit_code == 0
    assert not len(team.tasks)
