"""The texts of one language: looked up by key, with values put in."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from resender.web.admin.catalogues import LANGUAGES, Catalogue, load_catalogues


def test_text_is_found_by_its_key_and_a_key_without_one_is_shown_itself() -> None:
    catalogue = Catalogue({"a.b": "Hello"})
    assert catalogue.text("a.b") == "Hello"
    assert catalogue.text("a.c") == "a.c"


def test_values_take_the_place_of_their_names_wherever_they_stand() -> None:
    catalogue = Catalogue({"a": "{n} of {most}, {n} left {other}"})
    assert catalogue.text("a", n=3, most="ten") == "3 of ten, 3 left {other}"


def test_braces_in_a_text_are_no_format() -> None:
    assert Catalogue({"a": "{0.__class__} {n!r} {"}).text("a", n=1) == "{0.__class__} {n!r} {"


def test_every_language_is_read(tmp_path: Path) -> None:
    for language in LANGUAGES:
        (tmp_path / f"{language}.json").write_text(json.dumps({"a": f"币 {language}"}), "utf-8")
    found = load_catalogues(tmp_path)
    assert {language: found[language].text("a") for language in LANGUAGES} == {
        language: f"币 {language}" for language in LANGUAGES
    }


def test_file_that_cannot_be_read_leaves_its_keys_to_be_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "en.json").write_text("{")
    with caplog.at_level(logging.ERROR, "resender.admin"):
        found = load_catalogues(tmp_path)
    assert [found[language].text("a.b") for language in LANGUAGES] == ["a.b"] * len(LANGUAGES)
    assert len(caplog.records) == len(LANGUAGES)
