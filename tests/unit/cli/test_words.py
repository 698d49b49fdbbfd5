"""The command line in Chinese: how a text is found, and that catalogue and program fit each other.

The texts of the program are read from its source: a literal is a text, an f-string one with a hole for each value,
a choice between literals (`'a' if x else 'b'`, `x or 'a'`) one text for each.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import errno
import functools
import inspect
import io
import itertools
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resender.cli import database, doctor, users, words
from resender.cli import main as module
from resender.cli.main import _parser, main
from resender.config import Config
from resender.core.binance.markets import Market
from resender.core.redact import MASK, redact
from resender.doctor import Examination
from resender.machine_check import Finding
from resender.store import open_repository
from tools import docs_tables

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "resender"
HOLE = "{}"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LETTERS = re.compile("[A-Za-z]")
FINDING = Finding(
    "time", False, "nothing keeps this machine's clock right", "apt-get install -y systemd-timesyncd"
)
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")

# --- the catalogue ------------------------------------------------------------------------------

CATALOGUE: dict[str, str] = json.loads(words.CATALOGUE.read_text("utf-8"))


@pytest.fixture(autouse=True, scope="module")
def _no_trees_left() -> Iterator[None]:
    """Millions of nodes would make every later collection of garbage slow."""
    yield
    parsed.cache_clear()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, no locale and no running gateway of this machine."""
    for name in [name for name in os.environ if name.startswith("RESENDER_")]:
        monkeypatch.delenv(name)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(module, "read_settings_file", dict)
    monkeypatch.setattr(module, "set_up_logging", lambda level, form: None)
    monkeypatch.setattr(database, "running_gateways", lambda *starters: iter(()))
    monkeypatch.setattr("sys.stdin", io.StringIO())


@pytest.fixture
def chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")


Use = Callable[[dict[str, str]], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chinese: None) -> Iterator[Use]:
    """Put a small catalogue in the place of the real one."""

    def forget() -> None:
        for cached in (words._read, words._whole, words._shapes):
            cached.cache_clear()

    def put(texts: dict[str, str]) -> None:
        path = tmp_path / "words.json"
        path.write_text(json.dumps(texts), "utf-8")
        monkeypatch.setattr(words, "CATALOGUE", path)
        forget()

    yield put
    monkeypatch.undo()
    forget()


# --- finding a text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "ZH_TW.Big5"}, "zh"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "C", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "", "LC_ALL": ""}, "zh"),
        ({"LANG": "C", "LC_CTYPE": "zh_CN.UTF-8", "LANGUAGE": "zh"}, "en"),
    ],
)
def test_first_variable_that_is_set_chooses_the_language(environ: dict[str, str], found: str) -> None:
    assert words.language(environ) == found


def test_language_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words.language() == "en"
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert words.language() == "zh"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("whole", "整"),
        ("  whole \t", "  整 \t"),
        ("a file of 3 bytes", "3 字节的文件 a"),
        ("no such text", "no such text"),
        ("Whole", "Whole"),
        ("", ""),
        ("   ", "   "),
        ("whole\n\n  whole\nno such text", "整\n\n  整\nno such text"),
        ("first\nsecond", "两行"),
        ("{} of {} bytes", "{} 字节的文件 {}"),
    ],
)
def test_text_is_found_whole_or_by_its_shape(use: Use, text: str, found: str) -> None:
    use({"whole": "整", "{} file of {} bytes": "{1} 字节的文件 {0}", "first\nsecond": "两行"})
    assert words.translated(text) == found.replace("{} 字节的文件 {}", "{} of {} bytes")


def test_what_is_put_in_stays_as_it_is(use: Use) -> None:
    use({"{} may call.": "{} 可以调用。"})
    for value in ("{}", "{0!r}", r"\1", "%s", "a b", "[x", "一"):
        assert words.translated(f"{value} may call.") == f"{value} 可以调用。"


def test_text_inside_of_another_one_is_translated_too(use: Use) -> None:
    use({"failed: {}": "失败：{}", "{} cannot be read: {}": "{} 无法读取：{}", "disk full": "磁盘已满"})
    assert words.translated("failed: a/b cannot be read: disk full") == "失败：a/b 无法读取：磁盘已满"
    assert words.translated("failed: nobody knows") == "失败：nobody knows"


def test_longest_shape_counts(use: Use) -> None:
    use({"{}.": "短 {}", "{} is removed with all.": "长 {}", "{} is removed.": "中 {}"})
    assert words.translated("a is removed with all.") == "长 a"
    assert words.translated("a is removed.") == "中 a"
    assert words.translated("a.") == "短 a"


def test_english_is_left_alone(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    use({"whole": "整"})
    monkeypatch.setenv("LANG", "C")
    assert words.translated("whole\n whole") == "whole\n whole"


@pytest.mark.parametrize("content", [None, "", "{", "\udcff"])
def test_catalogue_that_cannot_be_read_is_an_empty_one(
    use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    use({})
    path = tmp_path / "other.json"
    monkeypatch.setattr(words, "CATALOGUE", path)
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert words.translated("whole") == "whole"


def test_said_is_what_print_would_say(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use({"whole": "整", "two {}": "二 {}"})
    words.say("whole")
    words.say("two", 2, end="|", flush=True)
    words.say()
    words.say("whole", file=sys.stderr)
    captured = capsys.readouterr()
    assert captured.out == "整\n二 2|\n"
    assert captured.err == "整\n"


def test_terminal_without_chinese_letters_is_told_in_english(use: Use) -> None:
    use({"whole": "整"})
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, "ascii")
    words.say("whole", file=terminal)
    words.say("whole", end=" ", file=terminal, flush=True)
    assert raw.getvalue() == b"whole\nwhole "
    gbk = io.TextIOWrapper(raw, "gbk")
    words.say("whole", file=gbk, flush=True)
    assert raw.getvalue().endswith("整\n".encode("gbk"))


def test_every_text_of_a_parser_is_translated_once(use: Use) -> None:
    use({"text": "文", "文": "twice", "titled": "题", "end": "尾", "one of {}": "{} 之一"})
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--a", help="text")
    common.add_argument("--hidden", help=argparse.SUPPRESS)
    common.add_argument("--bare")
    parser = argparse.ArgumentParser(parents=[common], description="text", epilog="end", add_help=False)
    commands = parser.add_subparsers(title="titled")
    below = commands.add_parser("b", aliases=["c"], parents=[common], help="text", description="text")
    below.add_argument("d", help="one of 1, 2")
    words.translate_parser(parser)
    assert [parser.description, parser.epilog, below.description] == ["文", "尾", "文"]
    help_of = {action.dest: action.help for action in [*parser._actions, *below._actions]}
    assert help_of["a"] == "文"
    assert help_of["d"] == "1, 2 之一"
    assert help_of["hidden"] == argparse.SUPPRESS
    assert help_of["bare"] is None
    assert "题" in {group.title for group in parser._action_groups}
    assert "    b (c)  文\n" in re.sub(" {2,}文", "  文", parser.format_help())


# --- the texts of the program ---------------------------------------------------------------------


def parts_of(node: ast.AST) -> list[ast.expr]:
    """Return the expressions of which one or all are what an expression says."""
    if isinstance(node, ast.JoinedStr):
        return node.values
    if isinstance(node, ast.FormattedValue):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        return node.values
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "strip" in node.func.attr:
        return [node.func.value]
    return []


def variants(node: ast.AST) -> list[str]:
    """Return the texts an expression can be, with a hole for whatever is not written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"\{\w*\}", HOLE, node.value)]
    found = [variants(part) for part in parts_of(node)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(parts) for parts in itertools.product(*found)]
    return list(itertools.chain(*found)) or [HOLE]


def pieces_of(node: ast.AST) -> Iterator[ast.AST]:
    for part in parts_of(node):
        yield part
        yield from pieces_of(part)


def lines_of(text: str) -> set[str]:
    """Return a text's lines as they are looked up, those with words in them."""
    found = {line.strip() for line in text.split("\n")}
    return {line for line in found if LETTERS.search(line.replace(HOLE, ""))}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def texts_of(path: Path) -> frozenset[str]:
    """Return every text of a module as it stands there, but for its docstrings and pieces of f-strings."""
    tree = parsed(path)
    passed_over: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed_over |= {id(piece) for piece in pieces_of(node)}
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            passed_over.add(id(first.value) if isinstance(first, ast.Expr) else 0)
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in passed_over
    ]
    return frozenset(text for node in nodes for text in variants(node) if text != HOLE)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of a module with the name of what is called."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.func.id if isinstance(node.func, ast.Name) else node.func.attr, node


@functools.cache
def system_texts() -> frozenset[str]:
    """Return what the system calls its errors, names that are not found included."""
    gai = ctypes.CDLL(None).gai_strerror
    gai.restype = ctypes.c_char_p
    codes = (socket.EAI_NONAME, socket.EAI_AGAIN, getattr(socket, "EAI_NODATA", -5))
    return frozenset({os.strerror(number) for number in errno.errorcode} | {gai(c).decode() for c in codes})


@functools.cache
def argparse_texts() -> frozenset[str]:
    found = (
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(argparse)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return frozenset(re.sub(r"%(?:\(\w+\))?[rs]", HOLE, text).strip() for text in found)


@functools.cache
def program_texts() -> frozenset[str]:
    """Return all that this program, argparse and the system can say, whole and by lines."""
    paths = [path for path in PACKAGE.rglob("*.py") if "sandbox" not in path.relative_to(PACKAGE).parts]
    found = {text for path in paths for text in texts_of(path)}
    found |= {line for text in found for line in lines_of(text)}
    return frozenset(found | argparse_texts() | system_texts())


def parser_texts() -> set[str]:
    """Return every text of the parser, in English."""
    found: set[str] = set()

    def walk(parser: argparse.ArgumentParser) -> None:
        found.update(text for text in (parser.description, parser.epilog) if text)
        found.update(group.title for group in parser._action_groups if group.title)
        for action in parser._actions:
            if action.help:
                found.add(action.help)
            if isinstance(action, argparse._SubParsersAction):
                found.update(choice.help for choice in action._choices_actions if choice.help)
                for below in set(action.choices.values()):
                    walk(below)

    walk(_parser())
    return found


@functools.cache
def shape(text: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, text.split(HOLE))), re.DOTALL)


@functools.cache
def longest_part(text: str) -> str:
    return max(text.split(HOLE), key=len)


# How the program joins texts where neither of them has words of its own.
_JOINED = ("{} = {}: {}", "{}: {}", "{}: {}.", "{}{}: {}: {}")


@functools.cache
def joining() -> tuple[str, ...]:
    """Return the texts of the program that others are put into."""
    return (*(text for text in program_texts() if HOLE in text and lines_of(text)), *_JOINED)


@functools.cache
def fits(key: str) -> bool:
    """Tell whether a text of the program is of this shape."""
    if key in program_texts():
        return True
    return any(longest_part(key) in text and shape(key).fullmatch(text) for text in program_texts())


@functools.cache
def is_built(key: str, depth: int = 3) -> bool:
    """Tell whether one text of the program with others put in gives this one."""
    if key in ("", HOLE) or fits(key):
        return True
    if depth == 0:
        return False
    # A value and what is said of it, or two texts, with nothing between them.
    if key.startswith(HOLE) and key[len(HOLE) :] in program_texts():
        return True
    if any(key[:at] in program_texts() and key[at:] in program_texts() for at in range(5, len(key) - 4)):
        return True
    for text in joining():
        if longest_part(text) in key and text != key:
            found = shape(text).fullmatch(key)
            if found and all(is_built(part, depth - 1) for part in found.groups()):
                return True
    return False


# --- the catalogue fits the program ---------------------------------------------------------------


def test_catalogue_is_kept_in_order() -> None:
    text = json.dumps(CATALOGUE, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    assert words.CATALOGUE.read_text("utf-8") == text


def test_both_sides_have_the_same_holes() -> None:
    odd = {key: text for key, text in CATALOGUE.items() if key.count(HOLE) != text.count(HOLE)}
    assert not odd
    braces = [
        text for pair in CATALOGUE.items() for text in pair if re.search("[{}]", text.replace(HOLE, ""))
    ]
    assert not braces, "they would be read as a format"


def test_nothing_waits_around_a_text() -> None:
    """It is looked up without what stands around it."""
    assert not [key for key in CATALOGUE if key != key.strip() or not key]
    assert not [text for text in CATALOGUE.values() if text != text.strip() or not text]


def test_chinese_is_chinese() -> None:
    same = {key for key, text in CATALOGUE.items() if not CHINESE.search(text)}
    assert same == {"{} = {}: {}", "--keep: {}."}, "of which only the reason is translated"
    assert not [text for text in CATALOGUE.values() if re.search(r"[\u4e00-\u9fff][,:;?!(]", text)]
    assert not [text for text in CATALOGUE.values() if re.search(r"[\u4e00-\u9fff][A-Za-z0-9`]", text)]


def test_hole_that_begins_a_text_begins_its_translation() -> None:
    """What stands before a text in its line, a setting or cells of a table, is part of that hole: it stays first."""
    assert not [key for key, text in CATALOGUE.items() if key.startswith(HOLE) and not text.startswith(HOLE)]


_KEPT = re.compile(
    r"`[^`]+`|--[a-z][a-z-]+|\b[A-Z]+_[A-Z_]+\b|\b[A-Z]{4,}\b|(?<!\w)[\w.*:-]*/[\w./{}*-]*[\w{}*]"
    r"|\b[\w-]+\.(?:py|md|key|env|service)\b|<[\w ]+>(?!=<name)"
)
# What is told of elsewhere by its translation, and the system's words.
_TRANSLATED = {"`to do`", "Input/output", "<name of an egress>", "<64 hex digits>"}


def test_commands_settings_and_paths_stay() -> None:
    lost = {
        (word, text)
        for key, text in CATALOGUE.items()
        for word in _KEPT.findall(key)
        if word not in text and word not in _TRANSLATED
    }
    assert not lost


def test_no_text_of_the_catalogue_is_stale() -> None:
    """A full stop is taken off where a line goes on behind it."""
    stale = [key for key in CATALOGUE if not is_built(key) and not is_built(key + ".")]
    assert not stale


def test_every_text_is_found_under_its_own_shape(chinese: None) -> None:
    """A longer one that fits as well would be taken in its place."""
    for key, text in CATALOGUE.items():
        values = [f"v{number}" for number in range(key.count(HOLE))]
        assert words.translated(key.format(*values)) == text.format(*values), key


def test_reason_of_the_system_is_translated_wherever_it_is_put_in(chinese: None) -> None:
    """A shape that takes reason and words before it together would be found first. Some reasons are others' words."""
    reasons = {key: text for key, text in CATALOGUE.items() if key in system_texts()}
    assert len(reasons) > 15
    for key, text in CATALOGUE.items():
        is_others = key.startswith(("The saved database", "DATABASE_URL", "What Binance says"))
        if is_others or not re.search(r"(?:cannot be|cannot listen|served).*: \{\}[.;]?", key):
            continue
        values = [f"/v{number}" for number in range(key.count(HOLE) - 1)]
        for reason, told in reasons.items():
            expected = text.format(*values, told)
            assert words.translated(key.format(*values, reason)) == expected


def test_help_is_no_format(chinese: None) -> None:
    """argparse fills `%` in."""
    assert not [text for text in parser_texts() if "%" in words.translated(text)]


# --- the program is translated --------------------------------------------------------------------

# Cells and lines of tables, which programs read and people copy; what stands in the audit; formats of times.
_CELLS = re.compile(
    r"command line|from calls|no key yet|not watched yet|since \{\}|\{\} open orders?|"
    r"never logged in|logged in \{\} from \{\}|must change the password|\{\} \{\} made \{\} \{\}\{\}|"
    r"\{\} (?:ok|FAILED) \{\}|\{\} \{\}: \{\}; examining \.\.\.|IN FLIGHT|gone for \{\} (?:s|min)|\{\} (?:ms|s)|"
    r"Binance Resender \{\}|[-%YmdHM: ]+UTC|API key|\{\}: error:|"
    r"\{\} is \{\}|curl '.*|Python: .*|API\(proxy_host.*|secret \{\}"
)
# The process log and the journal stay English.
_LOGS = {"serve.py", "workers.py"}
# It is told to nobody.
_UNHEARD = {"the settings.py of {} is unknown"}


# Put together with others, which the catalogue knows as a whole.
_PIECES = {
    "The database {} {}.", "{} (HTTP {})", "{}; other characters of a password are written as %xx",
    "{}: there is no such setting{}.", "The request log is {}; it holds {} rows.",
    "the name {} cannot be resolved{}: check this machine's DNS",
    "region block (451): Binance does not serve {}, {}", "{}; the disk is full",
}  # fmt: skip


def has_words(text: str) -> bool:
    """Tell whether a text is known, by itself or where it is put in: a field of a channel, a list, a rule."""
    behind = text.removeprefix(HOLE)
    said = (text, f"v: {text}", f"entry 1{behind}", f"preload rule 1{behind}")
    return text in CATALOGUE or any(CHINESE.search(words.translated(each)) for each in said)


def untranslated(texts: set[str]) -> list[str]:
    found = {line for text in texts for line in lines_of(text) if " " in line}
    found = {line if line in CATALOGUE else re.sub(" {2,}", " ", line) for line in found}
    passed_over = _UNHEARD | _PIECES
    return sorted(t for t in found - passed_over if not _CELLS.fullmatch(t) and not has_words(t))


def test_everything_the_commands_have_to_say_is_translated(chinese: None) -> None:
    paths = [path for path in (PACKAGE / "cli").glob("*.py") if path.name not in _LOGS]
    assert untranslated({text for path in paths for text in texts_of(path)}) == []


def test_every_say_is_translated(chinese: None) -> None:
    said = [
        text
        for path in sorted((PACKAGE / "cli").glob("*.py"))
        for name, call in calls(path)
        if name == "say" and call.args
        for text in variants(call.args[0])
    ]
    assert len(said) > 70, "they are still found"
    assert untranslated(set(said)) == []


def test_every_text_of_the_parser_is_translated(chinese: None) -> None:
    assert [text for text in parser_texts() if not CHINESE.search(words.translated(text))] == []


# Errors that end in one line of the command line, and where they are raised.
_ERRORS = re.compile(
    r"\w*(?:Error|Unfit|Later|Fault|Refused|TooStrong|Password|NotGiven|NotSent|NotPosted|BadRule|BadNote|Finding)"
)
_RAISING = (
    "cli", "account/key_check", "alerts/sending", "api_keys", "backups", "cluster/redis_words", "config_loading",
    "config_values", "core/access/whitelist", "core/alerts/outbox", "core/cluster/redis_url", "core/egress/spec",
    "core/market/consent", "core/market/preload", "lock", "machine_check", "passwords", "secret_box", "server_tls",
    "settings_file", "store/backup", "store/connection", "store/copying", "store/faults", "store/first_user",
    "store/schema", "store/trial", "store/upgrading", "store/users", "upstream/egresses", "upstream/proxies",
)  # fmt: skip


def raised(path: Path) -> set[str]:
    """Return the texts of the errors a module makes."""
    return {
        text
        for name, call in calls(path)
        if _ERRORS.fullmatch(name)
        for argument in call.args
        for text in variants(argument)
        if " " in text
    }


@pytest.mark.parametrize("where", _RAISING)
def test_errors_of_the_command_line_are_translated(where: str, chinese: None) -> None:
    paths = list((PACKAGE / where).glob("*.py")) if where == "cli" else [PACKAGE / f"{where}.py"]
    assert untranslated({text for path in paths for text in raised(path)}) == []


@pytest.mark.parametrize("where", ["machine_check", "doctor", "cluster/redis_words"])
def test_what_is_found_out_is_translated(where: str, chinese: None) -> None:
    texts = {text for text in texts_of(PACKAGE / f"{where}.py") if " " in text.strip()}
    if where == "cluster/redis_words":
        texts = {f"Redis at v {text}" for text in texts}
    known = {
        "dns ms", "tcp ms", "tls ms", "ping ms", "clock ms", "stream ms",  # columns
        "to an IPv6 address", "to an IPv4 address", "this machine", "this machine's country", "move the server",
        "the country of {}", "use another one",  # pieces
        # Of clocks only the log and the page speak; what Redis itself says is looked for.
        "Redis at v ahead of", "Redis at v called without any password", "Redis at v Connect call failed",
        "Redis at v has a clock {} s {} this machine's: one of them is wrong; let NTP set both",
    }  # fmt: skip
    assert set(untranslated(texts)) - known == set()


def test_hint_keeps_what_is_masked_in_it(chinese: None) -> None:
    """An error is masked before it is said: what looks like a password may stand in its shape as a hole."""
    masked = [key for key in CATALOGUE if MASK in key]
    assert not masked, "a shape of what is said by chance"
    text = "must be such as redis://user:password@host:6379/0, rediss://host (TLS) or unix:///path/redis.sock"
    assert CHINESE.search(words.translated(text))
    assert CHINESE.search(words.translated(redact(text)))


# --- commands -------------------------------------------------------------------------------------

Told = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> Told:
    try:
        code = main(list(argv))
    except SystemExit as ended:
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def english(text: str) -> list[str]:
    """Return what is left of English: three words in a row that are no cells of tables, no command and no usage."""
    lines = [line for line in text.splitlines() if not line.startswith("用法")]
    bare = re.sub(
        r"(?m)never logged in|must change the password|`[^`]*`|^run\.py[\w ]*: 错误:", "", "\n".join(lines)
    )
    return re.findall(r"[A-Za-z]{2,}(?: [A-Za-z']{2,}){2,}", bare)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


Type = Callable[[str], None]


def typical(capsys: pytest.CaptureFixture[str], typed: Type, folder: Path) -> Iterator[tuple[str, Told]]:
    """Run what people run, one after the other, with the line that was typed."""
    file = folder / "saved.tar.gz"
    lines = [
        "whitelist list", "whitelist add 203.0.113.5 --note Tokyo", "whitelist add 203.0.113.5", "whitelist list",
        "whitelist add 10.1.2.3/8", "whitelist remove 203.0.113.9", "whitelist remove 203.0.113.5", "user list",
        "user add anna --password-stdin", "user add anna --password-stdin", "user list", "user remove anna",
        "user set-password nobody", "preload list", "preload add um *USDT 1m,bookTicker", "preload add um *USDT 1z",
        "preload add um *USDT 1m,bookTicker", "preload remove 1", "preload remove 1", "account list",
        "account add main um --key-from-calls", "account add main spot", "account remove main", "alert list",
        "alert add slack desk url=https://hooks.example/x", "alert add slack desk", "alert add pigeon desk",
        "alert list", "alert remove desk", "alert test", "nodes", "nodes drain gw1", "log status", "log on", "log off",
        f"backup {file}", f"backup {file} --keep 3", f"restore {file} --without-settings", f"restore {file}.gone",
        "upgrade --check", "upgrade", "log", "log maybe", "--nope", "preload remove x",
    ]  # fmt: skip
    for line in lines:
        typed("correct horse battery\n")
        yield line, run(capsys, *line.split(" "))


def test_nothing_english_is_left_in_what_people_see(
    chinese: None, capsys: pytest.CaptureFixture[str], typed: Type, tmp_path: Path
) -> None:
    # What needs attention is told as CHANGELOG.md has it.
    for line, (code, out, err) in typical(capsys, typed, tmp_path):
        out = "\n".join(each for each in out.splitlines() if not each.startswith("["))
        assert english(out) == [], line
        assert english(err) == [], line
        assert not out or CHINESE.search(out) or line.endswith("list"), line
        if code:
            assert CHINESE.search(err or out), line


def helps() -> Iterator[argparse.ArgumentParser]:
    """Yield every parser as `main` uses it."""
    parser = _parser()
    words.translate_parser(parser)
    waiting: list[Any] = [parser]
    while waiting:
        one = waiting.pop()
        yield one
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += set(action.choices.values())


def test_nothing_english_is_left_in_any_help(chinese: None) -> None:
    found = list(helps())
    assert len(found) > 30
    for parser in found:
        text = parser.format_help()
        assert text.startswith("用法：")
        rest = text.partition("\n\n")[2]
        assert english(rest) == [], parser.prog


def test_help_is_told_in_chinese(chinese: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert out.startswith("用法： run.py [-h]")
    assert "自建的币安 API 网关。不带命令就启动服务。" in out
    assert re.search(r"\n    whitelist +谁可以调用网关。\n", out)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PORT", "high", "RESENDER_PORT = 'high': 必须是整数"),
        ("PORT", "70000", "RESENDER_PORT = '70000': 必须在 0 到 65535 之间"),
        ("PROT", "1", "RESENDER_PROT：没有这项设置（是不是 PORT？）。"),
        ("ZZZZ", "1", "RESENDER_ZZZZ：没有这项设置。"),
        ("ADMIN_ENABLED", "maybe", "RESENDER_ADMIN_ENABLED = 'maybe': 只能是 true 或 false"),
        ("LOG_LEVEL", "LOUD", "RESENDER_LOG_LEVEL = 'LOUD': 只能是 DEBUG, INFO, WARNING, ERROR 之一"),
        ("ROLES", "boss", "RESENDER_ROLES = 'boss': 'boss' 不是角色；有 all, front, collector, admin"),
        ("EGRESS", "1.1.1.1,0.0.0.0", "RESENDER_EGRESS = ***: 第 2 项：0.0.0.0 不能作为源地址"),
        (
            "EGRESS",
            "ftp://a:1",
            "RESENDER_EGRESS = ***: 第 1 项：不认识 ftp://；有 http、socks5、socks4 和 resender",
        ),
        ("PRELOAD", "um:@1m", "RESENDER_PRELOAD = 'um:@1m': 预加载规则 'um:@1m'：没有写交易对；"),
        (
            "WHITELIST",
            "10.1.2.3/8",
            "'10.1.2.3/8' 的主机位不为零：整个网段请写 10.0.0.0/8，单个地址请写 10.1.2.3。",
        ),
        ("REDIS_URL", "http://a", "RESENDER_REDIS_URL = ***: 必须形如 redis://"),
        ("TLS_KEY", "a.pem", "TLS_KEY：它要与证书一起用；请同时设置 TLS_CERT。"),
        ("DATABASE_URL", "oracle://a", "DATABASE_URL 的开头是 'oracle'：请写 sqlite:///path、postgresql://"),
        ("DATABASE_URL", "sqlite:////proc/x/y", "数据库 /proc/x/y 无法使用："),
    ],
)
def test_wrong_setting_is_told_in_chinese(
    chinese: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv(f"RESENDER_{name}", value)
    code, _, err = run(capsys, "whitelist", "list")
    assert code in (1, 2)
    assert told in err
    assert err.startswith("错误")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot listen on 0.0.0.0 port 80: Permission denied; below 1024 only root and who has "
         "CAP_NET_BIND_SERVICE may: choose another PORT",
         "无法监听 0.0.0.0 端口 80：权限不足；1024 以下只有 root 和有 CAP_NET_BIND_SERVICE 的可以：请换一个 PORT"),
        ("/x/gateway.lock cannot be used: Permission denied; uid 7 has to own /x and all that is in it (chown -R), "
         "or choose another DATA_DIR",
         "/x/gateway.lock 无法使用：权限不足；uid 7 必须拥有 /x 和其中的一切（chown -R），或者换一个 DATA_DIR"),
        ("another gateway (pid 7) uses the folder /x: stop it, or give this one another DATA_DIR",
         "另一个网关（pid 7）正在使用文件夹 /x：请停止它，或给本网关换一个 DATA_DIR"),
        ("TLS cannot be served: /x/cert.pem: No such file or directory",
         "无法提供 TLS：/x/cert.pem：没有这个文件或文件夹"),
        ("Redis at 10.0.0.2:6379 cannot be reached: Connection refused", "Redis（10.0.0.2:6379）连不上：连接被拒绝"),
        ("The database /x/a b.db is locked by another process; close the program that holds it and try again.",
         "数据库 /x/a b.db 被另一个进程锁住；请关闭占用它的程序再试。"),
        ("The database /x is read-only for this user (uid 7); make the file and its directory writable",
         "数据库 /x 对本用户（uid 7）只读；请让文件和所在文件夹可写"),
        ("Binance could not be asked what this key may do: The upstream api.binance.com cannot be reached through "
         "tokyo: the proxy says it refused the connection.",
         "无法向币安询问这个 key 的权限：连不上上游 api.binance.com（经出口 tokyo）：代理说它拒绝了连接。"),
        ("REST answers, but its streams do not (fstream.binance.com: its TLS certificate is self-signed): calls are "
         "forwarded and none is answered from memory; CACHE_ENABLED=false if that is meant",
         "REST 正常，但推送不正常（fstream.binance.com：它的 TLS 证书是自签名的）：调用一律转发，不由内存应答；"
         "本来就要这样的话，请设 CACHE_ENABLED=false"),
        ("the name a.example cannot be resolved to an IPv6 address: check this machine's DNS",
         "域名 a.example 无法解析出 IPv6 地址：请检查本机 DNS"),
        ("--keep: '0' is neither a number of backups such as 14 nor of days such as 30d.",
         "--keep：'0' 既不是份数（例如 14），也不是天数（例如 30d）。"),
        ("error: .../resender.db is gone", "错误：.../resender.db is gone"),
    ],
)  # fmt: skip
def test_sentences_within_sentences_are_told_in_chinese(chinese: None, text: str, told: str) -> None:
    assert words.translated(text) == told


def test_password_is_asked_for_only_where_there_is_a_terminal(chinese: None) -> None:
    """Its prompts are known to the catalogue, by whatever asks."""
    prompts = {text.strip() for text in texts_of(Path(users.__file__)) if text.endswith(": ")}
    assert prompts <= set(CATALOGUE)
    assert words.translated("Once more: ") == "再输入一次： "


def test_demo_is_told_in_chinese(chinese: None, capsys: pytest.CaptureFixture[str]) -> None:
    from resender.cli.demo import _announce

    _announce("http://127.0.0.1:8000", {"UPSTREAM_API": "https://a:1", "UPSTREAM_FAPI": "https://b:2"})
    told = capsys.readouterr().out
    assert (
        "\nBinance Resender 已在 http://127.0.0.1:8000 启动，对接模拟交易所，价格不是真的。试一试：\n" in told
    )
    assert "\n  curl 'http://127.0.0.1:8000/metrics'\n" in told
    assert "\n模拟交易所： https://a:1（现货）、https://b:2（U 本位）\n" in told
    assert english(re.sub("from binance_interface.*", "", told)) == []


# --- English stays --------------------------------------------------------------------------------

_CHANGING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d{8}T\d{6}Z|[\d,]+ bytes")


def test_english_is_byte_for_byte_what_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: Type, tmp_path: Path
) -> None:
    """As without any catalogue: what is said is what is printed."""
    monkeypatch.setenv("LANG", "C")
    folders = tmp_path / "a", tmp_path / "b"
    told: list[list[str]] = []
    for folder in folders:
        folder.mkdir()
        monkeypatch.setenv("RESENDER_DATA_DIR", str(folder / "data"))
        rows = [str(row).replace(str(folder), "FOLDER") for row in typical(capsys, typed, folder)]
        told.append([_CHANGING.sub("X", row) for row in rows])
        for name, used in list(sys.modules.items()):
            if name.startswith("resender.cli.") and getattr(used, "say", None) is words.say:
                monkeypatch.setattr(used, "say", print)
        monkeypatch.setattr(module, "translate_parser", lambda parser: None)
        monkeypatch.setattr(module, "translated", lambda text: text)
    assert told[0] == told[1]
    assert not CHINESE.search("".join(told[0]))
    assert "203.0.113.5 may call.\\n(database FOLDER/data/resender.db)\\n" in told[0][1]
    assert "error: 203.0.113.9 is not in the whitelist.\\n" in told[0][5]


def test_english_help_is_argparse_own(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")
    assert out == argparse.ArgumentParser.format_help(_parser())
    assert out.startswith("usage: run.py")


def test_documentation_is_made_of_the_english_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(docs_tables.commands(_parser()))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert list(docs_tables.commands(_parser())) == before
    assert vars(docs_tables)["_parser"] is _parser
    assert not CHINESE.search(str(before))


def test_database_keeps_nothing_of_the_language(
    chinese: None, capsys: pytest.CaptureFixture[str], typed: Type, tmp_path: Path
) -> None:
    run(capsys, "whitelist", "add", "203.0.113.5", "--note", "error")
    run(capsys, "account", "add", "main", "um", "--key-from-calls")
    with open_repository(f"sqlite:///{tmp_path / 'data' / 'resender.db'}") as repository:
        assert [entry.note for entry in repository.whitelist_list()] == ["error"]
        assert {row.actor for row in repository.audit_list()} == {"command line"}


@pytest.mark.parametrize(
    ("encoding", "is_chinese"), [("utf-8", True), ("gbk", True), ("ascii", False), ("latin-1", False)]
)
def test_terminal_without_chinese_letters_gets_english(
    monkeypatch: pytest.MonkeyPatch, encoding: str, is_chinese: bool
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN")
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
    with pytest.raises(SystemExit):
        main(["--help"])
    sys.stdout.flush()
    assert bool(CHINESE.search(raw.getvalue().decode(encoding))) is is_chinese


def test_doctor_tells_its_verdicts_and_findings_in_chinese(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def examined(config: Config) -> list[Examination]:
        found = Examination(Market.SPOT, "https://api.binance.com", "default")
        found.verdict = "banned (418): this address sent too much; it ends in 118 s"
        return [found]

    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setattr(doctor, "_examine", examined)
    monkeypatch.setattr("resender.machine_check.check_machine", lambda config: [FINDING])
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw := io.BytesIO(), encoding="utf-8"))
    main(["doctor", "--deep"])
    sys.stdout.flush()
    said = raw.getvalue().decode()
    assert "118 秒" in said
    assert "time         FAILED 没有程序在校准本机时钟" in said
    assert "怎么办：" in said
