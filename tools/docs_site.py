"""Check the documentation as it was built: nothing from another host, no link inside that leads nowhere.

    python -m tools.docs_site site

It reads the files of the built site and opens no connection. Exit code 1 if something is wrong.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself; a link a reader may follow is no such thing.
_FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href", "xlink:href"),
}
# `<link>`s that only say something.
_SAID = {"canonical", "alternate", "next", "prev"}
_STYLE_URL = re.compile(r"""(?:url\(|@import\s+)\s*["']?((?:https?:)?//[^"')\s]+)""")


class _Page(HTMLParser):
    """What one page fetches, where it leads and what can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "link" and _SAID & set(values.get("rel", "").split()):
            return
        self.fetched += [values[name] for name in _FETCHED.get(tag, ()) if values.get(name)]
        self.fetched += _STYLE_URL.findall(values.get("style", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


def faults(site: Path) -> Iterator[str]:
    """Tell everything that is wrong with a built site."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} holds no page"
    for path, page in pages.items():
        name = path.relative_to(site)
        for target in page.fetched:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https") or parts.netloc:
                yield f"{name}: fetches {target}"
        if name.name == "404.html":  # its links are those of a site at the root of a host
            continue
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not found.is_file():
                yield f"{name}: no such page: {target}"
            elif parts.fragment and found in pages and unquote(parts.fragment) not in pages[found].ids:
                yield f"{name}: no such place: {target}"
    for path in sorted(site.rglob("*.css")):
        for target in _STYLE_URL.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)}: fetches {target}"


def main(argv: list[str]) -> int:
    """Check the folder named; return the exit code."""
    site = Path(argv[0] if argv else "site").resolve()
    wrong = list(faults(site))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
