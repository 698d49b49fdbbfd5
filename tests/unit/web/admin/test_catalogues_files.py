"""The files of the admin pages against each other: texts, scripts, templates, icons.

Only the files are read; how the pages look and work is the browser tests' business.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[4] / "admin_static"
TEMPLATES = sorted((STATIC / "templates").glob("*.html"))
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
STYLES = sorted((STATIC / "css").glob("*.css"))
PAGES = [path for path in TEMPLATES if "{% extends" in path.read_text("utf-8")]
PAGE_BYTES = 100_000
#: The name of the SVG language; nothing is ever fetched from it.
SVG = "http://www.w3.org/2000/svg"


def catalogue(language: str) -> dict[str, str]:
    def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), "a key comes twice"
        return dict(pairs)

    return json.loads((STATIC / "i18n" / f"{language}.json").read_text("utf-8"), object_pairs_hook=once)


EN, ZH = catalogue("en"), catalogue("zh")
#: What stands between two parts of a list may end with a space.
SEPARATORS = ("join", "comma")
SPACES = {key.partition(".")[0] for key in EN}


def sources() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in (*TEMPLATES, *SCRIPTS)}


def literals(text: str) -> set[str]:
    """Find every quoted text that looks like a key of a page, whether t() gets it directly or not."""
    found = re.findall(r"['\"]([a-z]+(?:\.[a-z0-9_]+)+)['\"]", text)
    return {
        name
        for name in found
        if name.partition(".")[0] in SPACES and not name.endswith((".js", ".html", ".py"))
    }


def prefixes(text: str) -> set[str]:
    """Find the beginnings of keys that are put together: `a.b_${x}` in scripts, 'a.' + x everywhere."""
    found = re.findall(r"`([a-z]+\.[a-z0-9_.]*)\$\{", text)
    found += re.findall(r"'([a-z]+\.[a-z0-9_.]*)'\s*\+", text)
    return {name for name in found if name.partition(".")[0] in SPACES}


PREFIXES = set().union(*(prefixes(text) for text in sources().values()))


def keys_of(name: str) -> set[str]:
    """Return the keys a literal stands for: itself, its two numbers, or the end of one put together."""
    candidates = {name, f"{name}.one", f"{name}.other"} | {prefix + name for prefix in PREFIXES}
    return candidates & EN.keys()


def test_both_languages_have_the_same_keys_in_order():
    assert list(EN) == list(ZH) == sorted(EN)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_text_is_empty_or_has_spaces_around(language):
    texts = catalogue(language)
    bad = [
        key
        for key, text in texts.items()
        if not text.strip() or (text != text.strip() and not key.endswith(SEPARATORS))
    ]
    assert bad == []


def test_both_languages_have_the_same_placeholders():
    def names(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    # A number in words ("one entry") may leave the number out.
    assert [key for key in EN if names(EN[key]) != names(ZH[key]) and not key.endswith(".one")] == []


def test_chinese_texts_are_chinese():
    latin_only = [key for key, text in ZH.items() if not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text)]
    assert [key for key in latin_only if re.search(r"[a-z]{4,} [a-z]{2,}", ZH[key])] == []


def test_counted_texts_have_both_numbers():
    counted = {key.rpartition(".")[0] for key in EN if key.endswith((".one", ".other"))}
    assert [key for key in counted if not {f"{key}.one", f"{key}.other"} <= EN.keys()] == []


@pytest.mark.parametrize("name", sorted(sources()))
def test_every_key_used_exists(name):
    text = sources()[name]
    assert sorted(key for key in literals(text) if not keys_of(key)) == []
    assert sorted(prefix for prefix in prefixes(text) if not any(key.startswith(prefix) for key in EN)) == []


def test_no_key_is_unused():
    used = {key for text in sources().values() for name in literals(text) for key in keys_of(name)}
    used |= {key for key in EN for prefix in PREFIXES if key.startswith(prefix)}
    assert sorted(EN.keys() - used) == []


def own_files(page: Path, *, later: bool = True) -> set[str]:
    """List our own css and js a page loads, imports of scripts included, those it makes `later` too."""
    opening = r"\(?" if later else ""
    base = (STATIC / "templates/base.html").read_text("utf-8")
    text = page.read_text("utf-8")
    own_scripts = "block scripts" in text
    if own_scripts:  # it takes the place of the one in the base
        base = re.sub(r"{% block scripts %}.*?{% end %}", "", base, flags=re.DOTALL)
    asked = set(re.findall(r"asset\('((?:js|css)/[\w.-]+\.(?:js|css))'\)", base + text))
    if not own_scripts:
        asked.add(f"js/{page.stem}.js")
    imports = rf"(?:from|import)\s*{opening}'\./([\w.-]+)'"
    todo = [name for name in asked if name.startswith("js/")]
    while todo:
        script = (STATIC / todo.pop()).read_text("utf-8")
        for imported in re.findall(imports, script):
            if f"js/{imported}" not in asked:
                asked.add(f"js/{imported}")
                todo.append(f"js/{imported}")
    return asked


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_loads_at_most_100_kb_of_our_own(page):
    sizes = {name: (STATIC / name).stat().st_size for name in own_files(page, later=False)}
    assert len(sizes) >= 4
    assert sum(sizes.values()) <= PAGE_BYTES, sizes


def test_every_script_and_style_is_loaded_by_a_page():
    loaded = set().union(*(own_files(page) for page in PAGES))
    assert {path.relative_to(STATIC).as_posix() for path in (*SCRIPTS, *STYLES)} == loaded


@pytest.mark.parametrize(
    "path", [*TEMPLATES, *SCRIPTS, *STYLES, *STATIC.glob("icons/*")], ids=lambda path: path.name
)
def test_nothing_comes_from_another_host(path):
    text = path.read_text("utf-8").replace(SVG, "")
    assert re.findall(r"(?:https?:|['\"(]//)[\w.]+", text) == []


class Tags(HTMLParser):
    """Collects the elements of a template, its own language taken out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(re.sub(r"{%.*?%}|{{.*?}}", "x", text, flags=re.DOTALL))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_obeys_the_content_security_policy(path):
    tags = Tags(path.read_text("utf-8")).tags
    assert [tag for tag, attrs in tags if tag == "style" or (tag == "script" and not attrs.get("src"))] == []
    assert [name for _, attrs in tags for name in attrs if name == "style" or name.startswith("on")] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_control_has_a_label(path):
    tags = Tags(path.read_text("utf-8")).tags
    labelled = {attrs.get("for") for tag, attrs in tags if tag == "label"}
    controls = [attrs for tag, attrs in tags if tag in ("input", "select", "textarea")]
    visible = [
        attrs for attrs in controls if attrs.get("type") != "hidden" and attrs.get("aria-hidden") != "true"
    ]
    assert [attrs for attrs in visible if attrs.get("id") not in labelled and "aria-label" not in attrs] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_ids_of_a_template_are_unique(path):
    ids = [attrs["id"] for _, attrs in Tags(path.read_text("utf-8")).tags if "id" in attrs]
    assert sorted(name for name in set(ids) if ids.count(name) > 1 and name != "x") == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_never_makes_html_of_text(path):
    text = path.read_text("utf-8")
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText"
        r"|setAttribute\('style'"
    )
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    assert re.findall(forbidden, code) == []
    assert not re.search(r"\bstyle:", code)


def test_every_icon_exists_and_is_used():
    drawn = set(re.findall(r'id="i-([\w-]+)"', (STATIC / "templates/icons.html").read_text("utf-8")))
    text = "\n".join(source for name, source in sources().items() if name != "icons.html")
    named = set(re.findall(r"#i-([\w-]+)", text))
    named |= set(re.findall(r"\b(?:icon|iconButton|stateBox)\('([\w-]+)'", text))
    named |= set(re.findall(r"\b(?:stateRow\([\w.]+, |symbol: )'([\w-]+)'", text))
    assert sorted(named - {"loading"} - drawn) == []
    quoted = set(re.findall(r"'([a-z-]+)'", text))
    assert sorted(drawn - named - quoted) == []
