"""Rows of alerts: what is kept as text is read as it was meant, and whatever stands there is no fault."""

from __future__ import annotations

from typing import Any

import pytest

from resender.errors import ResenderError
from resender.store import AlertChannelRow, AlertEventRow, AlertSetup, DuplicateChannel, UnknownChannel


def channel(shown: str = "{}", sealed: str = "gAAAAsealed") -> AlertChannelRow:
    return AlertChannelRow(
        3, "Mine", "slack", sealed, shown, "en", "warning", "", enabled=True, created_ms=77
    )


def written(details: str, told: str) -> AlertEventRow:
    return AlertEventRow(1, 77, "gw1", "banned", "own", "critical", None, details, told)


def test_texts_are_read_as_objects() -> None:
    assert channel('{"url":"hooks.example"}').shown == {"url": "hooks.example"}
    row = written('{"egress":"own","seconds":9}', '{"One":"ok"}')
    assert (row.details, row.told) == ({"egress": "own", "seconds": 9}, {"One": "ok"})


@pytest.mark.parametrize("text", ["", "no json", "[1]", "null", "7", '"x"', '{"a":'])
def test_text_that_is_no_object_is_an_empty_one(text: str) -> None:
    assert channel(text).shown == {}
    row = written(text, text)
    assert (row.details, row.told) == ({}, {})


def test_row_does_not_show_what_is_sealed() -> None:
    assert "gAAAAsealed" not in repr(channel())
    assert "gAAAAsealed" not in repr(AlertSetup((channel(),)))


def test_setup_of_nothing_has_no_channels_and_no_silence() -> None:
    assert (AlertSetup().channels, dict(AlertSetup().silences)) == ((), {})


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (DuplicateChannel(channel()), ValueError, "There is a channel Mine already."),
        (UnknownChannel(9), LookupError, "There is no alert channel 9."),
        (UnknownChannel("x" * 500), LookupError, f"There is no alert channel {'x' * 64}."),
    ],
)
def test_what_can_be_wrong_is_one_line(error: Exception, kind: Any, words: str) -> None:
    assert isinstance(error, ResenderError)
    assert isinstance(error, kind)
    assert str(error) == words
