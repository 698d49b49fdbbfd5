"""The command line: which words there are, where a setting comes from, and the exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from resender import __version__
from resender.cli import main as module
from resender.cli.main import main
from resender.config import Config
from resender.core.binance.markets import Market
from resender.doctor import Examination
from resender.errors import ConfigError, StartError, StartLater, StoreError, StoreUnfit


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine, and a log that stays the tests' own."""
    for name in list(module.os.environ):
        if name.startswith("RESENDER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(module, "read_settings_file", dict)
    monkeypatch.setattr(module, "set_up_logging", lambda level, form: None)
    monkeypatch.setattr(module, "tell_database", lambda config: None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Take the settings a start would serve with."""
    found: list[Config] = []

    def serve(config: Config, arguments: argparse.Namespace) -> int:
        found.append(config)
        return 0

    monkeypatch.setattr(module, "_serve", serve)
    return found


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


# --- words and settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [[], ["serve"], ["serve", "--port", "7"], ["--port", "7", "serve"], ["--port", "7"]]
)
def test_no_command_serves_and_options_may_stand_on_either_side(
    served: list[Config], words: list[str]
) -> None:
    assert main(words) == 0
    assert served[0].port == (7 if "--port" in words else 8000)


def test_argument_is_stronger_than_the_environment_and_that_than_the_file(
    served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "read_settings_file", lambda: {"PORT": 1, "HOST": "10.0.0.1", "LOG_LEVEL": "ERROR"}
    )
    monkeypatch.setenv("RESENDER_PORT", "2")
    monkeypatch.setenv("RESENDER_HOST", "10.0.0.2")
    assert main(["--port", "3"]) == 0
    (config,) = served
    assert (config.port, config.host, config.log_level) == (3, "10.0.0.2", "ERROR")


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert lines(capsys) == [f"Binance Resender {__version__}"]


@pytest.mark.parametrize(
    "words", [["brew"], ["whitelist"], ["whitelist", "add"], ["log", "maybe"], ["serve", "--nope"]]
)
def test_word_that_is_not_there_is_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: run.py" in capsys.readouterr().err


def test_help_is_told_under_the_name_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"], prog="binance-resender")
    text = capsys.readouterr().out
    assert text.startswith("usage: binance-resender")
    for command in ("serve", "demo", "doctor", "whitelist", "preload", "user", "log"):
        assert f"\n    {command}" in text


# --- exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (StartError("x"), 2),
        (StoreUnfit("x"), 2),
        (StartLater("x"), 1),
        (StoreError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_decides_whether_starting_again_helps(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(config: Config, arguments: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(module, "_serve", fail)
    assert main([]) == code


def test_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESENDER_PORT", "high")
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: RESENDER_PORT = 'high': must be a whole number"


def test_error_in_the_journal_has_its_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "is_journal", lambda: True)
    monkeypatch.setenv("RESENDER_PORT", "high")
    main([])
    assert capsys.readouterr().err.startswith("<3>error: ")


def test_secret_in_an_error_is_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: Config, arguments: argparse.Namespace) -> int:
        raise StoreError("no connection to postgresql://me:hush-hush-1@db/x")

    monkeypatch.setattr(module, "_serve", fail)
    main([])
    assert "hush-hush-1" not in capsys.readouterr().err


# --- whitelist and log ----------------------------------------------------------------------------


def test_whitelist_is_added_to_listed_and_removed_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whitelist", "list"]) == 0
    assert lines(capsys) == ["The whitelist is empty: nobody may call."]
    assert main(["whitelist", "add", " 2001:DB8::0/32 ", "--note", "home"]) == 0
    assert lines(capsys) == ["2001:db8::/32 may call."]
    assert main(["whitelist", "list"]) == 0
    (line,) = lines(capsys)
    assert line.split()[:2] == ["2001:db8::/32", "on"]
    assert line.endswith(" UTC  home")
    assert main(["whitelist", "remove", "2001:db8:0::/32"]) == 0
    assert lines(capsys) == ["2001:db8::/32 may not call any more."]


def test_address_that_is_there_is_let_in_again_and_keeps_its_note(capsys: pytest.CaptureFixture[str]) -> None:
    main(["whitelist", "add", "192.0.2.1", "--note", "home"])
    lines(capsys)
    assert main(["whitelist", "add", "192.0.2.1"]) == 0
    assert lines(capsys) == ["192.0.2.1 was in the whitelist already; it may call."]
    main(["whitelist", "list"])
    assert lines(capsys)[0].endswith("home")


@pytest.mark.parametrize("action", ["add", "remove"])
def test_address_that_is_none_is_wrong_use(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whitelist", action, "10.1.2.3/8"]) == 2
    assert "names a host inside a network" in capsys.readouterr().err


def test_removing_what_is_not_there_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whitelist", "remove", "192.0.2.1"]) == 1
    assert capsys.readouterr().err == "error: 192.0.2.1 is not in the whitelist.\n"


def test_log_is_off_until_it_is_switched_on(capsys: pytest.CaptureFixture[str]) -> None:
    for words, state in ((["status"], "off"), (["on"], "on"), (["status"], "on"), (["off"], "off")):
        assert main(["log", *words]) == 0
        assert lines(capsys) == [f"The request log is {state}; it holds 0 rows."]


# --- doctor ---------------------------------------------------------------------------------------


def examiner(*results: Examination) -> Callable[..., object]:
    async def examine(config: Config):
        for result in results:
            yield result

    return examine


GOOD = Examination(Market.SPOT, "https://api.example", verdict="ok", is_ok=True)
BAD = Examination(Market.UM, "https://fapi.example", verdict="the connection was refused")


@pytest.mark.parametrize(
    ("results", "code", "last"),
    [
        ((GOOD,), 0, "All 1 upstreams answer."),
        ((GOOD, BAD), 1, "1 of 2 upstreams do not answer as they should."),
        ((), 1, "No upstream is switched on."),
    ],
)
def test_doctor_is_content_only_if_all_answer(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    results: tuple[Examination, ...],
    code: int,
    last: str,
) -> None:
    monkeypatch.setattr("resender.doctor.examine", examiner(*results))
    assert main(["doctor"]) == code
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == last
    assert captured.err == "", "progress is for terminals"
