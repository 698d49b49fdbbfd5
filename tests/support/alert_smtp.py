"""A small mail server on loopback: STARTTLS, TLS, AUTH PLAIN, LOGIN and CRAM-MD5, and faults at will.

It keeps what it was told; it delivers nothing. Source: RFC 5321, 3207 and 4954.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import email
import email.policy
import hashlib
import hmac
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage

from tests.support.authority import AUTHORITY
from tests.support.upstream import LINGER_OFF

USER, PASSWORD = "robot@mail.example", "pass word/7Q"


@dataclass
class Mail:
    """One mail that was taken. Shape: `over` tells what protected it, "" for nothing."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    over: str
    user: str

    @property
    def text(self) -> str:
        content: str = self.message.get_content()
        return content


class _Gone(Exception):
    """The connection ends here."""


@dataclass
class MailServer:
    """The server.

    Shape: `security` is starttls, tls or none; `mechanisms` are those of AUTH, none for a server without;
        `refuse` answers a word (as "RCPT" or "RCPT second@") with a line of its own; `fault` is a word
        ("BANNER", "EHLO", "STARTTLS", "AUTH", "DATA", ".") at which it is "mute", "reset" or "close".
    """

    security: str = "starttls"
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    users: dict[str, str] = field(default_factory=lambda: {USER: PASSWORD})
    needs_login: bool = True
    refuse: dict[str, str] = field(default_factory=dict)
    fault: tuple[str, str] = ("", "")
    context: ssl.SSLContext | None = None
    mails: list[Mail] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> MailServer:
        self.context = self.context or AUTHORITY.server_context()
        tls = self.context if self.security == "tls" else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def fields(self, **changes: str) -> dict[str, str]:
        """Return the fields of a channel that leads here."""
        found = {
            "host": "localhost", "port": str(self.port), "security": self.security, "user": USER,
            "password": PASSWORD if self.security != "none" else "", "sender": USER, "to": "owner@mail.example",
        }  # fmt: skip
        return {name: value for name, value in {**found, **changes}.items() if value}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.peers.append(writer.get_extra_info("peername")[0])
        session = _Session(self, reader, writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError, _Gone):
                await session.run()
        finally:
            # What began TLS inside the connection has its own writer now; the first one hears of no end.
            session.writer.close()
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(session.writer.wait_closed(), 1)
            for side in (session.writer, writer):
                side.transport.abort()


class _Session:
    """One connection."""

    def __init__(
        self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.over = "tls" if server.security == "tls" else ""
        self.user = ""
        self.sender = ""
        self.recipients: list[str] = []

    async def run(self) -> None:
        await self._trip("BANNER")
        await self._say("220 localhost ESMTP")
        while line := await self.reader.readline():
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            word = text.split(" ")[0].upper()
            self.server.words.append(word)
            await self._trip(word)
            if answer := next(
                (
                    said
                    for begins, said in self.server.refuse.items()
                    if begins.split(" ")[0] == word and begins.partition(" ")[2] in text
                ),
                None,
            ):
                await self._say(answer)
                continue
            handler = getattr(self, f"_{word.lower()}", None)
            if handler is None:
                await self._say("502 5.5.1 what is that")
            else:
                await handler(text)

    async def _trip(self, word: str) -> None:
        """Do what is wrong at a word."""
        where, how = self.server.fault
        if where != word:
            return
        if how == "mute":
            await asyncio.sleep(3600)
        if how == "reset":
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            self.writer.transport.abort()
        raise _Gone

    async def _say(self, *lines: str) -> None:
        for line in lines:
            self.writer.write(f"{line}\r\n".encode())
        await self.writer.drain()

    async def _ehlo(self, text: str) -> None:
        offers = ["localhost", "8BITMIME", "SIZE 1000000"]
        if self.server.security == "starttls" and not self.over:
            offers.append("STARTTLS")
        # A server that knows its trade takes no password on a line others read along.
        if self.server.mechanisms and (self.over or self.server.security == "none"):
            offers.append(f"AUTH {' '.join(self.server.mechanisms)}")
        await self._say(*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}")

    async def _helo(self, text: str) -> None:
        await self._say("250 localhost")

    async def _starttls(self, text: str) -> None:
        if self.server.security != "starttls" or self.over:
            await self._say("502 5.5.1 not here")
            return
        await self._say("220 go ahead")
        loop = asyncio.get_running_loop()
        transport, protocol = self.writer.transport, self.writer.transport.get_protocol()
        assert self.server.context is not None
        try:
            secured = await loop.start_tls(transport, protocol, self.server.context, server_side=True)
        except OSError:
            raise _Gone from None
        assert secured is not None
        reader = asyncio.StreamReader()
        inner = asyncio.StreamReaderProtocol(reader)
        secured.set_protocol(inner)
        inner.connection_made(secured)
        self.reader, self.writer = reader, asyncio.StreamWriter(secured, inner, reader, loop)
        self.over = "starttls"

    async def _auth(self, text: str) -> None:
        parts = text.split(" ")
        mechanism = parts[1].upper() if len(parts) > 1 else ""
        if mechanism not in self.server.mechanisms or not (self.over or self.server.security == "none"):
            await self._say("504 5.5.4 not that way")
            return
        first = parts[2] if len(parts) > 2 else ""
        try:
            is_good = await getattr(self, f"_by_{mechanism.lower().replace('-', '_')}")(first)
        except (binascii.Error, ValueError):
            await self._say("501 5.5.2 not base64")
            return
        await self._say("235 2.7.0 welcome" if is_good else "535 5.7.8 bad credentials")

    async def _challenge(self, text: bytes) -> bytes:
        await self._say(f"334 {base64.b64encode(text).decode()}")
        return base64.b64decode((await self.reader.readline()).strip(), validate=True)

    def _knows(self, user: str, password: str) -> bool:
        self.user = user if self.server.users.get(user) == password else ""
        return bool(self.user)

    async def _by_plain(self, first: str) -> bool:
        data = base64.b64decode(first, validate=True) if first else await self._challenge(b"")
        _, user, password = data.decode().split("\0")
        return self._knows(user, password)

    async def _by_login(self, first: str) -> bool:
        user = base64.b64decode(first, validate=True) if first else await self._challenge(b"Username:")
        password = await self._challenge(b"Password:")
        return self._knows(user.decode(), password.decode())

    async def _by_cram_md5(self, first: str) -> bool:
        answer = (await self._challenge(b"<1.2@localhost>")).decode()
        user, _, digest = answer.rpartition(" ")
        password = self.server.users.get(user, "")
        wanted = hmac.new(password.encode(), b"<1.2@localhost>", hashlib.md5).hexdigest()
        return digest == wanted and self._knows(user, password)

    async def _mail(self, text: str) -> None:
        if self.server.needs_login and not self.user and self.server.security != "none":
            await self._say("530 5.7.0 log in first")
            return
        self.sender = text.partition("<")[2].partition(">")[0]
        self.recipients = []
        await self._say("250 2.1.0 ok")

    async def _rcpt(self, text: str) -> None:
        self.recipients.append(text.partition("<")[2].partition(">")[0])
        await self._say("250 2.1.5 ok")

    async def _rset(self, text: str) -> None:
        await self._say("250 2.0.0 ok")

    async def _noop(self, text: str) -> None:
        await self._say("250 2.0.0 ok")

    async def _data(self, text: str) -> None:
        if not self.recipients:
            await self._say("503 5.5.1 to whom")
            return
        await self._say("354 go ahead")
        data = await self.reader.readuntil(b"\r\n.\r\n")
        await self._trip(".")
        if answer := self.server.refuse.get("."):
            await self._say(answer)
            return
        body = data[:-3].replace(b"\r\n..", b"\r\n.")
        message = email.message_from_bytes(body, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.server.mails.append(Mail(self.sender, self.recipients, message, self.over, self.user))
        await self._say("250 2.0.0 queued")

    async def _quit(self, text: str) -> None:
        await self._say("221 2.0.0 bye")
        raise _Gone
