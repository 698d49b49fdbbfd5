"""A TLS server of blocking sockets and threads, which can end a line in every way there is.

An event loop's TLS says goodbye and hangs up in one; here the alert, the FIN and the reset are apart.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from tests.support.upstream import LINGER_OFF, Request, response

_PATIENCE_S = 20.0


class End(Enum):
    """How a line ends."""

    CLOSE = "close_notify and FIN"
    NOTIFY = "close_notify without FIN"
    FIN = "FIN without close_notify"
    RESET = "reset"

    def __str__(self) -> str:
        return self.value


@dataclass
class Line:
    """The server's end of one connection."""

    sock: ssl.SSLSocket
    number: int
    may_reset: threading.Semaphore

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_request(self) -> Request | None:
        """Read one request, None when the client has hung up."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        request = Request(head, body, self.number)
        length = int(request.header("content-length") or 0)
        while len(request.body) < length:
            request.body += self.sock.recv(65536)
        return request

    def end(self, how: End) -> None:
        """End the line; a reset waits until the test says that what was sent has been read.

        A reset takes what the client's system has received and the client has not read yet away.
        """
        if how is End.RESET:
            self.may_reset.acquire(timeout=_PATIENCE_S)
        if how in (End.CLOSE, End.NOTIFY):
            # The alert is written, the client's own is not waited for.
            self.sock.settimeout(0)
            with suppress(OSError):
                self.sock.unwrap()
            self.sock.settimeout(_PATIENCE_S)
        raw = socket.socket(fileno=self.sock.detach())
        try:
            raw.settimeout(_PATIENCE_S)
            if how is End.RESET:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
                return
            if how in (End.CLOSE, End.FIN):
                raw.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while raw.recv(65536):
                    pass
        finally:
            raw.close()


def answer_ok(line: Line, request: Request) -> End | None:
    line.send(response(b"" if request.method == "HEAD" else b'{"ok":true}'))
    return None


@dataclass
class LineServer:
    """The server.

    Shape: `answer` answers a request and says how the line is to end, None if it is kept;
        `may_reset` is released once for each reset.
    """

    context: ssl.SSLContext
    answer: Callable[[Line, Request], End | None] = answer_ok
    requests: list[Request] = field(default_factory=list)
    accepted: int = 0
    port: int = 0
    may_reset: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _listening: socket.socket = field(default_factory=socket.socket)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: set[ssl.SSLSocket] = field(default_factory=set)

    def __enter__(self) -> LineServer:
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(200)
        self.port = self._listening.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.may_reset.release(1000)
        for sock in set(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self.accepted += 1
                self._spawn(self._serve, sock, self.accepted)

    def _serve(self, plain: socket.socket, number: int) -> None:
        plain.settimeout(_PATIENCE_S)
        try:
            sock = self.context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        self._open.add(sock)
        line = Line(sock, number, self.may_reset)
        try:
            with suppress(OSError):
                while (request := line.read_request()) is not None:
                    self.requests.append(request)
                    how = self.answer(line, request)
                    if how is not None:
                        line.end(how)
                        return
        finally:
            self._open.discard(sock)
            sock.close()
