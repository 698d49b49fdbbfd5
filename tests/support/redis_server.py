"""A real redis-server of a test's own on loopback: it can be stopped, started, paused and killed.

And `FakeRedis`, a few lines that answer like one: for versions and clocks a real server has not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.ports import free_port


class RedisServer:
    """The server. `url` is where it is, with the password."""

    def __init__(self, folder: Path, *, password: str = "", more: tuple[str, ...] = ()) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("Redis is not installed: apt-get install redis-server")
        self._program = program
        self._folder = folder
        self._password = password
        self._more = more
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, password=self._password or None, decode_responses=True)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        words += ["--dir", str(self._folder), *self._more]
        if self._password:
            words += ["--requirepass", self._password]
        self._process = subprocess.Popen(
            [self._program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < end, "redis-server does not answer"
                    assert self._process.poll() is None, "redis-server has ended"
                    time.sleep(0.02)

    def stop(self) -> None:
        """End it at once; it forgets everything."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Let it hang: its sockets stay open and nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *, password: str = "", more: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """Run one; skips where the program is missing."""
    server = RedisServer(folder, password=password, more=more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class FakeRedis:
    """Answers what the link asks at the start. Shape: `clock_ahead_s` is how far its TIME is ahead."""

    def __init__(self, *, version: str = "7.0.15", role: str = "master", clock_ahead_s: float = 0.0) -> None:
        self.version = version
        self.role = role
        self.mode = "standalone"
        self.clock_ahead_s = clock_ahead_s
        self.asked: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> FakeRedis:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        is_ear = False
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                words = await self._read(reader)
                self.asked.append(" ".join(words[:2]))
                if words[0] == "SUBSCRIBE":
                    is_ear = True
                    for number, channel in enumerate(words[1:], 1):
                        writer.write(_bulks("subscribe", channel) + b":%d\r\n" % number)
                else:
                    writer.write(self._answer(words, is_ear=is_ear))
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> list[str]:
        count = int((await reader.readuntil(b"\r\n"))[1:])
        words = []
        for _ in range(count):
            size = int((await reader.readuntil(b"\r\n"))[1:])
            words.append((await reader.readexactly(size + 2))[:-2].decode())
        return words

    def _answer(self, words: list[str], *, is_ear: bool) -> bytes:
        if words[0] == "PING":
            return b"*2\r\n" + _bulk("pong") + _bulk("") if is_ear else b"+PONG\r\n"
        if words[0] == "INFO":
            server = f"redis_version:{self.version}\r\nredis_mode:{self.mode}\r\n"
            return _bulk(server if words[1] == "server" else f"role:{self.role}\r\n")
        if words[0] == "TIME":
            now = time.time() + self.clock_ahead_s
            return b"*2\r\n" + _bulk(str(int(now))) + _bulk(str(int(now % 1 * 1e6)))
        if words[0] in ("EVALSHA", "EVAL"):
            now_ms = int((time.time() + self.clock_ahead_s) * 1000)
            return b"*3\r\n" + _bulk(str(now_ms)) + b"*0\r\n*0\r\n"
        return b"+OK\r\n"


def _bulk(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _bulks(*texts: Any) -> bytes:
    """Write the beginning of a list with one more thing behind these texts."""
    return b"*%d\r\n" % (len(texts) + 1) + b"".join(_bulk(str(text)) for text in texts)
