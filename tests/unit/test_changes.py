"""What needs attention between two versions, out of the CHANGELOG."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.changes import Change, needs_attention

TEXT = """# Changelog

## Unreleased

### Needs your attention

- **Install the unit anew**: see [Update](docs/start/install.md#update),
  and `systemctl daemon-reload`.

### New

- Something pleasant.

## 0.10.0 (2026-11-22)

### Needs your attention

- The port is another one.

## 0.9.0 (2026-11-21)

### New

- The first version.
"""


@pytest.fixture
def changelog(tmp_path: Path) -> Path:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(TEXT, "utf-8")
    return path


def test_only_what_is_newer_is_told_in_plain_words(changelog: Path) -> None:
    first = Change("Unreleased", "Install the unit anew: see Update, and systemctl daemon-reload.")
    port = Change("0.10.0", "The port is another one.")
    assert needs_attention("0.10.0", changelog) == [first]
    assert needs_attention("0.9.0", changelog) == [first, port], "versions are numbers: 0.9 is before 0.10"
    assert needs_attention(None, changelog) == [first, port]


def test_file_that_is_not_there_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Nothing of the kind\n\n- a list\n")
    assert needs_attention("0.1.0", tmp_path / "other.md") == []
    assert needs_attention("0.2.0") is not None, "a checkout has one"


def test_own_changelog_has_something_to_tell_to_whoever_comes_from_the_first_version() -> None:
    found = needs_attention("0.1.0")
    assert found
    assert {change.version for change in found} >= {"Unreleased", "0.2.0"}
    assert not [change for change in found if "](" in change.text or "**" in change.text]
