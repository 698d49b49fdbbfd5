"""Write the tables of `docs/` that repeat the program, or check that they are current.

    python -m tools.docs_tables            write them
    python -m tools.docs_tables --check    change nothing; exit code 1 if a page is not current

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`. What a machine knows (names,
defaults, limits, codes, labels, commands) is read from the program; sentences are those of the program
and of the admin pages' catalogues. What neither of them says stands in `docs_texts.<language>.json`,
key by key, and only there.

The comments of `settings.py` are the table's sentences too, once its first line says so: values, order and
headings there stay, comments are written.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from resender.cli.main import _parser
from resender.config import SETTINGS, Config, Setting
from resender.core.market.requests import MISS_REASONS
from resender.errors import ANSWERS
from resender.gateway import Gateway
from tools.stream_shapes import KEY, SHAPES

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "zh")
Rows = list[list[str]]


# --- what the program says -----------------------------------------------------------------------


@cache
def parsed_sources() -> tuple[ast.Module, ...]:
    """Read all modules of the program but the sandbox."""
    paths = sorted((ROOT / "resender").rglob("*.py"))
    return tuple(ast.parse(path.read_text("utf-8")) for path in paths if "sandbox" not in path.parts)


@cache
def own_headers() -> frozenset[str]:
    """Read from the program every header that is the gateway's own."""
    return frozenset(
        node.value
        for module in parsed_sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"X-Resender-[A-Za-z-]+", node.value)
    )


@cache
def metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return each metric with its help and its labels, in the order a scraper gets them."""
    registry = Gateway(Config()).metrics.registry
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.documentation, tuple(labels))
    return found


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """List what can be typed: its words, its arguments, its help.

    Shape: `()` for no command, `("whitelist", "add")`, `("log", "on")`; old names of commands are left out.
    """
    subparsers = argparse._SubParsersAction
    below = [action for action in parser._actions if isinstance(action, subparsers)]
    choices = [a for a in parser._actions if not a.option_strings and a not in below and a.choices]
    if not any(action.required for action in below) and not choices:
        yield words, _arguments(parser), parser.description or ""
    for action in below:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        helps = {name.partition(" ")[0]: text for name, text in helps.items()}
        seen: set[int] = set()
        for word, sub in action.choices.items():
            if id(sub) not in seen:
                seen.add(id(sub))
                for path, arguments, text in commands(sub, (*words, word)):
                    yield path, arguments, helps.get(word, text) if path == (*words, word) else text
    for action in choices:
        for word in action.choices or ():
            yield (*words, str(word)), "", ""


def _arguments(parser: argparse.ArgumentParser) -> str:
    shown = []
    for action in parser._actions:
        name = str(action.metavar or action.dest).upper()
        if isinstance(action, argparse._SubParsersAction) or set(action.option_strings) & _EVERYWHERE:
            continue
        if not action.option_strings:
            shown.append(name)
        elif action.nargs == 0:
            shown.append(f"[{action.option_strings[-1]}]")
        else:
            text = f"{action.option_strings[-1]} {name}"
            shown.append(text if action.required else f"[{text}]")
    return " ".join(shown)


_EVERYWHERE = {"--help", "--data-dir", "--version"}


_UNITS = {"_S": "s", "_MS": "ms", "_MINUTES": "min", "_HOURS": "h", "_DAYS": "d", "_BYTES": "bytes"}


def limits(setting: Setting, words: dict[str, str]) -> str:
    """Tell what a setting may be, as far as its reader says it in numbers or words."""
    known = inspect.getclosurevars(setting.parse).nonlocals
    if "low" in known:
        low, high = (
            f"{known[end]:,}" if known[end] % 1 else f"{int(known[end]):,}" for end in ("low", "high")
        )
        unit = next((f" {unit}" for end, unit in _UNITS.items() if setting.name.endswith(end)), "")
        return f"{low} … {high}{unit}"
    if "words" in known:
        return ", ".join(f"`{word}`" for word in known["words"])
    if "schemes" in known:
        shown = [f"`{scheme}://`" for scheme in known["schemes"]]
        return ", ".join([*shown, "`off`"] if known.get("can_be_off") else shown)
    if isinstance(setting.default, bool):
        return "`true`, `false`"
    if isinstance(setting.default, float):
        return "> 0 … 1"
    return words["list"] if isinstance(setting.default, tuple) else words["text"]


# --- sentences -----------------------------------------------------------------------------------


class Texts:
    """The sentences of one language; it remembers which were used."""

    def __init__(self, language: str) -> None:
        self.language = language
        name = f"docs_texts.{language}.json"
        self._own: dict[str, str] = json.loads((ROOT / "tools" / name).read_text("utf-8"))
        self._pages = json.loads((ROOT / f"admin_static/i18n/{language}.json").read_text("utf-8"))
        self._used: set[str] = set()
        self.missing: list[str] = []

    def get(self, key: str, otherwise: str = "") -> str:
        """Return a text of ours, else the other one; `key.more` is put behind either."""
        parts = [self._own.get(key, otherwise)]
        self._used |= {key, f"{key}.more"}
        if not parts[0]:
            self.missing.append(f"{self.language}: {key}")
        if more := self._own.get(f"{key}.more"):
            parts.append(more)
        return ("" if self.language == "zh" else " ").join(parts)

    def page(self, key: str) -> str:
        """Return a text of the admin pages, its names set as code."""
        return as_code(str(self._pages.get(key, "")))

    def unused(self) -> list[str]:
        return sorted(f"{self.language}: {key}" for key in self._own if key not in self._used)


# What is set as code: names of settings, headers, files, paths, parameters; examples; values before " = ".
_WORDS = (
    r"(?:[A-Z]+_)+[A-Z]+(?!\w)",
    r"/local/\{market\}/closes|/data\.binance\.vision/\.\.\.|CONNECT host:443",
    r"(?:\w+\.)?gw\.example|(?:fapi|stream)\.binance\.com",
    r"X-Forwarded-For|X-Real-IP",
    r"/(?:admin|market|public|private|local)\b",
    r"(?:run\.py(?: whitelist)?|settings\.py)\b",
    r"startTime|endTime|127\.0\.0\.1|DEBUG|INFO|WARNING|ERROR",
    r"um:\*\w+@[\w,]+",
    r"ticker/24hr=[\w:=,]+|Cache-Control: max-age",
    r"<[^<>=]*8[^<>=]*>=<[^<>]+>|sha256:<[^<>]*>=<[^<>]+>",
    r"(?:off|false|true|\d+|::)(?= = )",
)
_CODE = re.compile(rf"`[^`]*`|(?<![\w`/])(?:{'|'.join(_WORDS)})", re.ASCII)


def as_code(text: str) -> str:
    """Set names of settings, paths and values as code."""

    def mark(found: re.Match[str]) -> str:
        word = found[0]
        return word if word.startswith("`") else f"`{word}`"

    return _CODE.sub(mark, text)


# --- the tables ----------------------------------------------------------------------------------


def table(head: list[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def setting_order() -> list[str]:
    """The settings in the order of settings.py, which groups them for a reader."""
    module = ast.parse((ROOT / "settings.py").read_text("utf-8"))
    names = [
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    return [name for name in names if name in SETTINGS] + [name for name in SETTINGS if name not in names]


def shown_default(value: Any, empty: str) -> str:
    if value in ("", ()) and not isinstance(value, (bool, int, float)):
        return empty
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def settings_table(texts: Texts) -> str:
    empty = texts.get("word.empty")
    words = {"list": texts.get("word.list"), "text": texts.get("word.text")}
    rows = []
    for name in setting_order():
        setting = SETTINGS[name]
        rows.append(
            [
                f"`{name}`",
                shown_default(setting.default, empty),
                limits(setting, words),
                texts.get(f"setting.{name}", texts.page(f"settings.help.{name}")),
            ]
        )
    return table([texts.get(f"head.{name}") for name in ("name", "default", "allowed", "meaning")], rows)


def errors_table(texts: Texts) -> str:
    rows = [
        [
            str(answer.status),
            str(answer.code),
            f"`{answer.name}`",
            texts.get(f"error.{answer.name}.meaning"),
            texts.get(f"error.{answer.name}.do"),
        ]
        for answer in ANSWERS.values()
    ]
    names = [texts.get("head.status"), "`code`", "`X-Resender-Error`"]
    return table([*names, texts.get("head.meaning"), texts.get("head.do")], rows)


def metrics_table(texts: Texts) -> str:
    rows = []
    for name, (text, labels) in metrics().items():
        shown = ", ".join(f"`{label}`" for label in labels)
        known = text if texts.language == "en" else ""
        rows.append([f"`{name}`", shown, texts.get(f"metric.{name}", known)])
    return table([texts.get(f"head.{name}") for name in ("metric", "labels", "meaning")], rows)


def headers_table(texts: Texts) -> str:
    order = [
        "X-Resender-Cache",
        "X-Resender-Age",
        "X-Resender-Egress",
        "X-Resender-Missing",
        "X-Resender-Error",
    ]
    names = [name for name in order if name in own_headers()]
    names += sorted(own_headers() - set(names))
    rows = [[f"`{name}`", texts.get(f"header.{name}")] for name in (*names, "X-MBX-USED-WEIGHT-1M")]
    return table([texts.get("head.header"), texts.get("head.meaning")], rows)


# What a reader meets first stands first; a reason that is not here comes last.
_REASON_ORDER = (
    "starting", "not held yet", "not read yet", "stream not live", "stream not proven", "stream quiet",
    "stream mute", "not settled", "no new candle seen", "gap", "no candle yet", "range not held",
    "too many series", "unknown symbol", "limit", "odd parameter", "odd range", "all symbols",
)  # fmt: skip


def reasons_table(texts: Texts) -> str:
    names = [name for name in _REASON_ORDER if name in MISS_REASONS]
    names += [name for name in MISS_REASONS if name not in names]
    rows = [
        [
            f"`{name}`",
            texts.get(f"miss.{name}.why", texts.page(f"live.miss_help.{name}")),
            texts.get(f"miss.{name}.do"),
        ]
        for name in names
    ]
    return table([texts.get(f"head.{name}") for name in ("reason", "why", "do")], rows)


def commands_table(texts: Texts) -> str:
    rows = []
    for words, arguments, text in commands(_parser()):
        key = " ".join(words)
        shown = " ".join(part for part in ("python run.py", key, arguments) if part)
        known = text if texts.language == "en" else ""
        rows.append([f"`{shown}`", texts.get(f"command.{key}", known)])
    rows += [[f"`python run.py {name}`", texts.get(f"command.{name}")] for name in ("--version", "--help")]
    return table([texts.get("head.command"), texts.get("head.effect")], rows)


def streams_table(texts: Texts) -> str:
    rows = [
        [
            library,
            f"`ws://B:8000{base}`",
            "<br>".join(f"`{target.replace(KEY, '<listenKey>')}`" for target in targets),
        ]
        for library, base, targets in SHAPES
    ]
    return table([texts.get(f"head.{name}") for name in ("library", "base", "opens")], rows)


TABLES: dict[str, Callable[[Texts], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "metrics": metrics_table,
    "headers": headers_table,
    "miss reasons": reasons_table,
    "commands": commands_table,
    "stream addresses": streams_table,
}


# --- settings.py ---------------------------------------------------------------------------------

#: With this in it, settings.py takes part.
SETTINGS_MARK = "The comments are those of resender/config.py"
_EXAMPLES = {
    "DATABASE_URL": '"postgresql://user:password@host/name"',
    "REDIS_URL": '"redis://user:password@host:6379/0"',
    "NODE_URL": '"http://10.0.0.5:8000"',
    "WHITELIST": '["203.0.113.5", "198.51.100.0/24", "2001:db8::/32"]',
    "EGRESS": '["203.0.113.5", "hk=socks5://user:pw@host:1080;markets=um+cm", "resender://host:8000"]',
    "EGRESS_PINS": '["abcdEFGH12=hk"]',
    "PRELOAD": '"spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m"',
}


def settings_file(text: str) -> str:
    """Write the comments of settings.py anew; its head, headings, order and values stay."""
    lines = text.splitlines()
    nodes = ast.parse(text).body
    head = nodes[0].end_lineno or 1
    out = lines[:head]
    for node in nodes[1:]:
        before = lines[head : node.lineno - 1]
        head = node.end_lineno or node.lineno
        for line in before:
            if line.startswith("# ---"):
                out += ["", line]
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id in SETTINGS:
            out.append("")
            out += textwrap.wrap(
                SETTINGS[target.id].help,
                100,
                initial_indent="# ",
                subsequent_indent="# ",
                break_on_hyphens=False,
            )
            if target.id in _EXAMPLES:
                out.append(f"# Example: {_EXAMPLES[target.id]}")
        out += lines[node.lineno - 1 : head]
    return "\n".join([*out, *(line for line in lines[head:] if line)]) + "\n"


# --- the pages -----------------------------------------------------------------------------------

_BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def language_of(path: Path) -> str:
    return "zh" if path.name.endswith(".zh.md") else "en"


def generate() -> tuple[dict[Path, str], list[str]]:
    """Return every page that has tables, and settings.py, with its current text, and what is wrong.

    What is wrong: a table nobody shows in a language, a sentence that is missing or used nowhere.
    """
    texts = {language: Texts(language) for language in LANGUAGES}
    made = {(name, language): TABLES[name](texts[language]) for name in TABLES for language in LANGUAGES}
    pages: dict[Path, str] = {}
    shown: set[tuple[str, str]] = set()
    wrong: list[str] = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text("utf-8")
        language = language_of(path)

        def fill(found: re.Match[str], language: str = language, path: Path = path) -> str:
            key = (found[2], language)
            if key not in made:
                wrong.append(f"{path.relative_to(ROOT)}: there is no table {found[2]!r}")
                return found[0]
            shown.add(key)
            return f"{found[1]}\n{made[key]}\n\n{found[4]}"

        if "<!-- generated:" in text:
            pages[path] = _BLOCK.sub(fill, text)
    settings = ROOT / "settings.py"
    if SETTINGS_MARK in (text := settings.read_text("utf-8")):
        pages[settings] = settings_file(text)
    wrong += [
        f"{language}: no page shows the table {name!r}" for name, language in sorted(made.keys() - shown)
    ]
    for each in texts.values():
        wrong += [f"docs_texts: no text for {key}" for key in each.missing]
        wrong += [f"docs_texts: nothing uses {key}" for key in each.unused()]
    return pages, wrong


def main(argv: list[str]) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/ that repeat the program.")
    parser.add_argument("--check", action="store_true", help="change nothing, tell what is not current")
    arguments = parser.parse_args(argv)
    pages, wrong = generate()
    for path, text in pages.items():
        if text == path.read_text("utf-8"):
            continue
        if arguments.check:
            wrong.append(f"{path.relative_to(ROOT)} is not current: run `make docs-tables`")
        else:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"written: {path.relative_to(ROOT)}\n")
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
