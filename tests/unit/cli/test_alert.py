"""The command `alert`: channels from the command line, and a test of them; no secret is printed."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resender import assembly
from resender.alerts import NotSent, sealed_for
from resender.cli import alert
from resender.config import Config
from resender.core.alerts.board import Event
from resender.core.alerts.channels import CHANNELS
from resender.errors import ConfigError
from resender.secret_box import SecretBox
from resender.store import AlertChannelRow, open_repository
from tests.support.alert_events import FIELDS, MARK


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database_url=f"sqlite:///{tmp_path / 'store.db'}", data_dir=str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    # Another one on this machine would be warned of.
    monkeypatch.setattr("resender.cli.database.running_gateways", lambda *starters: iter(()))


def run(config: Config, *words: str) -> int:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir")
    parser = argparse.ArgumentParser(prog="run.py", parents=[common])
    alert.add_parser(parser.add_subparsers(), common)
    arguments = parser.parse_args(["alert", *words])
    return int(arguments.run(config, arguments))


def pairs(kind: str, **changes: str) -> list[str]:
    return [f"{name}={value}" for name, value in {**FIELDS[kind], **changes}.items()]


def rows(config: Config) -> list[AlertChannelRow]:
    with open_repository(config.database) as repository:
        return repository.alert_channels()


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was printed since the last look: never a secret."""
    captured = capfd.readouterr()
    assert MARK not in captured.out + captured.err
    return [line for line in captured.out.splitlines() if not line.startswith("(database ")]


@pytest.mark.parametrize("kind", CHANNELS)
def test_channel_is_added_sealed_and_listed_without_secrets(
    config: Config, kind: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--language", "zh", "--least", "critical", "--quiet", " 23:00-07:00+08:00 ")
    assert run(config, "add", kind, "Mine", *pairs(kind), *options) == 0
    assert said(capfd) == ["Mine is told from now on. Try it: `alert test Mine`."]
    (row,) = rows(config)
    assert (row.name, row.kind, row.language, row.least, row.quiet, row.enabled) == (
        "Mine", kind, "zh", "critical", "23:00-07:00+08:00", True,
    )  # fmt: skip
    opened = SecretBox("", config.data_path).unseal(row.sealed, sealed_for(kind))
    assert json.loads(opened) == FIELDS[kind]
    assert run(config, "list") == 0
    (line,) = said(capfd)
    assert line.split()[:4] == ["Mine", kind, "critical", "zh"]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or MARK.encode() not in path.read_bytes()


def test_secret_comes_from_standard_input(
    config: Config, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{FIELDS['webhook']['url']}\r\n{MARK} second \nthird\n"))
    assert run(config, "add", "webhook", "Mine", "url=-", "secret=-") == 0
    said(capfd)
    opened = json.loads(SecretBox("", config.data_path).unseal(rows(config)[0].sealed, sealed_for("webhook")))
    assert opened == {"url": FIELDS["webhook"]["url"], "secret": f"{MARK} second"}


def test_value_may_hold_the_mark_between_name_and_value(config: Config) -> None:
    url = "https://ding.example/send?access_token=a=b"
    assert run(config, "add", "dingtalk", "Mine", f"url={url}") == 0
    opened = SecretBox("", config.data_path).unseal(rows(config)[0].sealed, sealed_for("dingtalk"))
    assert json.loads(opened) == {"url": url}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("pigeon", "Mine"), "'pigeon' is no kind of channel: telegram, feishu"),
        (("slack", "Mine"), "fields.url: It is needed."),
        (("slack", "Mine", "url"), "write FIELD=VALUE; the fields of slack are url."),
        (("slack", "Mine", "url=hooks.example"), "url: It has to be an address"),
        (("slack", "Mine", f"url=ftp://{MARK}"), "url: It has to be an address"),
        (("slack", "Mine", "url=https://h/", "color=red"), "color: There is no such field."),
        (("slack", "Mine", "url=-"), "fields.url: It is needed."),
        (("slack", "Mine", "url=https://h/", "--quiet", "night"), "is no time of day"),
        (("slack", "x" * 65, "url=https://h/"), "1 to 64 characters"),
        (("slack", " ", "url=https://h/"), "1 to 64 characters"),
    ],
)
def test_mistake_is_one_clear_line_and_nothing_is_added(
    config: Config, words: Sequence[str], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(config, "add", *words)
    assert text in str(caught.value)
    assert MARK not in str(caught.value)
    assert rows(config) == []


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("add",),
        ("add", "slack"),
        ("remove",),
        ("add", "slack", "a", "--language", "de"),
        ("add", "slack", "a", "--least", "info"),
    ],
)
def test_words_that_are_no_command_are_refused(config: Config, words: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(config, *words)
    assert caught.value.code == 2


def test_name_is_one_channel_and_removed_whatever_its_case(
    config: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    run(config, "add", "slack", "Mine", "url=https://h/")
    with pytest.raises(ConfigError, match="There is a channel Mine already"):
        run(config, "add", "discord", "mINE", "url=https://h/")
    said(capfd)
    assert run(config, "remove", "MINE") == 0
    assert said(capfd) == ["Mine is not told any more."]
    assert rows(config) == []
    with pytest.raises(ConfigError, match="There is no channel Mine"):
        run(config, "remove", "Mine")


def test_nobody_is_told_where_there_is_no_channel(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(config, "list") == 0
    assert run(config, "test") == 1
    assert said(capfd) == ["There is no channel: nobody is told."] * 2


def test_channel_that_is_off_is_listed_as_such(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    run(config, "add", "slack", "Mine", "url=https://hooks.example/x")
    with open_repository(config.database) as repository:
        repository.alert_channel_update(1, {"enabled": False})
    said(capfd)
    run(config, "list")
    (line,) = said(capfd)
    assert line.endswith("url=hooks.example  (off)")


# --- test -----------------------------------------------------------------------------------------


class Sender:
    """In place of the real one: `problems` by channel."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self.sent: list[tuple[str, list[str]]] = []

    async def send(self, row: AlertChannelRow, events: Sequence[Event]) -> None:
        self.sent.append((row.name, [event.kind.name for event in events]))
        if row.name in self.problems:
            raise NotSent(self.problems[row.name])


@pytest.fixture
def sender(config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sender:
    made = Sender()
    seen: list[Any] = []

    def make(*arguments: Any) -> Sender:
        seen.append(arguments)
        return made

    monkeypatch.setattr(assembly, "make_sender", make)
    for name in ("One", "Two"):
        run(config, "add", "slack", name, "url=https://h/")
    capfd.readouterr()
    return made


def test_test_goes_to_every_channel_or_to_one(
    config: Config, sender: Sender, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "test") == 0
    assert sorted(sender.sent) == [("One", ["test"]), ("Two", ["test"])]
    assert said(capfd) == ["One: the message has been taken", "Two: the message has been taken"]
    assert run(config, "test", "tWO") == 0
    assert said(capfd) == ["Two: the message has been taken"]
    with pytest.raises(ConfigError, match="There is no channel Three"):
        run(config, "test", "Three")


def test_test_that_fails_at_one_channel_is_told_and_goes_to_the_other(
    config: Config, sender: Sender, capfd: pytest.CaptureFixture[str]
) -> None:
    sender.problems["One"] = "HTTP 404: no_service"
    assert run(config, "test") == 1
    assert said(capfd) == ["One: HTTP 404: no_service", "Two: the message has been taken"]
    assert len(sender.sent) == 2


def test_changes_are_in_the_audit_as_those_of_accounts_and_users_are(config: Config) -> None:
    run(config, "add", "slack", "Mine", "url=https://h/")
    run(config, "remove", "Mine")
    with open_repository(config.database) as repository:
        audit = [(row.actor, row.action, row.subject) for row in repository.audit_list()[::-1]]
    assert audit == [("command line", "alert.add", "Mine"), ("command line", "alert.remove", "Mine")]
