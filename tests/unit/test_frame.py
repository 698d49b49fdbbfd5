"""What stands around the program for whoever works on it: the gate, packages, versions, `make test`.

The scripts are tried with programs that only pretend; what is shipped is tried in
tests/e2e/test_package.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from resender import __version__
from tests.support.wanting import MORE_CLIENTS, in_words

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end without what CI and `make test` have set."""
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "SKIPPED_TO")}
    kept = {key: value for key, value in kept.items() if not key.startswith(("PYTEST_", "MAKE", "MFLAGS"))}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_program(path: Path, *lines: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), "utf-8")
    path.chmod(0o755)
    return path


# --- Debian packages -----------------------------------------------------------------------------


def packages() -> set[str]:
    return set(re.sub(r"#.*", "", read(".ci/packages")).split())


def test_list_has_every_package_that_a_test_may_ask_for() -> None:
    asked = {"make", "python3", "python3-venv", "ca-certificates", "fonts-noto-cjk"}
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text("utf-8")
        asked |= set(re.findall(r"\bfind_program\(.*\"([a-z0-9-]+)\"\)", text))
        if path != Path(__file__):
            asked |= set(re.findall(r"is not installed: apt-get install ([a-z][a-z0-9-]+)", text))
    assert {
        "chromium-headless-shell",
        "postgresql",
        "mariadb-server",
        "nginx",
        "caddy",
        "curl",
        "fail2ban",
    } <= packages()
    assert asked - {"name"} <= packages()


class Machine:
    """A copy of .ci with a package manager that only pretends."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / ".ci", folder / ".ci")
        self.folder, self.bin, self.log = folder, folder / "bin", folder / "log"
        self.log.touch()
        shown = f'echo "$(basename "$0") $*" >> "{self.log}"'
        write_program(self.bin / "apt-get", shown)
        write_program(self.bin / "sudo", shown, 'while [ "$1" = -n ]; do shift; done', 'exec "$@"')
        self.has(packages())

    def has(self, names: set[str]) -> None:
        lines = [f'[ "$3" = "{name}" ] && echo "install ok installed"' for name in sorted(names)]
        write_program(self.bin / "dpkg-query", *lines, "exit 0")

    def is_user(self, number: int) -> None:
        write_program(self.bin / "id", f"echo {number}")

    def install(self) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        result = run("bash", self.folder / ".ci/deps", PATH=f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return result, self.log.read_text("utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_there_is_not_installed_again(machine: Machine) -> None:
    result, did = machine.install()
    assert (result.returncode, result.stdout, did) == (
        0,
        f"All {len(packages())} packages are installed.\n",
        [],
    )


def test_what_is_missing_is_installed_and_nothing_else(machine: Machine) -> None:
    machine.has(packages() - {"chromium-headless-shell", "caddy"})
    machine.is_user(0)
    result, did = machine.install()
    assert result.returncode == 0, result.stderr
    assert did == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends chromium-headless-shell caddy",
    ]


def test_somebody_who_is_not_root_needs_sudo_which_asks_nobody_in_ci(machine: Machine) -> None:
    machine.has(packages() - {"caddy"})
    machine.is_user(1000)
    result, did = machine.install()
    assert result.returncode == 0, result.stderr
    assert did[0] == "sudo -n apt-get update -qq"
    assert did[-1] == "apt-get install -y -qq --no-install-recommends caddy"


def test_list_and_installing_are_in_one_place() -> None:
    assert re.search(r"^deps:.*\n\t\.ci/deps$", read("Makefile"), re.MULTILINE)
    commands = re.sub(r"#.*", "", read(".ci/run"))
    steps = [step.strip() for step in re.findall(r"\.ci/deps|\bmake [^|;\n]*|apt-get", commands)]
    ready, rest = [".ci/deps", "make -j2 clients .venv/dev"], ["make package", "make docs-check"]
    assert steps == [*ready, "make check", *rest, "make test"]
    for name in (".ci/run", ".ci/deps"):
        assert run("bash", "-n", ROOT / name).returncode == 0
        assert os.access(ROOT / name, os.X_OK)


# --- tests that lack something -------------------------------------------------------------------

_SKIPPING = """
import pytest

@pytest.fixture(scope="session")
def server():
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")

@pytest.fixture
def browser():
    pytest.skip("no chromium: apt-get install chromium fonts-noto-cjk")

@pytest.mark.parametrize("n", range(3))
def test_store(server, n): pass

def test_page(browser): pass

def test_other(): pytest.skip("this machine has no IPv6 loopback")

def test_good(): pass
"""
_LINE = "Skipped for want of: chromium, postgresql (4 tests); `make deps` installs what is missing."


def pytest_run(folder: Path, text: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return run(*command, "-c", folder / "pytest.ini", *words, folder / "test_it.py", **environment)


def test_one_line_says_what_was_skipped_for_want_of_what(tmp_path: Path) -> None:
    result = pytest_run(tmp_path, _SKIPPING)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(_LINE) == result.stdout.count("Skipped for want of") == 1


def test_several_runs_are_told_together_and_only_once(tmp_path: Path) -> None:
    together = tmp_path / "skipped"
    for words in ((), ("-n", "2")):
        result = pytest_run(tmp_path, _SKIPPING, *words, SKIPPED_TO=str(together))
        assert result.returncode == 0, result.stdout + result.stderr
        assert "Skipped for want of" not in result.stdout
    said = run(sys.executable, "-m", "tests.support.wanting", together).stdout
    assert said == _LINE.replace("4 tests", "8 tests") + "\n"


def test_nothing_is_said_where_nothing_was_wanting(tmp_path: Path) -> None:
    together = tmp_path / "skipped"
    assert run(sys.executable, "-m", "tests.support.wanting", together).stdout == ""
    text = "import pytest\ndef test_other(): pytest.skip('no IPv6')\n"
    assert "1 skipped" in pytest_run(tmp_path, text, SKIPPED_TO=str(together)).stdout
    said = run(sys.executable, "-m", "tests.support.wanting", together)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert in_words([]) == ""
    assert in_words(["caddy"]).startswith("Skipped for want of: caddy (1 test);")


def test_clients_that_are_not_made_by_themselves_are_named_too_and_may_be_missing_in_ci(
    tmp_path: Path,
) -> None:
    made = re.search(r"^MORE_CLIENTS := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert made is not None
    assert made[1].split() == list(MORE_CLIENTS)
    text = "import pytest\n"
    for name in MORE_CLIENTS:
        text += f"def test_{name}(): pytest.skip('{name} is not installed: make more-clients')\n"
    result = pytest_run(tmp_path, text, CI="true")
    assert result.returncode == 0, result.stdout + result.stderr
    line = f"Skipped for want of: {', '.join(MORE_CLIENTS)} (2 tests); `make more-clients` makes what is missing."
    assert line in result.stdout.splitlines()
    assert in_words(["caddy", *MORE_CLIENTS]).splitlines() == [in_words(["caddy"]), line]


def test_in_ci_no_program_may_be_missing(tmp_path: Path) -> None:
    result = pytest_run(tmp_path, _SKIPPING, "-n", "1", CI="true")
    assert result.returncode == 1
    assert re.search(r"1 passed, 1 skipped, 4 errors", result.stdout), result.stdout
    assert "In CI no program may be missing. Skipped: no chromium" in result.stdout


# --- make test -----------------------------------------------------------------------------------


# The marks of the parts, as `make test` chooses them.
PARTS = ("not (alone or waits or machine)", "machine", "waits", "alone")


class Kitchen:
    """A folder with the Makefile and a .venv whose pytest only pretends: one code for each of its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        shutil.copy(ROOT / "Makefile", folder / "Makefile")
        for name in ("requirements.txt", "requirements-dev.txt"):
            (folder / name).touch()
            os.utime(folder / name, (1, 1))
        shutil.copytree(ROOT / "tests/support", folder / "tests/support")

    def test(self, *codes: tuple[int, ...]) -> tuple[int, list[list[str]], str]:
        """Run `make test`; return its exit code, the runs of pytest of each part and the last line.

        Shape: `codes` are those of the runs of each part, by the order of `PARTS`.
        """
        shutil.rmtree(self.log, ignore_errors=True)
        self.log.mkdir()
        cases = []
        for number, (mark, ends) in enumerate(zip(PARTS, codes, strict=True)):
            log = self.log / str(number)
            log.touch()
            turns = [f"      {turn}) exit {code} ;;" for turn, code in enumerate(ends, 1)]
            cases += [
                f'  *" -m {mark}"*) echo "$*" >> "{log}"; echo caddy >> "$SKIPPED_TO"',
                f'    case $(wc -l < "{log}") in',
                *turns,
                "    esac ;;",
            ]
        write_program(
            self.folder / ".venv/bin/python",
            'case "$*" in',
            f'  *wanting*) PYTHONPATH={ROOT} exec "{sys.executable}" "$@" ;;',
            *cases,
            "esac",
        )
        (self.folder / ".venv/dev").touch()
        result = run("make", "--no-print-directory", "test", "CLIENTS=", cwd=self.folder)
        lines = [line for line in result.stdout.splitlines() if line]
        runs = [(self.log / str(number)).read_text("utf-8").splitlines() for number in range(len(PARTS))]
        return result.returncode, runs, lines[-1]


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    if shutil.which("make") is None:
        pytest.skip("make is not installed: apt-get install make")
    return Kitchen(tmp_path)


def test_make_test_runs_every_test_and_ends_with_what_was_skipped(kitchen: Kitchen) -> None:
    for _ in range(2):  # what an earlier run wrote is not told again
        code, runs, last = kitchen.test((0,), (0,), (0,), (0,))
        assert code == 0
        assert last == "Skipped for want of: caddy (4 tests); `make deps` installs what is missing."
    # Together the parts leave nothing out.
    assert [len(each) for each in runs] == [1, 1, 1, 1]
    caches = {re.sub(r".*cache_dir=(\S+).*", r"\1", each[0]) for each in runs}
    assert len(caches) == 4, "those that run beside each other do not mix up what failed"


@pytest.mark.parametrize(
    "codes",
    [
        ((1, 1), (0,), (0,), (0,)),
        ((0,), (1, 1), (0,), (0,)),
        ((0,), (0,), (1, 1), (0,)),
        ((0,), (0,), (0,), (1, 1)),
        ((1, 1), (1, 1), (1, 1), (0,)),
    ],
)
def test_make_test_fails_if_what_failed_fails_again_and_runs_the_other_parts(
    kitchen: Kitchen, codes: tuple[tuple[int, ...], ...]
) -> None:
    code, runs, last = kitchen.test(*codes)
    assert code != 0
    assert [len(each) for each in runs] == [len(each) for each in codes]
    assert all("--last-failed" in again for each in runs for again in each[1:])
    assert last.startswith("Skipped for want of")


@pytest.mark.parametrize("part", range(len(PARTS)))
def test_make_test_passes_if_what_failed_beside_others_passes_alone(kitchen: Kitchen, part: int) -> None:
    codes: list[tuple[int, ...]] = [(0,) for _ in PARTS]
    codes[part] = (1, 0)
    code, runs, _ = kitchen.test(*codes)
    assert code == 0
    first, again = runs[part]
    assert again == f"{first} -n 0 -x --last-failed --last-failed-no-failures none"


@pytest.mark.parametrize("code", [3, 4, 5])
def test_make_test_stops_when_pytest_itself_fails(kitchen: Kitchen, code: int) -> None:
    assert kitchen.test((code,), (0,), (0,), (0,))[0] != 0


def test_make_test_stops_when_it_is_interrupted(kitchen: Kitchen) -> None:
    code, runs, _ = kitchen.test((0,), (0,), (2,), (0,))
    assert code != 0
    _, _, waits, alone = runs
    assert (len(waits), alone) == (1, [])


# --- versions, pins, the public frame --------------------------------------------------------------


def test_changelog_has_a_day_for_every_version_the_newest_first() -> None:
    titles = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    released = [title for title in titles if title != "Unreleased"]
    found = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)", title) for title in released]
    assert all(found), released
    versions = [[int(part) for part in match[1].split(".")] for match in found if match]
    days = [date.fromisoformat(match[2]) for match in found if match]
    assert versions == sorted(versions, reverse=True)
    assert days == sorted(days, reverse=True)
    assert found[0] is not None
    assert found[0][1] == __version__
    assert "Unreleased" not in titles[1:]


def test_build_has_the_same_pins_in_both_places() -> None:
    (listed,) = re.findall(
        r"^\[build-system\]\n(?:#.*\n)*requires = \[(.*)\]$", read("pyproject.toml"), re.MULTILINE
    )
    pins = re.findall(r'"([^"]+)"', listed)
    assert pins
    assert all("==" in pin for pin in pins)
    dev = [re.sub(r"\s*#.*", "", line) for line in read("requirements-dev.txt").splitlines()]
    assert set(pins) <= set(dev)


def test_hooks_before_a_commit_are_those_of_make_and_fetch_nothing() -> None:
    text = read(".pre-commit-config.yaml")
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert re.findall(r"language: (\S+)", text) == ["system"]
    (entry,) = re.findall(r"entry: (.+)", text)
    assert entry == "make --no-print-directory check"
    assert "://" not in text


def test_workflow_runs_the_gate_on_every_python_there_is_support_for() -> None:
    text = read(".github/workflows/ci.yml")
    (listed,) = re.findall(r"^ +python: \[(.*)\]$", text, re.MULTILINE)
    pythons = re.findall(r'"([\d.]+)"', listed)
    (oldest,) = re.findall(r'^requires-python = ">=([\d.]+)"$', read("pyproject.toml"), re.MULTILINE)
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    assert pythons[0] == oldest
    assert re.findall(r"^ +- run: (.+)$", text, re.MULTILINE) == [".ci/run < /dev/null"]
    # It may read the repository and nothing else.
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert "secrets." not in text


@pytest.mark.parametrize("name", ["SECURITY.md", "RELEASING.md"])
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", read(name)):
        assert (ROOT / target).exists(), target


def test_source_archive_leaves_nothing_of_the_repository_out() -> None:
    (listed,) = re.findall(r"^only-include = \[\n(.*?)^\]$", read("pyproject.toml"), re.DOTALL | re.MULTILINE)
    named = set(re.findall(r'"([^"]+)"', listed))
    files = run("git", "ls-files").stdout.split("\n")
    if not files[0]:
        pytest.skip("this is no clone")
    assert {file.split("/")[0].strip('"') for file in files if file} <= named


def test_what_few_have_use_for_is_imported_late() -> None:
    """The start of a small machine: each of these is some hundredth to tenth of it."""
    late = ("python_socks", "aiohttp_socks", "redis", "difflib", "resender.sandbox")
    code = f"import sys, resender.cli.serve; print([name for name in {late!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
