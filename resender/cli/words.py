"""What the command line says, in Chinese where the locale is.

A text is written once, in English, where it is said or raised; the catalogue `words.zh.json` knows it by its shape:
`{}` stands for whatever was put in, in the same order. What the catalogue does not know is said in English. The
process log stays English: programs read it. No state but the catalogue, read when it is first needed.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

CATALOGUE = Path(__file__).with_name("words.zh.json")
_HOLE = "{}"
_SAMPLE = "错误：，。"


def language(environ: Mapping[str, str] = os.environ) -> str:
    """Return `zh` or `en`, by the first of the locale's variables that is set. Source: locale(7)."""
    found = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "zh" if found.lower().startswith("zh") and _has_letters() else "en"


def _has_letters() -> bool:
    """Tell whether Chinese can be written where answers go."""
    try:
        _SAMPLE.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def translated(text: str) -> str:
    """Return a text in the language of the locale; of several lines each by itself."""
    if language() != "zh":
        return text
    if "\n" in text and text not in _whole():
        return "\n".join(translated(line) for line in text.split("\n"))
    body = text.strip()
    found = _whole().get(body) or _fitted(body)
    return text if found is None else text.replace(body, found, 1)


def say(*values: object, end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print, in the language of the locale."""
    text = translated(" ".join(str(value) for value in values))
    out = file or sys.stdout
    try:
        print(text, end=end, file=out, flush=flush)
    except UnicodeEncodeError:  # a terminal that has no Chinese letters
        print(" ".join(str(value) for value in values), end=end, file=out, flush=flush)


def translate_parser(parser: argparse.ArgumentParser) -> None:
    """Put all helps of a command line into the language of the locale."""
    if language() != "zh":
        return
    seen: set[int] = set()

    def walk(one: Any) -> None:
        if id(one) in seen:
            return
        seen.add(id(one))
        one.description = one.description and translated(one.description)
        one.epilog = one.epilog and translated(one.epilog)
        for group in one._action_groups:
            group.title = group.title and translated(group.title)
        for action in one._actions:
            if action.help and action.help is not argparse.SUPPRESS and id(action) not in seen:
                seen.add(id(action))
                action.help = translated(action.help)
            if isinstance(action, argparse._SubParsersAction):
                for choice in action._choices_actions:
                    choice.help = choice.help and translated(choice.help)
                for below in action.choices.values():
                    walk(below)

    walk(parser)


@functools.cache
def _whole() -> dict[str, str]:
    """Read the texts without holes."""
    return {text: words for text, words in _read().items() if _HOLE not in text}


@functools.cache
def _shapes() -> list[tuple[list[str], str]]:
    """Read the texts with holes, the longest first: it says most. Shape: what stands around the holes."""
    longest = sorted(_read().items(), key=lambda item: -len(item[0]))
    return [(text.split(_HOLE), words) for text, words in longest if _HOLE in text]


def _fitted(text: str) -> str | None:
    for parts, words in _shapes():
        if not (text.startswith(parts[0]) and text.endswith(parts[-1])):
            continue
        if found := re.fullmatch("(.*?)".join(map(re.escape, parts)), text, re.DOTALL):
            # What was put in may be a text of the catalogue itself: an error inside of another one.
            return words.format(*(_whole().get(part) or _fitted(part) or part for part in found.groups()))
    return None


@functools.cache
def _read() -> dict[str, str]:
    try:
        found = json.loads(CATALOGUE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(text): str(words) for text, words in found.items()}
