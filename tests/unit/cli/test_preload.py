"""The command `preload`, and `stream` as it was called once."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from resender.cli import preload
from resender.config import Config
from resender.store import open_repository


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was printed, without the line that names the database."""
    lines = capsys.readouterr().out.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("(database "))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(database_url=f"sqlite:///{tmp_path / 'store.db'}", whitelist=("10.0.0.1",))


def run(config: Config, *words: str, command: str = "preload") -> int:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir")
    parser = argparse.ArgumentParser(prog="run.py", parents=[common])
    preload.add_parser(parser.add_subparsers(), common)
    arguments = parser.parse_args([command, *words])
    return int(arguments.run(config, arguments))


def test_rules_are_added_listed_and_removed(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "add", "UM", "*usdt,BTC*", "bookticker,1m") == 0
    assert said(capsys) == "um:*USDT,BTC*@1m,bookTicker is rule 1.\n"
    assert run(config, "add", "spot", "币USDT", "1s") == 0
    assert said(capsys) == "spot:币USDT@1s is rule 2.\n"
    assert run(config, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:31].rstrip() for line in lines] == ["1  um:*USDT,BTC*@1m,bookTicker", "2  spot:币USDT@1s"]
    assert all(line.endswith(" UTC") for line in lines)
    assert run(config, "remove", "1") == 0
    assert said(capsys) == "Rule 1 is removed: um:*USDT,BTC*@1m,bookTicker.\n"
    assert run(config, "remove", "2") == 0
    assert run(config, "list") == 0
    assert capsys.readouterr().out.endswith("There are no rules in the database.\n")


def test_rule_that_is_there_already_is_no_error(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "add", "um", "A,B", "1m")
    assert run(config, "add", "um", "b,a", "1m") == 0
    assert said(capsys).splitlines()[-1] == "um:A,B@1m was a rule already (rule 1)."


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("pm", "BTCUSDT", "1m"), "allowed are spot, um, cm"),
        (("um", "BTC[12]", "1m"), "character '['"),
        (("um", "BTCUSDT", "1s"), "um has no interval '1s'"),
        (("um", ",", "1m"), "no symbol"),
    ],
)
def test_bad_rule_is_one_line_on_standard_error_and_exit_2(
    config: Config, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert run(config, "add", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: preload rule '")
    assert text in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("number", ["1", "0", "-1", "99999999999999999999"])
def test_unknown_rule_is_one_line_on_standard_error_and_exit_1(
    config: Config, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert run(config, "remove", number) == 1
    assert capsys.readouterr().err == f"error: There is no preload rule {number}.\n"


@pytest.mark.parametrize("words", [(), ("remove",), ("remove", "one"), ("add", "um", "BTCUSDT"), ("show",)])
def test_wrong_use_is_exit_2(config: Config, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(config, *words)
    assert caught.value.code == 2


def test_first_use_of_a_database_seeds_its_whitelist(config: Config) -> None:
    run(config, "list")
    with open_repository(config.database) as repository:
        assert [entry.address for entry in repository.whitelist_list()] == ["10.0.0.1"]


def test_data_dir_may_follow_each_word(config: Config) -> None:
    assert run(config, "list", "--data-dir", "x") == 0
    assert run(config, "--data-dir", "x", "list") == 0


def test_old_word_stream_still_works(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "add", "spot", "BTCUSDT", "1m", command="stream") == 0
    assert said(capsys) == "spot:BTCUSDT@1m is rule 1.\n"
