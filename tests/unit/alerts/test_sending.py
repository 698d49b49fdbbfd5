"""Sending one message: what is handed to the client and the mail server, and that no failure tells a secret.

The services themselves are imitated over real lines in tests/component/alerts.
"""

from __future__ import annotations

import itertools
import json
import logging
import smtplib
import ssl
import threading
from collections.abc import Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest

from resender.aio import Clock
from resender.alerts import NotSent, Sender, sealed_for, sending
from resender.core.alerts.channels import CHANNELS, check_fields
from resender.core.alerts.words import message, sentence
from resender.core.egress.spec import EgressSpec
from resender.secret_box import SecretBox
from resender.store import AlertChannelRow
from resender.upstream import NotPosted
from tests.support.alert_events import AT_MS, FIELDS, MARK, event, over

HTTP = tuple(kind for kind in CHANNELS if kind != "email")
TAKEN = {
    "telegram": b'{"ok":true}', "feishu": b'{"code":0}', "dingtalk": b'{"errcode":0}', "wecom": b'{"errcode":0}',
    "bark": b'{"code":200}',
}  # fmt: skip
EGRESS = EgressSpec("second", "address", address="127.0.0.2")


class World:
    """A sender whose requests end here. Shape: `answer` may be an error."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box = SecretBox("k" * 32, folder)
        self.context = cast(ssl.SSLContext, object())
        self.sender = Sender(self.box, EGRESS, self.context, Clock(now_ms=lambda: AT_MS), "gw1")
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []
        self.options: dict[str, Any] = {}
        self.answer: Any = None
        monkeypatch.setattr(sending, "post", self.post)

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, **options: Any
    ) -> tuple[int, bytes]:
        self.posts.append((url, headers, body))
        self.options = options
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast(tuple[int, bytes], self.answer)

    def row(
        self, kind: str, language: str = "en", fields: Mapping[str, str] | None = None, sealed: str = ""
    ) -> AlertChannelRow:
        given = FIELDS[kind] if fields is None else fields
        sealed = sealed or self.box.seal(json.dumps(given), sealed_for(kind))
        return AlertChannelRow(
            3, "Mine", kind, sealed, "{}", language, "warning", "", enabled=True, created_ms=AT_MS
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_message_leaves_in_the_language_of_its_channel(world: World, kind: str, language: str) -> None:
    world.answer = (200, TAKEN.get(kind, b""))
    events = [event("banned"), over(event("node"))]
    await world.sender.send(world.row(kind, language), events)
    ((url, _, body),) = world.posts
    title, text = message(events, "gw1", language)
    sent = body.decode()
    for line in (title, *text.splitlines()):
        assert json.dumps(line, ensure_ascii=False)[1:-1] in sent
    assert url.startswith("https://")
    assert world.options == {
        "egress": EGRESS, "ssl_context": world.context, "longest_s": sending._LONGEST_S,
    }  # fmt: skip


async def test_webhook_tells_programs_what_begins_what_is_over_and_what_has_happened(world: World) -> None:
    world.answer = (200, b"")
    events = [event("banned", "own spot"), over(event("node", "gw2"), 61), event("key", "digest")]
    await world.sender.send(world.row("webhook", "zh"), events)
    found = json.loads(world.posts[0][2])
    assert found["time"] == AT_MS
    assert [(row["kind"], row["level"], row["state"], row["subject"]) for row in found["events"]] == [
        ("banned", "critical", "begins", "own spot"),
        ("node", "critical", "over", "gw2"),
        ("key", "warning", "once", "digest"),
    ]
    assert {row["node"] for row in found["events"]} == {"gw1"}
    assert [row["time"] for row in found["events"]] == [each.at_ms for each in events]
    assert [row["text"] for row in found["events"]] == [sentence(each, "zh") for each in events]
    assert [row["values"] for row in found["events"]] == [dict(each.values) for each in events]


@pytest.mark.parametrize("kind", HTTP)
async def test_refusal_is_not_sent_with_its_reason(world: World, kind: str) -> None:
    world.answer = (503, b'{"message":"try later"}')
    with pytest.raises(NotSent, match=r"^HTTP 503: try later$"):
        await world.sender.send(world.row(kind), [event("test")])


async def test_line_that_fails_is_not_sent_with_its_reason(world: World) -> None:
    world.answer = NotPosted("no answer in time")
    with pytest.raises(NotSent, match=r"^no answer in time$"):
        await world.sender.send(world.row("slack"), [event("test")])


# --- what is sealed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sealed_by", "kind", "words"),
    [("o" * 32, "slack", "another key"), ("k" * 32, "discord", "belongs to another")],
)
async def test_fields_that_do_not_open_have_to_be_entered_again(
    world: World, tmp_path: Path, sealed_by: str, kind: str, words: str
) -> None:
    sealed = SecretBox(sealed_by, tmp_path).seal(json.dumps(FIELDS["slack"]), sealed_for("slack"))
    with pytest.raises(NotSent, match=f"{words}.*enter them again") as caught:
        await world.sender.send(world.row(kind, sealed=sealed), [event("test")])
    assert world.posts == []
    assert caught.value.__suppress_context__


async def test_damaged_fields_are_told_too(world: World) -> None:
    with pytest.raises(NotSent, match="enter them again"):
        await world.sender.send(world.row("slack", sealed="gAAAAdamaged"), [event("test")])


# --- secrets --------------------------------------------------------------------------------------


def pieces(kind: str) -> list[str]:
    """Return the secrets of a channel, and of an address its path."""
    fields = FIELDS[kind]
    found = [fields[spec.name] for spec in CHANNELS[kind] if spec.is_secret and spec.name in fields]
    return [*found, *(text.partition("//")[2].partition("/")[2] for text in found if "//" in text)]


ECHOES = ("{}", "no route {}", "POST {} 404", '{{"url":"{}"}}', "a{}b")


@pytest.mark.parametrize("kind", HTTP)
async def test_service_that_echoes_a_secret_does_not_have_it_shown(
    world: World, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = ""
    names = ("message", "msg", "errmsg", "description", "StatusMessage")
    for piece, echo, name in itertools.product(pieces(kind), ECHOES, names):
        world.answer = (404, json.dumps({name: echo.format(piece)}).encode())
        with pytest.raises(NotSent) as caught:
            await world.sender.send(world.row(kind), [event("test")])
        told += f"{caught.value!r} {caught.value.__cause__!r}\n"
    assert "HTTP 404" in told
    assert MARK not in told + caplog.text


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind) for kind in HTTP],
)
async def test_secret_at_the_end_of_long_words_is_not_shown_in_part(world: World, kind: str) -> None:
    told = ""
    for piece, before in itertools.product(pieces(kind), range(100, 201)):
        world.answer = (404, json.dumps({"message": "." * before + piece}).encode())
        with pytest.raises(NotSent) as caught:
            await world.sender.send(world.row(kind), [event("test")])
        told += f"{caught.value}\n"
    assert MARK[:4] not in told


async def test_secret_that_is_echoed_in_another_form_is_not_shown(world: World) -> None:
    fields = {"url": f"https://hooks.example/in/{MARK}%20{MARK}?key=%7E{MARK}"}
    for text in (f"no route /in/{MARK} {MARK}", f"key ~{MARK} is wrong"):
        world.answer = (404, json.dumps({"message": text}).encode())
        with pytest.raises(NotSent) as caught:
            await world.sender.send(world.row("webhook", fields=fields), [event("test")])
        assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wecom", "invalid webhook url"),
        ("discord", "Unknown webhooks"),
        ("slack", "services are down"),
        ("dingtalk", "access_token is missing"),
    ],
)
async def test_words_of_a_service_are_not_taken_for_secrets(world: World, kind: str, words: str) -> None:
    world.answer = (404, json.dumps({"message": words}).encode())
    with pytest.raises(NotSent, match=words):
        await world.sender.send(world.row(kind), [event("test")])


@pytest.mark.parametrize("kind", CHANNELS)
def test_sender_and_its_rows_show_no_secret(world: World, kind: str) -> None:
    row = world.row(kind)
    assert row.sealed not in repr(row)
    assert MARK not in f"{row!r} {world.sender!r} {vars(world.sender)!r}"


@pytest.mark.parametrize("kind", HTTP)
async def test_long_words_of_a_service_are_one_short_line(world: World, kind: str) -> None:
    world.answer = (404, json.dumps({"message": "a\n\x1b[1mb" + "c" * 5000}).encode())
    with pytest.raises(NotSent) as caught:
        await world.sender.send(world.row(kind), [event("test")])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


# --- e-mail ---------------------------------------------------------------------------------------


class Server:
    """A mail server on which one step may fail; `steps` holds what was done."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.mail = EmailMessage()
        self.failing: dict[str, Exception] = {}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.steps.append(("quit",))

    def _do(self, name: str, *arguments: Any) -> None:
        self.steps.append((name, *arguments))
        if name in self.failing:
            raise self.failing[name]

    def close(self) -> None:
        self.steps.append(("close",))

    def starttls(self, *, context: Any) -> None:
        self._do("starttls", context)

    def login(self, user: str, password: str) -> None:
        self._do("login", user, password)

    def send_message(self, mail: EmailMessage) -> None:
        self.mail = mail
        self._do("send")


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    class Context:
        def wrap_socket(self, line: Any, *, server_hostname: str) -> Any:
            made._do("tls", server_hostname)
            return line

    def connect(egress: Any, host: str, port: int, longest_s: float) -> Any:
        made._do("connect", egress, host, port, longest_s)
        return made

    world.sender._ssl_context = cast(Any, Context())
    monkeypatch.setattr(sending, "open_socket", connect)
    monkeypatch.setattr(sending, "_Connected", lambda line, host: made)
    return made


async def mail(world: World, **fields: str) -> None:
    given = {name: value for name, value in {**FIELDS["email"], **fields}.items() if value}
    await world.sender.send(world.row("email", "zh", check_fields("email", given)), [event("banned")])


async def test_mail_has_a_title_a_text_and_what_filters_look_for(world: World, server: Server) -> None:
    await mail(world, to="owner@mail.example, second@mail.example")
    title, text = message([event("banned")], "gw1", "zh")
    assert server.mail["Subject"] == title
    assert server.mail["From"] == "robot@mail.example"
    assert server.mail["To"] == "owner@mail.example, second@mail.example"
    assert server.mail["Message-ID"].endswith("@mail.example>")
    assert server.mail["Date"]
    assert server.mail.get_content() == f"{text}\n"
    assert MARK not in server.mail.as_string()
    bytes(server.mail).decode("ascii")


@pytest.mark.parametrize(
    ("security", "wanted"), [("starttls", ["connect", "starttls"]), ("tls", ["connect", "tls"])]
)
async def test_password_leaves_after_tls_only(
    world: World, server: Server, security: str, wanted: list[str]
) -> None:
    await mail(world, security=security)
    assert [step[0] for step in server.steps] == [*wanted, "login", "send", "quit", "close"]
    assert server.steps[0] == ("connect", EGRESS, "mail.example", 587, sending._LONGEST_S)
    assert ("login", "robot@mail.example", FIELDS["email"]["password"]) in server.steps


async def test_server_that_wants_no_password_is_not_given_one(world: World, server: Server) -> None:
    await mail(world, security="none", password="")
    assert [step[0] for step in server.steps] == ["connect", "send", "quit", "close"]


async def test_sender_is_the_user_where_none_is_named(world: World, server: Server) -> None:
    await mail(world, user="")
    assert ("login", "robot@mail.example", FIELDS["email"]["password"]) in server.steps


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {MARK}")
    error.reason = reason
    return error


FAILURES: list[tuple[str, Exception, str]] = [
    ("connect", ConnectionRefusedError(111, "Connection refused"), "cannot be reached: Connection refused"),
    ("connect", OSError("the proxy does not connect in time"), "cannot be reached: the proxy does not connect"),
    ("connect", TimeoutError("timed out"), "cannot be reached: timed out"),
    ("starttls", tls_error("WRONG_VERSION_NUMBER"), "TLS with the mail server fails (WRONG_VERSION_NUMBER)"),
    ("login", smtplib.SMTPAuthenticationError(535, f"5.7.8 {MARK}".encode()), "refuses user or password"),
    ("send", smtplib.SMTPRecipientsRefused({"o": (550, MARK.encode())}), "refuses the address in `to`"),
    ("send", smtplib.SMTPSenderRefused(553, MARK.encode(), "robot"), "the mail server answers 553"),
    ("send", smtplib.SMTPDataError(554, MARK.encode()), "the mail server answers 554"),
    ("send", smtplib.SMTPServerDisconnected(f"gone {MARK}"), "breaks off"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "error", "words"), FAILURES)
async def test_mail_that_fails_says_why_in_one_line(
    world: World, server: Server, step: str, error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.failing[step] = error
    with pytest.raises(NotSent) as caught:
        await mail(world)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert MARK not in f"{caught.value!r}{caplog.text}"
    assert caught.value.__suppress_context__
    assert step == "connect" or server.steps[-1] == ("close",)


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        ("starttls", smtplib.SMTPNotSupportedError("STARTTLS extension not supported by server."), "STARTTLS"),
        ("login", smtplib.SMTPNotSupportedError("SMTP AUTH extension not supported by server."), "password|log"),
    ],
)  # fmt: skip
async def test_what_a_mail_server_cannot_do_is_said(
    world: World, server: Server, step: str, error: Exception, words: str
) -> None:
    server.failing[step] = error
    with pytest.raises(NotSent, match=words) as caught:
        await mail(world)
    assert "SMTPNotSupported" not in str(caught.value)


async def test_server_that_answers_nothing_does_not_hold_the_sender(
    world: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(sending, "_LONGEST_S", 0.05)
    monkeypatch.setattr(server, "send_message", lambda made: release.wait(5))
    try:
        with pytest.raises(NotSent, match="does not answer in time"):
            await mail(world)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "a..b"), ("host", ".mail.example"), ("host", f"{'x' * 64}.example"), ("host", "..."),
        ("sender", "robot@[::1"),
        ("sender", "röbot@mail.example"), ("to", "öwner@mail.example"), ("sender", "robot@mail example"),
        ("to", "a b@mail.example, c@d"), ("to", '"a@b'), ("to", "a@b;c@d"), ("to", "(a@b"), ("to", "a@b@c"),
    ],
)  # fmt: skip
async def test_field_that_was_taken_makes_no_other_failure(
    tmp_path: Path, name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fields = {**FIELDS["email"], "host": "localhost", "port": "9", name: value}
    try:
        fields = check_fields("email", fields)
    except ValueError:
        return  # told at its field
    sender = Sender(SecretBox("k" * 32, tmp_path), None, ssl.create_default_context(), Clock(), "gw1")
    with pytest.raises(NotSent) as caught:
        await sender.send_to("email", fields, "en", [event("test")])
    assert MARK not in f"{caught.value!r}{caplog.text}"
