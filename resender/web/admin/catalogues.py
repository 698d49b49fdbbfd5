"""The texts of the pages: one flat catalogue for each language.

The scripts read the same files. A `Catalogue` never changes.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

logger = logging.getLogger("resender.admin")

LANGUAGES = ("en", "zh")


class Catalogue:
    """The texts of one language."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def text(self, key: str, **values: object) -> str:
        """Return the text of a key, the key itself if there is none; `{name}` is replaced."""
        text = self.texts.get(key, key)
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


def load_catalogues(folder: Path) -> dict[str, Catalogue]:
    """Read `en.json` and `zh.json`; a file that cannot be read leaves its keys to be seen."""
    found = {}
    for language in LANGUAGES:
        texts: dict[str, str] = {}
        try:
            texts = json.loads((folder / f"{language}.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            logger.error("the texts of the admin pages in %s cannot be read: %s", language, error)
        found[language] = Catalogue(texts)
    return found
