"""Identifiers take the glossary's words: what is called an egress is called so everywhere."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Words docs/dev/glossary.md has another one for.
BANNED = {
    "way": "egress", "ways": "egresses", "lane": "egress", "lanes": "egresses",
    "flight": "call", "flights": "shared answers", "aside": "quarantine", "doubts": "suspect",
    "warm": "candle saving",
}  # fmt: skip
# Two words that are one: the trade's own "in flight", a gateway.
ALLOWED = re.compile(r"in_flight|in_?Flight")
FILES = [
    *sorted((ROOT / "resender").rglob("*.py")),
    *sorted((ROOT / "bench").glob("*.py")),
    *sorted((ROOT / "tools").glob("*.py")),
]


def words(identifier: str) -> list[str]:
    """Split an identifier: `_key_ways` into key and ways, `WarmFiles` into warm and files."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", ALLOWED.sub("", identifier))
    return [word for word in spaced.lower().split("_") if word]


def identifiers(path: Path) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_identifier_has_a_word_the_glossary_has_another_one_for(path: Path) -> None:
    found = {
        f"{name}: say {BANNED[word]}" for name in identifiers(path) for word in words(name) if word in BANNED
    }
    assert not found


def test_words_are_found_in_every_spelling() -> None:
    assert words("_key_ways") == ["key", "ways"]
    assert words("WarmFiles") == ["warm", "files"]
    assert words("in_flight") == words("max_in_flight")[1:] == []
    assert words("gateway") == ["gateway"]
