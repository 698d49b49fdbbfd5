"""The documentation against the program: what one says, the other does, in both languages.

Only names, defaults, codes and links are compared; whether a sentence is true is not. The pages are
read as they stand, not as `tools/docs_tables.py` would write them: a fault there does not hide here.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import importlib
import inspect
import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from resender import __version__
from resender.cli.main import _parser
from resender.config import SETTINGS, Config
from resender.config_loading import ENVIRONMENT_PREFIX
from resender.core.binance.markets import MARKETS
from resender.core.binance.stream_urls import resolve_stream
from resender.core.market.requests import MISS_REASONS
from resender.errors import ANSWERS, RETRIED_BY_CLIENTS, AnswerError, RouteError
from resender.gateway import Gateway
from resender.market import PATHS
from resender.web.client.local_kinds import LOCAL_KINDS
from tools.docs_tables import generate, own_headers, parsed_sources

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
PAGES = tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
ENGLISH = tuple(name for name in PAGES if not name.endswith(".zh.md"))
#: Every text that is there in two languages.
PAIRS = (READMES, *((name, name.removesuffix(".md") + ".zh.md") for name in ENGLISH))
TEXTS = tuple(name for pair in PAIRS for name in pair)
METRICS_PAGE = "docs/reference/metrics.md"
LOCAL_PAGE = "docs/reference/local-api.md"
EMPTY = {"en": "empty", "zh": "空"}
#: Below /local, but no path of HTTP: a WebSocket.
LOCAL_SOCKETS = {"/local/{market}/closes"}


def module_with(function: str) -> Any:
    """Import the one module of the program that defines a function, wherever it lies."""
    start = re.compile(rf"^(?:async )?def {function}\(", re.MULTILINE)
    (path,) = [path for path in (ROOT / "resender").rglob("*.py") if start.search(path.read_text("utf-8"))]
    return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


web_market = module_with("answer_local")


def both(page: str) -> pytest.MarkDecorator:
    """Look at a page in both languages."""
    return pytest.mark.parametrize("name", [f"docs/{page}.md", f"docs/{page}.zh.md"])


each_language = pytest.mark.parametrize("language", ["en", "zh"])
each_text = pytest.mark.parametrize("name", TEXTS)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def everything(language: str) -> str:
    """Return the README and all pages of a language as one text."""
    return "\n\n".join(read(pair[language == "zh"]) for pair in PAIRS)


def split_text(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Part Markdown into its text and its code blocks (language, code)."""
    blocks: list[tuple[str, str]] = []

    def keep(found: re.Match[str]) -> str:
        blocks.append((found[1], found[2]))
        return ""

    return re.sub(r"^```(\w*)\n(.*?)^```$", keep, text, flags=re.DOTALL | re.MULTILINE), blocks


@cache
def split(name: str) -> tuple[str, list[tuple[str, str]]]:
    return split_text(read(name))


def headings(name: str) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", split(name)[0], re.MULTILINE)
    return [(len(marks), title.strip()) for marks, title in found]


def cells(line: str) -> list[str]:
    """Part a row of a table; a bar in a cell is written `\\|`."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def table(name: str, first_cell: str) -> list[list[str]]:
    """Return the rows of all tables whose first cells match, as lists of cells."""
    rows = [cells(line) for line in split(name)[0].splitlines() if line.startswith("|")]
    return [row for row in rows if re.fullmatch(first_cell, row[0])]


# --- settings ----------------------------------------------------------------------------------


def shown_default(name: str, value: Any) -> str:
    if value in ("", ()):
        return EMPTY["zh" if name.endswith(".zh.md") else "en"]
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@both("reference/settings")
def test_settings_table_has_every_setting_with_its_default(name: str) -> None:
    told = {row[0].strip("`"): row[1] for row in table(name, "`[A-Z][A-Z_]+`")}
    assert told == {setting.name: shown_default(name, setting.default) for setting in SETTINGS.values()}


@both("reference/settings")
def test_settings_table_explains_every_setting_once(name: str) -> None:
    rows = table(name, "`[A-Z][A-Z_]+`")
    assert len(rows) == len(SETTINGS)
    assert [row[0] for row in rows if len(row) != 4 or not all(row)] == []


@pytest.mark.parametrize(
    "path", [*TEXTS, *sorted(p.relative_to(ROOT) for p in ROOT.glob("deploy/**/*") if p.is_file())], ids=str
)
def test_every_environment_name_is_a_setting(path: str | Path) -> None:
    told = set(re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z][A-Z_]+)", read(str(path))))
    assert told <= set(SETTINGS)


# --- error answers -----------------------------------------------------------------------------


@both("reference/errors")
def test_error_table_has_every_answer_of_ours(name: str) -> None:
    told = [(int(row[0]), int(row[1]), row[2].strip("`")) for row in table(name, r"\d{3}") if len(row) == 5]
    assert sorted(told) == sorted((a.status, a.code, a.name) for a in ANSWERS.values())
    assert all(all(row) for row in table(name, r"\d{3}"))


@both("reference/errors")
def test_codes_that_libraries_repeat_are_named(name: str) -> None:
    # The Chinese comma differs, the order does not.
    told = re.findall(r"[(（]((?:-\d{4}(?:, |、)?){2,})[)）]", split(name)[0])
    assert [{int(code) for code in re.findall(r"-\d{4}", found)} for found in told] == [RETRIED_BY_CLIENTS]


# --- metrics -----------------------------------------------------------------------------------


@cache
def exposed_metrics() -> set[str]:
    text = Gateway(Config()).metrics.render().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    # When a counter was made; the client library adds it, nobody needs it explained.
    return {name for name in names if not name.endswith("_created")}


@both("reference/metrics")
def test_metrics_table_has_every_metric(name: str) -> None:
    told = [row[0].strip("`") for row in table(name, "`resender_[a-z_]+`")]
    assert sorted(told) == sorted(exposed_metrics())


@each_language
def test_every_metric_named_in_the_text_exists(language: str) -> None:
    no_metric = {"resender_session"}  # a cookie
    assert set(re.findall(r"`(resender_[a-z_]+)", everything(language))) - no_metric <= exposed_metrics()


def test_grafana_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text("utf-8"))
    labels = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table(METRICS_PAGE, "`resender_.*`")
    }
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            names = {name.removesuffix("_bucket") for name in re.findall(r"resender_[a-z_]+", target["expr"])}
            assert names, panel["title"]
            asked |= names
            known = {"le", "instance"}.union(*(labels[name] for name in names))
            words = re.findall(r"by \(([^)]*)\)", target["expr"])
            used = {label.strip() for word in words for label in word.split(",")}
            used |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= known, (panel["title"], used - known)
    assert asked <= exposed_metrics()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


# --- command line ------------------------------------------------------------------------------


def known_commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """List what can be typed: `()` for no command, `("whitelist", "add")`, `("log", "on")`."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    choices = [a for a in parser._actions if not a.option_strings and a not in below and a.choices]
    if not any(action.required for action in below) and not choices:
        yield words
    for action in below:
        parsers = {id(sub): word for word, sub in reversed(action.choices.items())}  # without aliases
        for word, sub in action.choices.items():
            if parsers[id(sub)] == word:
                yield from known_commands(sub, (*words, word))
    for action in choices:
        for word in action.choices or ():
            yield (*words, str(word))


def told_commands(name: str) -> list[tuple[str, ...]]:
    rows = [row[0].strip("`").split() for row in table(name, r"`python run\.py.*`")]
    return [tuple(word for word in row[2:] if re.fullmatch("[a-z][a-z-]*", word)) for row in rows]


#: A command in prose or a shell block, however the program is called there.
_CALLED = re.compile(r"(?:\brun\.py|(?<![\w/.-])resender)((?: [a-z][a-z-]*)+)")


@both("reference/cli")
def test_command_table_has_every_command(name: str) -> None:
    assert set(told_commands(name)) == set(known_commands(_parser()))


@both("reference/cli")
def test_every_option_of_the_command_line_is_named(name: str) -> None:
    def options(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from (option for option in action.option_strings if option.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield from options(sub)

    told = set(re.findall(r"--[a-z][a-z-]+", split(name)[0]))
    assert set(options(_parser())) <= told


@each_text
def test_every_command_shown_in_code_exists(name: str) -> None:
    known = {words[:length] for words in known_commands(_parser()) for length in range(len(words) + 1)}
    text, blocks = split(name)
    shown = [code for kind, code in blocks if kind == "bash"]
    shown += [
        code for code in re.findall(r"`([^`]+)`", text) if code.startswith(("resender ", "python run.py"))
    ]
    wrong = []
    for called in (found for code in shown for found in _CALLED.findall(re.sub(r"#.*", "", code))):
        words = tuple(called.split())
        if not any(words[:length] in known for length in (1, 2) if length <= len(words)):
            wrong.append(words)
    assert wrong == []


# --- addresses ---------------------------------------------------------------------------------


@both("clients/index")
def test_address_table_has_every_prefix_and_root(name: str) -> None:
    told = set()
    for row in table(name, r"`/[a-z]+/[a-z]+/.*`"):
        _, prefix, root, *_ = row[0].strip("`").split("/")
        told.add((prefix, root, row[2].strip("`"), row[3].strip("`")))
    wanted = set()
    for facts in MARKETS:
        host = facts.rest_default.removeprefix("https://")
        wanted |= {(facts.prefix, root, host, facts.rest_setting) for root in facts.roots}
    assert told == wanted


# --- market data from memory -------------------------------------------------------------------


def literal_texts(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts an expression can be, as far as they are written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literal_texts(node.body)
        yield from literal_texts(node.orelse)


def local_endpoints() -> set[str]:
    """Read from the dispatcher every path below /local that it compares with."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(web_market.answer_local))):
        if not isinstance(node, ast.Compare):
            continue
        for part in (inner for side in (node.left, *node.comparators) for inner in ast.walk(side)):
            if isinstance(part, ast.Name) and part.id.isupper():
                part = ast.Constant(getattr(web_market, part.id))
            found |= set(literal_texts(part))
    found |= set(LOCAL_KINDS)
    return {path if path.startswith("/") else f"/local/{{market}}/{path}" for path in found} | LOCAL_SOCKETS


def has_endpoint(path: str, market: str) -> bool:
    """Tell whether a market has an endpoint; some are there for one or two of them only."""
    kind = LOCAL_KINDS.get(path.rpartition("/")[2])
    return kind is None or market in {each.value for each in kind.paths}


def told_endpoints(name: str) -> set[str]:
    return {row[0].strip("`") for row in table(name, "`/local/.*`")}


def test_the_program_is_read_right() -> None:
    # If the sources change their form, the tests below must not pass by finding nothing.
    assert {"/local/status", "/local/{market}/klines", "/local/{market}/depth"} <= local_endpoints()


@both("reference/headers-and-miss-reasons")
def test_table_of_reasons_has_every_reason_of_a_miss(name: str) -> None:
    told = [row[0].strip("`") for row in table(name, "`[a-z][a-z -]+`") if len(row) == 3]
    assert sorted(told) == sorted(MISS_REASONS)


@each_language
def test_no_reason_is_told_that_does_not_exist(language: str) -> None:
    # Every text after "miss; " but the placeholder, and the table.
    told = set(re.findall(r"miss; ([a-z][a-z -]+)`", everything(language))) - {"reason"}
    page = "docs/reference/headers-and-miss-reasons" + (".zh.md" if language == "zh" else ".md")
    told |= {row[0].strip("`") for row in table(page, "`[a-z][a-z -]+`")}
    assert told - set(MISS_REASONS) == set()


@both("reference/local-api")
def test_every_local_endpoint_is_told_and_exists(name: str) -> None:
    assert told_endpoints(name) == local_endpoints()


@pytest.mark.parametrize("path", sorted(LOCAL_SOCKETS))
@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_every_local_websocket_told_is_one(path: str, market: str) -> None:
    route = resolve_stream(path.replace("{market}", market))
    assert (route.what, route.market.value) == (path.rpartition("/")[2], market)


@pytest.mark.parametrize("path", sorted(told_endpoints(LOCAL_PAGE) - LOCAL_SOCKETS))
@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_every_local_endpoint_told_is_answered(path: str, market: str, tmp_path: Path) -> None:
    async def ask() -> None:
        gateway = Gateway(Config(data_dir=str(tmp_path)))
        try:
            await web_market.answer_local(
                gateway.services, path.replace("{market}", market), "", packed=False
            )
        except RouteError:
            assert not has_endpoint(path, market)
        except AnswerError:
            pass  # without parameters it refuses, but it is there

    asyncio.run(ask())


@each_language
def test_every_address_below_local_in_the_code_is_an_endpoint(language: str) -> None:
    shown = {
        re.sub(r"^/local/(spot|um|cm)/", "/local/{market}/", path)
        for _, code in split_text(everything(language))[1]
        for path in re.findall(r"(?<!usr)/local/[\w/]+", code)
    }
    assert shown <= local_endpoints()
    assert shown


@each_language
def test_every_header_of_ours_is_told(language: str) -> None:
    headers = own_headers()
    assert {"X-Resender-Cache", "X-Resender-Error"} <= headers
    told = set(re.findall(r"X-Resender-[A-Za-z]+", everything(language)))
    assert told == headers
    page = "docs/reference/headers-and-miss-reasons" + (".zh.md" if language == "zh" else ".md")
    assert headers <= {row[0].strip("`") for row in table(page, "`X-Resender-.*`")}


@both("use/market-data")
def test_every_path_answered_from_memory_is_told(name: str) -> None:
    rows = table(name, "`/(api/v|fapi/v|dapi/v|futures/).*")
    told = {path for row in rows for path in re.findall(r"`(/[^`]+)`", row[0])}
    assert told == set(PATHS)


def shapes() -> set[frozenset[str]]:
    """Read from the program the keys of every dict that is written out, and the fields of every class.

    What a dict takes in with `**` is one of its module's others.
    """
    found: set[frozenset[str]] = set()
    for module in parsed_sources():
        dicts = [node for node in ast.walk(module) if isinstance(node, ast.Dict)]
        keys = {node: frozenset(text for key in node.keys for text in literal_texts(key)) for node in dicts}
        found |= set(keys.values())
        found |= {keys[node] | other for node in dicts if None in node.keys for other in keys.values()}
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                fields = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
                found.add(frozenset(field.id for field in fields if isinstance(field, ast.Name)))
    return found


@pytest.mark.parametrize(
    ("page", "word"), [("local-api", '"backfill"'), ("admin-api", '"uptime_s"'), ("admin-api", '"idle_s"')]
)
def test_examples_of_status_have_the_fields_of_the_program(page: str, word: str) -> None:
    def rows(value: Any) -> Iterator[frozenset[str]]:
        if isinstance(value, list):
            for item in value:
                yield from rows(item)
        elif isinstance(value, dict):
            yield frozenset(value)
            for key, item in value.items():
                if key not in counted:
                    yield from rows(item)

    counted = {"misses", "miss_reasons", "saved_today", "states"}  # by whatever there is
    (example,) = [
        code for kind, code in split(f"docs/reference/{page}.md")[1] if kind == "json" and word in code
    ]
    known = shapes()
    assert [sorted(row) for row in rows(json.loads(example)) if row not in known] == []


# --- generated tables --------------------------------------------------------------------------


def test_tables_that_repeat_the_program_are_current() -> None:
    # Not so? `make docs-tables` writes them; a sentence that is missing goes into tools/docs_texts.*.json.
    pages, wrong = generate()
    assert wrong == []
    assert [str(path) for path, text in pages.items() if text != path.read_text("utf-8")] == []


# --- the two languages, links, version ---------------------------------------------------------


def test_every_page_is_there_in_both_languages() -> None:
    assert [chinese for _, chinese in PAIRS if not (ROOT / chinese).is_file()] == []
    assert set(PAGES) == {name for pair in PAIRS[1:] for name in pair}


@each_pair
def test_both_languages_have_the_same_sections(pair: tuple[str, str]) -> None:
    english, chinese = ([level for level, _ in headings(name)] for name in pair)
    assert english == chinese
    assert english.count(1) == 1


@each_pair
def test_both_languages_show_the_same_code(pair: tuple[str, str]) -> None:
    def code(name: str) -> list[tuple[str, str]]:
        # Comments of shell commands are translated; a block without a language is a picture or a list.
        return [
            (language, re.sub(r"[ \t]*#.*", "", text) if language == "bash" else text)
            for language, text in split(name)[1]
            if language
        ]

    english, chinese = (code(name) for name in pair)
    assert english == chinese
    assert len(split(pair[0])[1]) == len(split(pair[1])[1])


@each_pair
def test_tables_of_both_languages_have_the_same_shape(pair: tuple[str, str]) -> None:
    def shapes(name: str) -> list[int]:
        # 0 between tables, else the number of cells.
        return [len(cells(line)) if line.startswith("|") else 0 for line in split(name)[0].splitlines()]

    english, chinese = ([n for n in shapes(name) if n] for name in pair)
    assert english == chinese


@each_pair
def test_both_languages_name_the_same_things(pair: tuple[str, str]) -> None:
    def names(name: str) -> set[str]:
        text = split(name)[0]
        return {
            *re.findall(r"`((?:[A-Z]+_)+[A-Z]+)`", text),  # settings
            *re.findall(r"`(/[a-z]+/[^`\s]*)`", text),  # paths
            *re.findall(r"`(resender_[a-z_]+)", text),  # metrics
            *re.findall(r"`(X-[A-Za-z0-9-]+)", text),  # headers
        }

    english, chinese = (names(name) for name in pair)
    assert english ^ chinese == set()


#: Words the glossary has another one for; pages of old versions and the glossary itself may know them.
_OLD_WORDS = re.compile(
    r"\bways? out\b(?! to Binance)|\bmarket lines?\b|\bset aside\b|`stream (?:list|add|remove)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "name", [READMES[0], *(n for n in ENGLISH if not n.endswith(("glossary.md", "changelog.md")))]
)
def test_pages_use_the_words_of_the_glossary(name: str) -> None:
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", split(name)[0], flags=re.DOTALL)
    assert _OLD_WORDS.findall(text) == []


def anchor(title: str) -> str:
    """Return the link target a heading gets: letters and digits stay, blanks become hyphens."""
    title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    kept = [c for c in title.lower() if c in " -_" or unicodedata.category(c)[0] in "LN"]
    return "".join(kept).replace(" ", "-")


@cache
def anchors(name: str) -> frozenset[str]:
    return frozenset(anchor(title) for _, title in headings(name))


def links(name: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", split(name)[0]))
    return [target for target in found if "://" not in target and not target.startswith("mailto:")]


@pytest.mark.parametrize("name", [*TEXTS, "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"])
def test_relative_links_lead_somewhere(name: str) -> None:
    dead = []
    for target in links(name):
        path, _, fragment = target.partition("#")
        found = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        is_there = found.exists() and found.is_relative_to(ROOT)
        if is_there and fragment and found.suffix == ".md":
            is_there = fragment in anchors(str(found.relative_to(ROOT)))
        if not is_there:
            dead.append(target)
    assert dead == []


@each_text
def test_links_stay_in_their_language(name: str) -> None:
    is_chinese = name.endswith((".zh.md", ".zh-CN.md"))
    others = [
        target
        for target in links(name)
        if ("docs/" in target or name.startswith("docs/"))
        and target.partition("#")[0].endswith(".md")
        and (ROOT / name).parent.joinpath(target.partition("#")[0]).resolve().is_relative_to(ROOT / "docs")
        and target.partition("#")[0].endswith(".zh.md") is not is_chinese
    ]
    assert others == []


@pytest.mark.parametrize("index", [0, 1])
def test_readmes_link_each_other_and_every_room_of_the_documentation(index: int) -> None:
    name = READMES[index]
    found = {target.partition("#")[0] for target in links(name)}
    assert READMES[1 - index] in found
    assert len(read(name).splitlines()) <= 140
    # Decisions have an index of their own, the front page is the README's twin.
    wanted = {
        pair[index] for pair in PAIRS[1:] if not re.search(r"/\d{4}-|docs/(index|changelog)\.", pair[0])
    }
    assert wanted <= found


@pytest.mark.parametrize("name", [name for name in TEXTS if name.startswith("docs/dev/")])
def test_every_module_named_in_the_pages_for_developers_exists(name: str) -> None:
    shown = set(re.findall(r"`((?:[\w.-]+/)*[\w-]+\.py|(?:[a-z_-]+/)+)`", split(name)[0]))
    folders = [ROOT / top for top in ("resender", "tests", "tools", "bench", "deploy")]
    files = [str(path.relative_to(ROOT)) for folder in folders for path in folder.rglob("*")]
    files += [path.name for path in ROOT.iterdir()]

    def is_there(path: str) -> bool:
        return any(f"/{file}".endswith(f"/{path.rstrip('/')}") for file in files)

    assert [path for path in sorted(shown) if not is_there(path)] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    shown = set(re.findall(r"[\w/-]+\.md", read("mkdocs.yml").partition("\nnav:")[2]))
    assert {f"docs/{page}" for page in shown} == set(ENGLISH)


def test_changelog_names_the_current_version_first() -> None:
    versions = [title for level, title in headings("CHANGELOG.md") if level == 2]
    assert next(title for title in versions if title != "Unreleased").split()[0] == __version__
    assert "Unreleased" not in versions[1:]


# --- deployment --------------------------------------------------------------------------------


def test_service_waits_longer_than_the_shutdown_of_the_gateway() -> None:
    found = re.search(r"^TimeoutStopSec=(\d+)$", read("deploy/binance-resender.service"), re.MULTILINE)
    assert found is not None
    # Calls in flight first, then up to 20 s for the database (store/service.py).
    assert int(found[1]) > Config().shutdown_s + 20


def test_reverse_proxy_waits_longer_than_the_gateway() -> None:
    for path in ("deploy/nginx.conf", "deploy/Caddyfile"):
        found = re.search(
            r"^\s*(?:proxy_read_timeout|response_header_timeout) (\d+)s;?$", read(path), re.MULTILINE
        )
        assert found is not None, path
        assert int(found[1]) > Config().total_timeout_s, path
