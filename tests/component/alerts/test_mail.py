"""E-mail against a mail server on loopback: STARTTLS, TLS, log-ins, and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock
from resender.alerts import NotSent, Sender, sending
from resender.core.alerts.channels import check_fields
from resender.core.alerts.words import message
from resender.secret_box import SecretBox
from tests.support.alert_events import event, over
from tests.support.alert_smtp import PASSWORD, USER, MailServer
from tests.support.authority import AUTHORITY, Authority, client_context
from tests.support.ports import free_port

pytestmark = pytest.mark.component

EVENTS = [event("banned"), over(event("node")), event("database", why=".\n. 磁盘 <b>".replace("\n", " "))]
WAYS = ("starttls", "tls", "none")


async def send(
    folder: Path, server: MailServer, events: Any = EVENTS, language: str = "en", **changes: str
) -> None:
    sender = Sender(SecretBox("k" * 32, folder), None, client_context(), Clock(), "gw1")
    await sender.send_to("email", check_fields("email", server.fields(**changes)), language, events)


class Failure:
    """A mail that is not sent: in words without secrets, and in time."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._folder, self._caplog = folder, caplog

    async def of(self, server: MailServer, within_s: float = 4.0, **changes: str) -> str:
        begun = time.monotonic()
        with pytest.raises(NotSent) as caught:
            await send(self._folder, server, **changes)
        assert time.monotonic() - begun < within_s
        text = str(caught.value)
        assert "\n" not in text
        password = changes.get("password", PASSWORD)
        assert password not in f"{text}{caught.value.__cause__!r}{self._caplog.text}"
        return text


@pytest.fixture
def failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Failure:
    return Failure(tmp_path, caplog)


# --- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("security", WAYS)
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_mail_arrives_as_it_was_written(tmp_path: Path, security: str, language: str) -> None:
    title, text = message(EVENTS, "gw1", language)
    async with MailServer(security) as server:
        await send(tmp_path, server, language=language)
        (mail,) = server.mails
    assert (mail.over, mail.user) == ("", "") if security == "none" else (security, USER)
    assert (mail.sender, mail.recipients) == (USER, ["owner@mail.example"])
    assert mail.message["Subject"] == title
    assert (mail.message["From"], mail.message["To"]) == (USER, "owner@mail.example")
    assert mail.text.splitlines() == text.splitlines()
    assert mail.message["Message-ID"].endswith("@mail.example>")
    assert mail.message["Date"].datetime.timestamp() == pytest.approx(time.time(), abs=60)
    assert server.words[-1] == "QUIT", "it takes its leave"


async def test_every_address_gets_it(tmp_path: Path) -> None:
    async with MailServer() as server:
        await send(tmp_path, server, to="owner@mail.example, second@mail.example,third@mail.example")
        assert server.mails[0].recipients == [
            "owner@mail.example", "second@mail.example", "third@mail.example",
        ]  # fmt: skip


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_each_way_to_log_in_is_known(tmp_path: Path, mechanism: str, security: str) -> None:
    async with MailServer(security, (mechanism,)) as server:
        await send(tmp_path, server)
        assert server.mails[0].user == USER


async def test_server_that_knows_better_and_worse_ways_gets_one_it_takes(tmp_path: Path) -> None:
    async with MailServer(mechanisms=("XOAUTH2", "NTLM", "LOGIN")) as server:
        await send(tmp_path, server)
        assert server.mails[0].user == USER


async def test_password_of_odd_letters_is_sent_as_it_is(tmp_path: Path) -> None:
    word = "a b\"\\'%&{}~!@#"
    async with MailServer(users={USER: word}) as server:
        await send(tmp_path, server, password=word)
        assert server.mails[0].user == USER


async def test_password_of_letters_that_cannot_be_sent_is_told_as_such(tmp_path: Path) -> None:
    async with MailServer(users={USER: "pässwört"}) as server:
        with pytest.raises((NotSent, ValueError), match="password"):
            await send(tmp_path, server, password="pässwört")


async def test_server_without_log_in_takes_a_mail_without_one(tmp_path: Path) -> None:
    async with MailServer(mechanisms=(), needs_login=False) as server:
        await send(tmp_path, server, password="", user="")
        assert (server.mails[0].over, server.mails[0].user) == ("starttls", "")


# --- secrets --------------------------------------------------------------------------------------


async def test_password_is_not_said_where_starttls_is_not_offered(failure: Failure) -> None:
    async with MailServer("none") as server:
        text = await failure.of(server, security="starttls", password=PASSWORD)
        assert "STARTTLS" in text
        assert not {"AUTH", "MAIL"} & set(server.words)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_stranger_that_plays_the_mail_server_gets_no_password(failure: Failure, security: str) -> None:
    for context in (Authority().server_context(), AUTHORITY.server_context("mail.example")):
        async with MailServer(security, context=context) as server:
            text = await failure.of(server)
            assert "TLS with the mail server fails" in text
            assert not {"AUTH", "MAIL"} & set(server.words)


async def test_server_without_log_in_gets_no_password(failure: Failure) -> None:
    async with MailServer(mechanisms=()) as server:
        assert "log-in" in await failure.of(server)
        assert not {"AUTH", "MAIL"} & set(server.words)


async def test_server_whose_ways_are_unknown_is_told(failure: Failure) -> None:
    async with MailServer(mechanisms=("XOAUTH2",)) as server:
        await failure.of(server)
        assert not {"AUTH", "MAIL"} & set(server.words)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_wrong_password_is_told(failure: Failure, mechanism: str) -> None:
    async with MailServer(mechanisms=(mechanism,)) as server:
        assert await failure.of(server, password="another") == "the mail server refuses user or password"
        assert server.mails == []


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        ({"MAIL": "553 5.7.1 not your address"}, "the mail server answers 553"),
        ({"RCPT": "550 5.1.1 no such user"}, "the mail server refuses the address in `to`"),
        ({"DATA": "554 5.7.1 spam"}, "the mail server answers 554"),
        ({".": "452 4.3.1 the disk is full"}, "the mail server answers 452"),
        ({"STARTTLS": "454 4.7.0 not now"}, "the mail server answers 454"),
        ({"EHLO": "421 4.3.2 shutting down", "HELO": "421 4.3.2 shutting down"}, "the mail server answers 421"),
        ({"AUTH": "421 4.7.0 too many"}, "refuses user or password"),
    ],
)  # fmt: skip
async def test_refusal_is_told(failure: Failure, refuse: dict[str, str], words: str) -> None:
    async with MailServer(refuse=refuse) as server:
        assert words in await failure.of(server)
        assert server.mails == []


async def test_server_that_knows_only_the_old_greeting_gets_a_mail_too(tmp_path: Path) -> None:
    async with MailServer("none", refuse={"EHLO": "502 5.5.1 what"}) as server:
        await send(tmp_path, server)
        assert len(server.mails) == 1


async def test_mail_is_taken_if_one_of_its_addresses_is(tmp_path: Path) -> None:
    async with MailServer(refuse={"RCPT second@": "550 5.1.1 no such user"}) as server:
        await send(tmp_path, server, to="owner@mail.example,second@mail.example")
        assert server.mails[0].recipients == ["owner@mail.example"]


# --- lines that fail ------------------------------------------------------------------------------

PLACES = ("BANNER", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", ".")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["close", "reset", "mute"])
async def test_line_that_fails_anywhere_is_told_in_time(
    failure: Failure, place: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "mute":
        monkeypatch.setattr(sending, "_LONGEST_S", 0.4)
    async with MailServer(fault=(place, how)) as server:
        text = await failure.of(server)
        assert text.startswith("the mail server ")
        assert server.mails == []
        assert len(server.peers) == 1, "it is tried once"


async def test_server_that_drips_is_given_up_in_time(
    failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_LONGEST_S", 0.4)
    async with MailServer("tls", fault=("BANNER", "mute")) as server:
        await failure.of(server, 2.5)


@pytest.mark.parametrize(("security", "said"), [("tls", "starttls"), ("starttls", "tls")])
async def test_port_of_the_other_kind_is_told(
    failure: Failure, security: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_LONGEST_S", 0.6)
    async with MailServer(security) as server:
        text = await failure.of(server, security=said)
    assert text.startswith(("the mail server", "TLS with the mail server"))


async def test_server_that_is_not_there_is_told(failure: Failure) -> None:
    async with MailServer() as server:
        text = await failure.of(server, port=str(free_port()))
    assert text == "the mail server cannot be reached: Connection refused"


async def test_many_mails_at_once_are_all_sent(tmp_path: Path) -> None:
    async with MailServer() as server:
        await asyncio.gather(*(send(tmp_path, server) for _ in range(12)))
        assert len(server.mails) == 12
        assert len({mail.message["Message-ID"] for mail in server.mails}) == 12
