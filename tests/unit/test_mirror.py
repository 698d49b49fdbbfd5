"""The unit tests mirror the program file by file: whoever opens a module finds its test at once."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM, TESTS = ROOT / "resender", ROOT / "tests" / "unit"

# Tests that watch the whole, and no module of it.
OF_THE_WHOLE = {
    "test_architecture": "who imports whom, how long a module is",
    "test_deploy": "the files of deploy/, with the real programs",
    "test_docs": "the pages of docs/ against the program",
    "test_docs_tools": "tools/ that write tables into docs/",
    "test_fixtures": "tests/fixtures: each file has its source, each parser takes the recordings",
    "test_frame": "Makefile, workflows and what else frames the repository",
    "test_glossary": "one word for each thing, in code and docs",
    "test_mirror": "this one",
}
# Modules whose test is elsewhere, or that have nothing a unit test could show.
NO_UNIT_TEST = {
    "__main__": "one call of cli/main.py; tests/e2e starts it as a process",
    "store/migrations/0001_initial": "run by store/schema.py, whose test compares all of them with the models",
    "store/migrations/0002_request_log": "as 0001_initial",
    "store/migrations/0003_preload": "as 0001_initial",
    "store/migrations/0004_admin": "as 0001_initial",
    "store/migrations/0005_accounts": "as 0001_initial",
    "store/migrations/0006_alerts": "as 0001_initial",
    "store/account_rows": "rows without a rule of their own; tests/unit/store/test_accounts.py gets them all",
    "account/ports": "protocols and options: nothing that runs",
}
# The sandbox is an exchange seen from outside: tests/component/sandbox speaks to it over real sockets.
# Only its rules that no socket shows at will have a unit test.
SEEN_FROM_OUTSIDE = "sandbox"
# Modules that should have a test of their own and have none yet.
STILL_WITHOUT: dict[str, str] = {}


def modules() -> set[str]:
    """List the modules of the program with code of their own, as "core/egress/state"."""
    found = set()
    for path in PROGRAM.rglob("*.py"):
        if path.name != "__init__.py" or has_code(path):
            found.add(path.relative_to(PROGRAM).with_suffix("").as_posix())
    return found


def has_code(path: Path) -> bool:
    """Tell whether a package's own file does more than say what it is and name what it offers."""
    for node in ast.parse(path.read_text("utf-8")).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_name = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        if not (is_text or is_name or isinstance(node, ast.Import | ast.ImportFrom)):
            return True
    return False


def files_of_tests() -> list[str]:
    return sorted(p.relative_to(TESTS).with_suffix("").as_posix() for p in TESTS.rglob("test_*.py"))


def module_of(test: str) -> str | None:
    """Return the module a test file is named after, None if there is none.

    Shape: `market/test_cache` and `market/test_cache_limits` are of `market/cache`; a package's own
        file has the package's name, `market/test_market` or `market/kinds/test_kinds`.
    """
    folder, _, name = test.rpartition("/")
    words = name.removeprefix("test_").split("_")
    for count in range(len(words), 0, -1):
        stem = "_".join(words[:count])
        module = f"{folder}/{stem}" if folder else stem
        if (PROGRAM / f"{module}.py").is_file():
            return module
        if stem == folder.rpartition("/")[2] and (PROGRAM / folder / "__init__.py").is_file():
            return f"{folder}/__init__"
    return None


def test_every_test_file_is_named_after_a_module_of_the_program() -> None:
    lost = [test for test in files_of_tests() if test not in OF_THE_WHOLE and module_of(test) is None]
    assert not lost, f"named after no module of resender/: {lost}"


def test_every_module_has_a_test_file_of_its_own() -> None:
    covered = {module_of(test) for test in files_of_tests()}
    excused = NO_UNIT_TEST.keys() | STILL_WITHOUT.keys()
    bare = sorted(
        module for module in modules() - covered - excused if module.partition("/")[0] != SEEN_FROM_OUTSIDE
    )
    assert not bare, f"{len(bare)} modules have no file in tests/unit: {bare}"


def test_no_exception_stands_longer_than_it_is_needed() -> None:
    covered, known = {module_of(test) for test in files_of_tests()}, modules()
    stale = [module for module in NO_UNIT_TEST | STILL_WITHOUT if module not in known or module in covered]
    assert not stale, f"no exceptions any more: {stale}"
    gone = [test for test in OF_THE_WHOLE if not (TESTS / f"{test}.py").is_file()]
    assert not gone, f"there is no such test: {gone}"


def test_sandbox_has_its_tests_over_real_sockets() -> None:
    assert sorted((ROOT / "tests" / "component" / SEEN_FROM_OUTSIDE).glob("test_*.py"))
