"""The kinds of alerts: each is known everywhere it is named, and none is told of a moment before it has passed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resender.core.alerts.kinds import KINDS, Kind, Level
from resender.core.alerts.words import LANGUAGES
from tests.support.alert_events import VALUES

I18N = Path(__file__).resolve().parents[4] / "admin_static" / "i18n"


def test_critical_is_graver_than_a_warning() -> None:
    assert Level.CRITICAL > Level.WARNING
    assert [level.word for level in Level] == ["warning", "critical"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_what_happens_at_one_moment_is_told_at_once(kind: Kind) -> None:
    assert kind.hold_s >= 0
    assert kind.has_end or kind.hold_s == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_name_of_a_kind_fits_the_table_and_labels(kind: Kind) -> None:
    assert KINDS[kind.name] is kind
    assert kind.name.isidentifier()
    assert kind.name.islower()
    assert len(kind.name) <= 32


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_has_a_name_for_every_kind_and_level(language: str) -> None:
    words = json.loads((I18N / f"{language}.json").read_text("utf-8"))
    wanted = {f"alerts.kind.{name}" for name in (*KINDS, "all")}
    assert {name for name in words if name.startswith("alerts.kind.")} == wanted
    levels = {f"alerts.{part}.{level.word}" for part in ("level", "least") for level in Level}
    assert levels <= words.keys()


def test_tests_know_the_values_of_every_kind() -> None:
    assert VALUES.keys() == KINDS.keys()
