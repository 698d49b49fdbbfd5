"""Hooks of MkDocs: what its configuration alone cannot say.

- A link to a file of the repository outside docs/ leads somewhere in a checkout but not on the site:
  there its text stays, as code.
- `<!-- include: FILE -->` is replaced by a file of the repository's root without its title.
- The other language of a page is named by a relative link, so that the site works in any folder.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_HOME = {"en": "", "zh": "zh/"}
_NAMES = {"en": "English", "zh": "简体中文"}
_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)\s#]+)(?:#[^)\s]*)?\)")
_INCLUDE = re.compile(r"<!-- include: ([\w.-]+) -->")
_FENCE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def _included(name: str, page: str) -> str:
    text = (ROOT / name).read_text("utf-8").partition("\n")[2]
    up = "../" * page.count("/")
    # Links are written for the repository's root and for English pages.
    text = re.sub(r"\]\(docs/", f"]({up}", text)
    return (
        re.sub(r"\]\(([^)#:]+)\.md(?:#[^)]*)?\)", r"](\1.zh.md)", text) if page.endswith(".zh.md") else text
    )


def _outside(found: re.Match[str], page: str) -> str:
    target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), found[2]))
    if target.startswith("docs/"):
        return found[0]
    text = found[1].strip("`")
    return f"`{text}`" if "/" in text or "." in text else text


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite a page's text before it is rendered."""
    name = page.file.src_uri
    markdown = _INCLUDE.sub(lambda found: _included(found[1], name), markdown)
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda found: _outside(found, name), part) for part in parts[::2]]
    return "".join(parts)


def on_pre_template(template: Any, template_name: str, config: Any) -> Any:
    """Name the languages on pages that are no page of ours, such as 404."""
    config.extra["alternate"] = [
        {"name": _NAMES[language], "lang": language, "link": f"{home}index.html"}
        for language, home in _HOME.items()
    ]
    return template


def on_page_context(context: dict[str, Any], page: Any, config: Any, nav: Any) -> dict[str, Any]:
    """Offer each page in the other language."""
    url = page.url.removeprefix(_HOME["zh"]) or "index.html"
    here = posixpath.dirname(page.url)
    config.extra["alternate"] = [
        {"name": _NAMES[language], "lang": language, "link": posixpath.relpath(home + url, here or ".")}
        for language, home in _HOME.items()
    ]
    return context
