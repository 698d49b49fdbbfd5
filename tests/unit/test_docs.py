"""The documentation against the program: what one says, the other does, in both languages.

Only names, defaults, codes and links are compared; whether a sentence is true is not.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import inspect
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resender import __version__
from resender.cli.main import _parser
from resender.config import ENVIRONMENT_PREFIX, SETTINGS, Config
from resender.core.binance.markets import MARKETS
from resender.core.egress.governor import Governor
from resender.core.market.requests import BOOK_TICKER_PATHS, KLINE_PATHS
from resender.errors import ANSWERS, RETRIED_BY_CLIENTS, AnswerError, RouteError
from resender.gateway import Gateway
from resender.web.client import cached as web_market

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
EMPTY = {"README.md": "empty", "README.zh-CN.md": "空"}

each_readme = pytest.mark.parametrize("name", READMES)


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def split(name: str) -> tuple[str, list[tuple[str, str]]]:
    """Part a Markdown file into its text and its code blocks (language, code)."""
    blocks: list[tuple[str, str]] = []

    def keep(found: re.Match[str]) -> str:
        blocks.append((found[1], found[2]))
        return ""

    return re.sub(r"^```(\w*)\n(.*?)^```$", keep, read(name), flags=re.DOTALL | re.MULTILINE), blocks


def headings(name: str) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", split(name)[0], re.MULTILINE)
    return [(len(marks), title.strip()) for marks, title in found]


def table(name: str, first_cell: str) -> list[list[str]]:
    """Return the rows of all tables whose first cells match, as lists of cells."""
    rows = []
    for line in split(name)[0].splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if re.fullmatch(first_cell, cells[0]):
                rows.append(cells)
    return rows


# --- settings ----------------------------------------------------------------------------------


def shown_default(name: str, value: Any) -> str:
    if value in ("", ()):
        return EMPTY[name]
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@each_readme
def test_settings_table_has_every_setting_with_its_default(name: str) -> None:
    told = {row[0].strip("`"): row[1] for row in table(name, "`[A-Z][A-Z_]+`")}
    assert told == {setting.name: shown_default(name, setting.default) for setting in SETTINGS.values()}


@each_readme
def test_settings_table_explains_every_setting_once(name: str) -> None:
    rows = table(name, "`[A-Z][A-Z_]+`")
    assert len(rows) == len(SETTINGS)
    assert [row[0] for row in rows if not row[2]] == []


@pytest.mark.parametrize(
    "path", [*READMES, *sorted(p.relative_to(ROOT) for p in ROOT.glob("deploy/**/*") if p.is_file())], ids=str
)
def test_every_environment_name_is_a_setting(path: str | Path) -> None:
    told = set(re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z][A-Z_]+)", read(str(path))))
    assert told <= set(SETTINGS)


# --- error answers -----------------------------------------------------------------------------


@each_readme
def test_error_table_has_every_answer_of_ours(name: str) -> None:
    told = [(int(row[0]), int(row[1]), row[2].strip("`")) for row in table(name, r"\d{3}") if len(row) == 5]
    assert sorted(told) == sorted((a.status, a.code, a.name) for a in ANSWERS.values())


@each_readme
def test_codes_that_libraries_repeat_are_named(name: str) -> None:
    # The Chinese comma differs, the order does not.
    told = re.findall(r"[(（]((?:-\d{4}(?:, |、)?){2,})[)）]", split(name)[0])
    assert [{int(code) for code in re.findall(r"-\d{4}", found)} for found in told] == [RETRIED_BY_CLIENTS]


# --- metrics -----------------------------------------------------------------------------------


def exposed_metrics() -> set[str]:
    text = Gateway(Config()).metrics.render().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    # When a counter was made; the client library adds it, nobody needs it explained.
    return {name for name in names if not name.endswith("_created")}


@each_readme
def test_metrics_table_has_every_metric(name: str) -> None:
    told = [row[0].strip("`") for row in table(name, "`resender_[a-z_]+`")]
    assert sorted(told) == sorted(exposed_metrics())


@each_readme
def test_every_metric_named_in_the_text_exists(name: str) -> None:
    assert set(re.findall(r"`(resender_[a-z_]+)", read(name))) <= exposed_metrics()


def test_grafana_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text("utf-8"))
    labels = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table("README.md", "`resender_.*`")
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


@each_readme
def test_command_table_has_every_command(name: str) -> None:
    assert set(told_commands(name)) == set(known_commands(_parser()))


@each_readme
def test_every_option_of_the_command_line_is_named(name: str) -> None:
    def options(parser: argparse.ArgumentParser) -> Iterator[str]:
        for action in parser._actions:
            yield from (option for option in action.option_strings if option.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield from options(sub)

    told = set(re.findall(r"--[a-z][a-z-]+", split(name)[0]))
    assert set(options(_parser())) <= told


# --- addresses ---------------------------------------------------------------------------------


@each_readme
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

# What makes a miss: these take the reason as their first argument, these functions return it.
_REASON_TYPES = {"Miss", "Need", "_Lack"}
_REASON_FUNCTIONS = {"bypass_reason", "_start_on_demand"}


def parsed_sources() -> Iterator[ast.Module]:
    for path in sorted((ROOT / "resender").rglob("*.py")):
        if "sandbox" not in path.parts:
            yield ast.parse(path.read_text("utf-8"))


def texts(node: ast.AST | None) -> Iterator[str]:
    """Yield the texts an expression can be, as far as they are written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def miss_reasons() -> set[str]:
    """Read from the program every reason a `miss` can have."""
    found: set[str] = set()
    for module in parsed_sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in _REASON_TYPES and node.args:
                    found |= set(texts(node.args[0]))
            elif isinstance(node, ast.FunctionDef) and node.name in _REASON_FUNCTIONS:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Return):
                        found |= set(texts(inner.value))
            elif isinstance(node, ast.Assign) and any(
                isinstance(to, ast.Attribute) and to.attr == "miss" for to in node.targets
            ):
                found |= set(texts(node.value))
    return found


def local_endpoints() -> set[str]:
    """Read from the dispatcher every path below /local that it compares with."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(web_market.answer_local))):
        if not isinstance(node, ast.Compare):
            continue
        for part in (inner for side in (node.left, *node.comparators) for inner in ast.walk(side)):
            if isinstance(part, ast.Name) and part.id.isupper():
                part = ast.Constant(getattr(web_market, part.id))
            found |= set(texts(part))
    return {path if path.startswith("/") else f"/local/{{market}}/{path}" for path in found}


def told_endpoints(name: str) -> set[str]:
    return {row[0].strip("`") for row in table(name, "`/local/.*`")}


def test_the_program_is_read_right() -> None:
    # If the sources change their form, the tests below must not pass by finding nothing.
    assert {"starting", "not held yet", "no-cache", "body", "gap", "range not held"} <= miss_reasons()
    assert {"/local/status", "/local/{market}/klines"} <= local_endpoints()


@each_readme
def test_table_of_reasons_has_every_reason_of_a_miss(name: str) -> None:
    told = [row[0].strip("`") for row in table(name, "`[a-z][a-z -]+`") if len(row) == 3]
    assert miss_reasons() - set(told) == set()
    assert len(told) == len(set(told))


@each_readme
def test_no_reason_is_told_that_does_not_exist(name: str) -> None:
    # Every text after "miss; " but the placeholder, and the table right behind its heading.
    told = set(re.findall(r"miss; ([a-z][a-z -]+)`", read(name))) - {"reason"}
    lines = split(name)[0].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| `starting` |"))
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        told.add(line.split("|")[1].strip().strip("`"))
    assert told - miss_reasons() == set()


@each_readme
def test_every_local_endpoint_is_told_and_exists(name: str) -> None:
    assert told_endpoints(name) == local_endpoints()


@pytest.mark.parametrize("path", sorted({path for name in READMES for path in told_endpoints(name)}))
@pytest.mark.parametrize("market", ["spot", "um", "cm"])
def test_every_local_endpoint_told_is_answered(path: str, market: str, tmp_path: Path) -> None:
    async def ask() -> None:
        gateway = Gateway(Config(data_dir=str(tmp_path)))
        try:
            await web_market.answer_local(gateway, path.replace("{market}", market), "", packed=False)
        except RouteError:
            raise
        except AnswerError:
            pass  # without parameters it refuses, but it is there

    asyncio.run(ask())


@each_readme
def test_every_address_below_local_in_the_code_is_an_endpoint(name: str) -> None:
    shown = {
        re.sub(r"^/local/(spot|um|cm)/", "/local/{market}/", path)
        for _, code in split(name)[1]
        for path in re.findall(r"(?<!usr)/local/[\w/]+", code)
    }
    assert shown <= local_endpoints()
    assert shown


@each_readme
def test_every_header_of_ours_is_told(name: str) -> None:
    headers = {
        node.value
        for module in parsed_sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"X-Resender-[A-Za-z-]+", node.value)
    }
    assert {"X-Resender-Cache", "X-Resender-Error"} <= headers
    told = set(re.findall(r"X-Resender-[A-Za-z]+", read(name)))
    assert told == headers
    rows = {row[0].strip("`") for row in table(name, "`X-Resender-.*`")}
    assert headers - {"X-Resender-Error"} <= rows


@each_readme
def test_every_path_answered_from_memory_is_told(name: str) -> None:
    told = {
        path for row in table(name, "`/(api|fapi|dapi)/v.*") for path in re.findall(r"`(/[^`]+)`", row[0])
    }
    assert told == {*KLINE_PATHS, *BOOK_TICKER_PATHS}


def test_status_example_has_the_fields_of_the_program() -> None:
    wanted: set[str] = set()
    shape: Callable[..., Any] = web_market.cache_status
    for node in ast.walk(ast.parse(inspect.getsource(shape))):
        if isinstance(node, ast.Dict):
            wanted |= {text for key in node.keys for text in texts(key)}
    for row in inspect.getsource(Governor.status).partition("rows.append(")[2:]:
        wanted |= set(re.findall(r'"([a-z_]+)":', row))
    (example,) = [code for kind, code in split(READMES[0])[1] if kind == "json" and '"backfill"' in code]
    assert set(re.findall(r'"([a-z_]+)":', example)) == wanted


# --- the two languages, links, version ---------------------------------------------------------


def test_both_readmes_have_the_same_sections() -> None:
    english, chinese = ([level for level, _ in headings(name)] for name in READMES)
    assert english == chinese


def test_both_readmes_show_the_same_code() -> None:
    def code(name: str) -> list[tuple[str, str]]:
        # Comments of shell commands are translated.
        return [
            (language, re.sub(r"[ \t]*#.*", "", text) if language == "bash" else text)
            for language, text in split(name)[1]
            if language
        ]

    assert code(READMES[0]) == code(READMES[1])


def anchor(title: str) -> str:
    """Return the link target a heading gets: letters and digits stay, blanks become hyphens."""
    kept = [c for c in title.lower() if c in " -_" or unicodedata.category(c)[0] in "LN"]
    return "".join(kept).replace(" ", "-")


@pytest.mark.parametrize("name", [*READMES, "CHANGELOG.md", "CONTRIBUTING.md"])
def test_relative_links_lead_somewhere(name: str) -> None:
    text = split(name)[0]
    anchors = {anchor(title) for _, title in headings(name)}
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, fragment = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        if (path and not (ROOT / path).exists()) or (not path and fragment not in anchors):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("name", READMES)
def test_both_readmes_link_each_other_and_every_section(name: str) -> None:
    links = set(re.findall(r"\]\(([^)\s]+)\)", split(name)[0]))
    assert set(READMES) - {name} <= links
    sections = {"#" + anchor(title) for level, title in headings(name) if level == 2}
    assert sections <= links


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
