"""Each channel against its service, imitated over TLS: what is sent is taken, and a refusal tells what to correct."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock
from resender.alerts import NotSent, Sender, sealed_for, sending
from resender.core.alerts.channels import check_fields
from resender.core.alerts.words import message
from resender.core.egress.spec import EgressSpec
from resender.secret_box import SecretBox
from resender.store import AlertChannelRow
from tests.support.alert_events import MARK, event, over
from tests.support.alert_robots import ROBOTS, SIGNING, Robot
from tests.support.authority import Authority, client_context
from tests.support.upstream import Answer, Peer, RawUpstream, Request, reset, response

pytestmark = pytest.mark.component

EVENTS = [event("banned"), over(event("node")), event("database", why="<b>&\"'{x}\\ 磁盘 🔴")]


def make_sender(folder: Path, *, egress: EgressSpec | None = None, clock: Clock | None = None) -> Sender:
    return Sender(SecretBox("k" * 32, folder), egress, client_context(), clock or Clock(), "gw1")


async def send(
    folder: Path, robot: Robot, events: Any = EVENTS, language: str = "en", **options: Any
) -> None:
    """Send through everything a message goes through: fields checked, sealed and opened again."""
    changes = options.pop("changes", {})
    sender = make_sender(folder, **options)
    fields = check_fields(robot.kind, {**robot.fields, **changes})
    sealed = sender._box.seal(json.dumps(fields), sealed_for(robot.kind))
    row = AlertChannelRow(1, "One", robot.kind, sealed, "{}", language, "warning", "", True, 0)
    await sender.send(row, events)


def saying(status: str, body: bytes) -> Answer:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(body, status))

    return answer


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize("language", ["en", "zh"])
async def test_message_is_taken_as_it_was_written(tmp_path: Path, kind: str, language: str) -> None:
    title, text = message(EVENTS, "gw1", language)
    async with Robot(kind) as robot:
        await send(tmp_path, robot, language=language)
        assert robot.texts == [f"{title}\n{text}"]
        assert robot.refusals == []
        assert len(robot.requests) == 1


@pytest.mark.parametrize("kind", ROBOTS)
async def test_test_of_a_channel_is_taken(tmp_path: Path, kind: str) -> None:
    async with Robot(kind) as robot:
        await send(tmp_path, robot, [event("test")])
        assert "This is a test" in robot.texts[0]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind) if kind == "telegram" else kind for kind in ROBOTS],
)
async def test_message_of_very_many_alerts_is_taken_too(tmp_path: Path, kind: str) -> None:
    why = "数据库无法使用：磁盘已满，请清理后重试。" * 10
    events = [event("database", f"s{number}", why=why) for number in range(200)]
    async with Robot(kind) as robot:
        await send(tmp_path, robot, events, "zh")
        assert len(robot.texts) == 1


async def test_discord_is_told_what_program_it_is(tmp_path: Path) -> None:
    async with Robot("discord", needs_agent=True) as robot:
        await send(tmp_path, robot)
        assert len(robot.texts) == 1


@pytest.mark.parametrize("kind", ["bark"])
async def test_key_that_the_service_repeats_is_not_shown(tmp_path: Path, kind: str) -> None:
    key = f"another{MARK}"
    async with Robot(kind) as robot:
        with pytest.raises(NotSent, match="failed to get device token") as caught:
            await send(tmp_path, robot, changes={"key": key})
        assert MARK not in str(caught.value)


async def test_webhook_gets_everything_a_program_needs(tmp_path: Path) -> None:
    async with Robot("webhook") as robot:
        await send(tmp_path, robot)
        (document,) = robot.documents
    assert [(row["node"], row["kind"], row["state"]) for row in document["events"]] == [
        ("gw1", "banned", "begins"), ("gw1", "node", "over"), ("gw1", "database", "begins"),
    ]  # fmt: skip
    assert document["events"][2]["values"] == {"why": "<b>&\"'{x}\\ 磁盘 🔴"}
    assert abs(document["time"] / 1000 - time.time()) < 60


# --- secrets and signatures -----------------------------------------------------------------------

WRONG: Mapping[str, tuple[str, Callable[[str], str], str]] = {
    "telegram": ("token", lambda text: text[:-1] + "y", "HTTP 401: Unauthorized"),
    "feishu": ("url", lambda text: text + "x", "access token invalid"),
    "dingtalk": ("url", lambda text: text + "x", "token is not exist"),
    "wecom": ("url", lambda text: text + "x", "invalid webhook url"),
    "bark": ("key", lambda text: "another", "HTTP 400: failed to get device token"),
    "slack": ("url", lambda text: text + "x", "HTTP 403"),
    "discord": ("url", lambda text: text + "x", "HTTP 404: Unknown Webhook"),
    "webhook": ("url", lambda text: text + "x", "HTTP 404"),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind) if kind == "wecom" else kind for kind in ROBOTS],
)
async def test_wrong_address_or_key_is_told_in_the_words_of_the_service(tmp_path: Path, kind: str) -> None:
    name, change, words = WRONG[kind]
    async with Robot(kind) as robot:
        with pytest.raises(NotSent) as caught:
            await send(tmp_path, robot, changes={name: change(robot.fields[name])})
        assert words in str(caught.value)
        assert robot.texts == []


async def test_chat_there_is_not_is_told(tmp_path: Path) -> None:
    async with Robot("telegram") as robot:
        with pytest.raises(NotSent, match="HTTP 400: Bad Request: chat not found"):
            await send(tmp_path, robot, changes={"chat_id": "12"})


SIGNS = {"feishu": "sign match fail", "dingtalk": "sign not match", "webhook": "the signature does not fit"}


@pytest.mark.parametrize("kind", SIGNING)
@pytest.mark.parametrize("secret", ["another", f"{MARK} "])
async def test_wrong_secret_for_signatures_is_told(tmp_path: Path, kind: str, secret: str) -> None:
    async with Robot(kind) as robot:
        with pytest.raises(NotSent, match=SIGNS[kind]):
            await send(tmp_path, robot, changes={"secret": secret})
        assert robot.texts == []


@pytest.mark.parametrize("kind", SIGNING)
async def test_secret_that_is_missing_is_told(tmp_path: Path, kind: str) -> None:
    async with Robot(kind) as robot:
        with pytest.raises(NotSent, match=r"sign|timestamp"):
            await send(tmp_path, robot, changes={"secret": ""})
        assert robot.texts == []


@pytest.mark.parametrize("kind", SIGNING)
async def test_clock_of_this_machine_that_is_hours_off_is_told(tmp_path: Path, kind: str) -> None:
    clock = Clock(now_ms=lambda: time.time_ns() // 1_000_000 - 2 * 3_600_000)
    async with Robot(kind) as robot:
        with pytest.raises(NotSent, match=r"time ?stamp"):
            await send(tmp_path, robot, clock=clock)
        assert robot.texts == []


# --- a service that is not well -------------------------------------------------------------------


async def mute(request: Request, peer: Peer) -> None:
    await asyncio.sleep(60)


FAULTS: list[tuple[str, Answer, str]] = [
    ("500", saying("500 Internal Server Error", b"<html>oops</html>"), "HTTP 500"),
    ("502", saying("502 Bad Gateway", b""), "HTTP 502"),
    ("429", saying("429 Too Many Requests", b'{"message":"You are being rate limited."}'), "HTTP 429: You are being"),
    ("302", saying("302 Found", b""), "HTTP 302"),
    ("reset", reset, "closed the connection before it answered"),
    ("mute", mute, "in time"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize(("answer", "words"), [each[1:] for each in FAULTS], ids=[each[0] for each in FAULTS])
async def test_service_that_is_not_well_is_told(
    tmp_path: Path, kind: str, answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(sending, "_LONGEST_S", 0.5 if answer is mute else 5.0)
    async with Robot(kind, answer=answer) as robot:
        with pytest.raises(NotSent) as caught:
            await send(tmp_path, robot)
        assert words in str(caught.value)
        assert len(robot.requests) == 1, "nothing is sent twice"
    assert MARK not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert MARK not in "".join(
        each.getMessage() for each in caplog.records if each.name.startswith("resender")
    )


@pytest.mark.parametrize("kind", ["telegram", "feishu", "dingtalk", "wecom", "bark"])
@pytest.mark.parametrize(
    "body", [b"", b"ok", b"<html>Log in to the WLAN</html>", b"{}", b'{"ok":false,"code":1}']
)
async def test_answer_of_somebody_else_is_no_success(tmp_path: Path, kind: str, body: bytes) -> None:
    async with Robot(kind, answer=saying("200 OK", body)) as robot:
        with pytest.raises(NotSent):
            await send(tmp_path, robot)


@pytest.mark.parametrize("kind", ROBOTS)
async def test_certificate_of_a_stranger_gets_no_secret(tmp_path: Path, kind: str) -> None:
    stranger = RawUpstream(context=Authority().server_context())
    async with Robot(kind, _server=stranger) as robot:
        with pytest.raises(NotSent, match="an authority this machine does not trust"):
            await send(tmp_path, robot)
        assert robot.requests == []


async def test_host_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with Robot("slack") as robot:
        fields = robot.fields
    with pytest.raises(NotSent, match="it refused the connection"):
        await make_sender(tmp_path).send_to("slack", fields, "en", EVENTS)


async def test_many_channels_are_sent_to_side_by_side(tmp_path: Path) -> None:
    async def slowly(request: Request, peer: Peer) -> None:
        await asyncio.sleep(0.5)
        await peer.send(response(b"ok"))

    async with Robot("slack", answer=slowly) as robot:
        sender, begun = make_sender(tmp_path), time.monotonic()
        await asyncio.gather(*(sender.send_to("slack", robot.fields, "en", EVENTS) for _ in range(20)))
        assert time.monotonic() - begun < 5
        assert len(robot.requests) == 20
