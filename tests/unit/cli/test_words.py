"""What the command line says in Chinese, and that it is English elsewhere."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from resender.cli import words
from resender.cli.main import _parser, main


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "C", "LC_ALL": ""}, "en"),
    ],
)
def test_language_is_that_of_the_first_variable_that_is_set(environ: dict[str, str], language: str) -> None:
    assert words.language(environ) == language


def test_both_sides_have_the_same_holes() -> None:
    catalogue = json.loads(words.CATALOGUE.read_text("utf-8"))
    assert len(catalogue) > 200
    assert [text for text, said in catalogue.items() if text.count("{}") != said.count("{}")] == []
    assert list(catalogue) == sorted(catalogue)


def test_what_was_put_in_stays_and_what_is_unknown_stays_english(chinese: None) -> None:
    said = words.translated("203.0.113.5 may call.")
    assert "203.0.113.5" in said
    assert said != "203.0.113.5 may call."
    assert words.translated("Nobody has ever said this.") == "Nobody has ever said this."


def test_every_help_of_the_command_line_has_its_words(chinese: None) -> None:
    parser = _parser()
    english = parser.format_help()
    words.translate_parser(parser)
    shown = parser.format_help()
    assert shown != english
    assert "Who may call the gateway." not in shown


def test_command_speaks_chinese_where_the_locale_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    for locale, is_english in (("C", True), ("zh_CN.UTF-8", False)):
        monkeypatch.setenv("LC_ALL", locale)
        assert main(["whitelist", "add", "203.0.113.5"]) == 0
        assert main(["whitelist", "remove", "203.0.113.5"]) == 0
        told = capsys.readouterr().out
        assert ("203.0.113.5 may call." in told) is is_english
        assert "203.0.113.5" in told


def test_terminal_without_chinese_letters_gets_english(chinese: None) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    words.say("203.0.113.5 may call.", file=out)
    out.flush()
    assert raw.getvalue() == b"203.0.113.5 may call.\n"
