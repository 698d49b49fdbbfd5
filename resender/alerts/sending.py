"""Sending one message to one channel, through the egress of choice.

HTTP goes by the gateway's own client, e-mail by the standard library in a thread. No secret is in what is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import unquote, urlsplit

from resender.aio import Clock, within
from resender.core.alerts.board import Event
from resender.core.alerts.channels import CHANNELS, make_post, problem_of
from resender.core.alerts.words import message, sentence
from resender.core.egress.spec import EgressSpec
from resender.core.redact import MASK, redact
from resender.secret_box import SecretBox, SecretError
from resender.store import AlertChannelRow
from resender.upstream import NotPosted, open_socket, post

_LONGEST_S = 20.0
# Shorter parts of a secret address are words of everybody; longer ones without a digit are none.
_SECRET_LEAST, _SECRET_LONG = 4, 16


class NotSent(Exception):
    """A message has not arrived; its text says why, in one line and without secrets."""


def sealed_for(kind: str) -> str:
    """Return for whom the fields of a channel are sealed: they open as this kind only."""
    return f"alert channel {kind}"


class Sender:
    """Sends. Shape: without `egress` the machine's default route."""

    def __init__(
        self, box: SecretBox, egress: EgressSpec | None, ssl_context: ssl.SSLContext, clock: Clock, node: str
    ) -> None:
        self._box = box
        self._egress = egress
        self._ssl_context = ssl_context
        self._clock = clock
        self.node = node

    async def send(self, channel: AlertChannelRow, events: Sequence[Event]) -> None:
        """Send events as one message, in the channel's language. Raises: NotSent."""
        try:
            fields = json.loads(self._box.unseal(channel.sealed, sealed_for(channel.kind)))
        except SecretError as error:
            raise NotSent(f"its fields cannot be opened: {error}; enter them again") from None
        await self.send_to(channel.kind, fields, channel.language, events)

    async def send_to(
        self, kind: str, fields: Mapping[str, str], language: str, events: Sequence[Event]
    ) -> None:
        """Send to a channel of these fields. Raises: NotSent."""
        title, text = message(events, self.node, language)
        if kind == "email":
            try:
                await within(asyncio.to_thread(self._mail, fields, title, text), 2 * _LONGEST_S)
            except asyncio.TimeoutError:
                raise NotSent("the mail server does not answer in time") from None
            return
        rows = [_row(event, self.node, language) for event in events]
        made = make_post(kind, fields, title, text, rows, self._clock.now_ms())
        try:
            status, body = await post(
                made.url, made.headers, made.body,
                egress=self._egress, ssl_context=self._ssl_context, longest_s=_LONGEST_S,
            )  # fmt: skip
        except NotPosted as error:
            raise NotSent(_without_secrets(str(error), kind, fields)) from None
        if problem := problem_of(kind, status, body, lambda said: _without_secrets(said, kind, fields)):
            raise NotSent(problem)

    def _mail(self, fields: Mapping[str, str], title: str, text: str) -> None:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = title, fields["sender"], fields["to"]
        mail["Date"], mail["Message-ID"] = (
            formatdate(),
            make_msgid(domain=fields["sender"].rpartition("@")[2]),
        )
        mail.set_content(text)
        host, security = fields["host"], fields["security"]
        try:
            with contextlib.closing(open_socket(self._egress, host, int(fields["port"]), _LONGEST_S)) as line:
                if security == "tls":
                    line = self._ssl_context.wrap_socket(line, server_hostname=host)
                with _Connected(line, host) as server:
                    if security == "starttls":
                        server.starttls(context=self._ssl_context)
                    if fields.get("password"):
                        server.login(fields.get("user") or fields["sender"], fields["password"])
                    server.send_message(mail)
        except smtplib.SMTPNotSupportedError:
            raise NotSent(
                "the mail server knows no STARTTLS or no log-in: choose another security or port"
            ) from None
        except smtplib.SMTPAuthenticationError:
            raise NotSent("the mail server refuses user or password") from None
        except smtplib.SMTPRecipientsRefused:
            raise NotSent("the mail server refuses the address in `to`") from None
        except smtplib.SMTPResponseException as error:
            raise NotSent(f"the mail server answers {error.smtp_code}") from None
        except smtplib.SMTPException as error:
            raise NotSent(f"the mail server breaks off ({type(error).__name__})") from None
        except ssl.SSLError as error:
            raise NotSent(f"TLS with the mail server fails ({error.reason or 'broken off'})") from None
        except (UnicodeError, AttributeError, ValueError):
            raise NotSent("the mail server's name, or an address, cannot be used") from None
        except OSError as error:
            raise NotSent(f"the mail server cannot be reached: {error.strerror or error}") from None


class _Connected(smtplib.SMTP):
    """An SMTP client on a connection that is there already: the library would make one by itself."""

    def __init__(self, line: socket.socket, host: str) -> None:
        self._line = line
        super().__init__(host, 25, timeout=_LONGEST_S)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._line


def _without_secrets(text: str, kind: str, fields: Mapping[str, str]) -> str:
    """Mask whatever secret a service or the network has repeated."""
    for spec in CHANNELS[kind]:
        value = fields.get(spec.name, "")
        if not spec.is_secret or not value:
            continue
        parts = [value]
        if spec.kind == "url":
            found = urlsplit(value)
            parts += [found.path, found.query]
            parts += [
                part for part in re.split("[/&=?;,.]", f"{found.path}/{found.query}") if _is_secret(part)
            ]
        for part in sorted({*parts, *map(unquote, parts)}, key=len, reverse=True):
            if len(part) >= _SECRET_LEAST:
                text = text.replace(part, MASK)
    return redact(text)


def _is_secret(part: str) -> bool:
    """Tell whether a part of an address is no word of everybody's, such as `webhook`."""
    return len(part) >= _SECRET_LONG or any(c.isdigit() for c in part)


def _row(event: Event, node: str, language: str) -> dict[str, Any]:
    return {
        "node": node,
        "kind": event.kind.name,
        "level": event.kind.level.word,
        "state": "over" if event.lasted_s is not None else "begins" if event.kind.has_end else "once",
        "subject": event.subject,
        "text": sentence(event, language),
        "values": dict(event.values),
        "time": event.at_ms,
    }
