"""What the CHANGELOG says needs the owner's attention, read between two versions.

Shape of the file: `## VERSION (date)` or `## Unreleased`, below it `### Needs your attention` with a list. No state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from resender.places import PACKAGE, ROOT

_VERSION = re.compile(r"## (?:\[?(\d+\.\d+\.\d+)\]?.*|Unreleased.*)")
_HEADING = "### Needs your attention"
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True, slots=True)
class Change:
    """One item of a list. Shape: `version` as its heading says, `text` without marks of Markdown."""

    version: str
    text: str


def needs_attention(since: str | None, path: Path | None = None) -> list[Change] | None:
    """Return what needs attention in versions after `since`, the newest first; None if there is no CHANGELOG.

    Shape: without `since` everything.
    """
    if path is None:
        path = next(
            (each for each in (ROOT / "CHANGELOG.md", PACKAGE / "CHANGELOG.md") if each.is_file()), None
        )
    if path is None:
        return None
    found: list[Change] = []
    version, is_wanted = "", False
    for line in path.read_text("utf-8").splitlines():
        if heading := _VERSION.fullmatch(line):
            number = heading.group(1)
            version, is_wanted = number or "Unreleased", False
            if number is not None and since is not None and _order(number) <= _order(since):
                break
        elif line.startswith("### "):
            is_wanted = line.strip() == _HEADING
        elif is_wanted and line.startswith("- "):
            found.append(Change(version, _plain(line[2:])))
        elif is_wanted and line.startswith("  ") and found:
            found[-1] = Change(version, f"{found[-1].text} {_plain(line.strip())}")
    return found


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "")
