"""The words of alerts: every kind in both languages, with every value it names, whatever is in a value."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.alerts import words
from resender.core.alerts.board import Event
from resender.core.alerts.kinds import KINDS
from resender.core.alerts.words import LANGUAGES, message, sentence
from tests.support.alert_events import AT_MS, VALUES, event, over

BOTH = pytest.mark.parametrize("language", LANGUAGES)
EACH = pytest.mark.parametrize("kind", KINDS)


def named(text: str) -> set[str]:
    """Return the values a text names."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@EACH
def test_both_languages_name_all_values_of_a_kind_and_no_others(kind: str) -> None:
    assert len(words._TEXTS[kind]) == len(LANGUAGES)
    for text in words._TEXTS[kind]:
        assert named(text) == VALUES[kind].keys(), text


@BOTH
@EACH
def test_sentence_says_every_value(kind: str, language: str) -> None:
    text = sentence(event(kind), language)
    for value in VALUES[kind].values():
        assert str(value) in text
    assert not {"{", "}", "\n"} & set(text)
    assert text == text.strip()


@EACH
def test_each_language_has_words_of_its_own(kind: str) -> None:
    english, chinese = (sentence(event(kind), language) for language in LANGUAGES)
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in english)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


@BOTH
def test_no_two_kinds_say_the_same(language: str) -> None:
    assert len({sentence(event(kind), language) for kind in KINDS}) == len(KINDS)


@BOTH
@EACH
def test_end_says_that_it_is_over_and_what(kind: str, language: str) -> None:
    begin = event(kind)
    text = sentence(over(begin, 90), language)
    assert text.endswith(sentence(begin, language))
    assert text.startswith({"en": "Over after 90 s: ", "zh": "已恢复（持续 90 秒）："}[language])


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0, "0 s", "0 秒"),
        (119.9, "119 s", "119 秒"),
        (120, "2 min", "2 分钟"),
        (7199, "119 min", "119 分钟"),
        (7200, "2 h", "2 小时"),
        (300_000, "83 h", "83 小时"),
    ],
)
def test_time_it_lasted_is_told_in_a_unit_that_fits(seconds: float, english: str, chinese: str) -> None:
    assert f"after {english}:" in sentence(over(event("disk"), seconds), "en")
    assert f"持续 {chinese}）" in sentence(over(event("disk"), seconds), "zh")


@BOTH
@given(text=st.text(max_size=50))
def test_value_is_told_as_it_is_and_never_read_as_a_form(language: str, text: str) -> None:
    for odd in (text, "{0}", "{why.__class__}", "{", "%s"):
        assert odd in sentence(event("database", why=odd), language)


@BOTH
def test_value_that_is_missing_is_no_fault(language: str) -> None:
    assert "?" in sentence(Event(KINDS["banned"], "", {"egress": "own"}, AT_MS), language)


# --- a message ------------------------------------------------------------------------------------


@BOTH
def test_message_names_the_node_and_the_moment(language: str) -> None:
    title, text = message([event("banned")], "gw1", language)
    assert title == "🔴 Binance Resender · gw1"
    assert text == f"{sentence(event('banned'), language)}\n2026-09-21 14:13:20 UTC"


@pytest.mark.parametrize(
    ("events", "mark"),
    [
        ([event("disk")], "🟠"),
        ([event("disk"), event("banned")], "🔴"),
        ([over(event("banned"))], "🟢"),
        ([over(event("banned")), over(event("disk"))], "🟢"),
        ([over(event("banned")), event("banned", "other")], "🔴"),
    ],
)
def test_mark_of_a_message_is_that_of_the_gravest(events: list[Event], mark: str) -> None:
    assert message(events, "gw1", "en")[0].startswith(mark)


def test_warning_is_not_made_critical_by_what_is_over() -> None:
    assert message([over(event("banned")), event("disk")], "gw1", "en")[0].startswith("🟠")


@BOTH
def test_message_of_several_has_a_line_for_each_with_its_own_mark(language: str) -> None:
    events = [event("banned"), over(event("node")), event("disk")]
    _, text = message(events, "gw1", language)
    lines = text.splitlines()
    assert lines[:3] == [
        f"{mark} {sentence(each, language)}" for mark, each in zip("🔴🟢🟠", events, strict=True)
    ]
    assert len(lines) == 4


@BOTH
def test_very_many_are_counted(language: str) -> None:
    events = [event("key", f"digest {number}") for number in range(40)]
    lines = message(events, "gw1", language)[1].splitlines()
    assert len(lines) == 14
    assert lines[12] == {"en": "... and 28 more", "zh": "……另有 28 条"}[language]
    assert len(message(events[:12], "gw1", language)[1].splitlines()) == 13
