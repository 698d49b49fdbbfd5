"""The source archive and the wheel: what is in them, and the program out of the wheel alone.

The wheel is built from the archive, as `make package` does it, and installed into an empty virtual
environment with what it asks for. That needs the package index pip is set up with; without a
connection those tests are skipped, in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

import pytest

from resender import __version__
from tests.support.processes import PATIENCE_S, ROOT, call, environment, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

NAME = f"binance_resender-{__version__}"


def run(*command: str | Path, cwd: Path, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run a tool with the environment as it is, but for the gateway's settings and pytest's own."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("RESENDER_", "PYTEST_", "PYTHON"))}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the archive and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    result = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in folder.iterdir()) == [f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"]
    return folder


@pytest.fixture(scope="module")
def bin_folder(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("empty")
    made = run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    python = folder / "venv/bin/python"
    words = ("install", "--quiet", "--retries", "1", built / f"{NAME}-py3-none-any.whl")
    result = run(sys.executable, "-m", "pip", "--python", python, *words, cwd=folder)
    is_alone = re.search("connection|unreachable|name resolution|timed out", result.stderr, re.IGNORECASE)
    if result.returncode and is_alone and not os.environ.get("CI"):
        pytest.skip("the package index cannot be reached")
    assert result.returncode == 0, result.stderr
    return python.parent


class Installed:
    """The installed program as a process, in a folder of its own choice."""

    def __init__(self, folder: Path, *command: str | Path, **settings: object) -> None:
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        values = {"HOST": "127.0.0.1", "PORT": 0, **settings}
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env=environment(values),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def port(self) -> int:
        def look() -> str:
            found = re.search(r" serves on \S+ port (\d+)", self.stderr.read_text("utf-8"))
            assert found or self.process.poll() is None, self.stderr.read_text("utf-8")
            return found[1] if found else ""

        return int(until(look, "the program listens"))

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit code, standard output and standard error."""
        code = self.process.wait(PATIENCE_S)
        return code, self.stdout.read_text("utf-8"), self.stderr.read_text("utf-8")


@contextmanager
def serving(folder: Path, *command: str | Path, **settings: object) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and process id; it has to end well."""
    folder.mkdir(exist_ok=True)
    program = Installed(folder, *command, **settings)
    try:
        yield program.port(), program.process.pid
        program.process.send_signal(signal.SIGTERM)
        code, _, said = program.end()
        assert code == 0, said
        assert "Traceback" not in said
    finally:
        program.process.kill()
        program.process.wait(PATIENCE_S)


def answer(folder: Path, *command: str | Path, **settings: object) -> tuple[int, str, str]:
    """Run a command to its end."""
    folder.mkdir(exist_ok=True)
    return Installed(folder, *command, **settings).end()


# --- what is in them -----------------------------------------------------------------------------


def test_wheel_holds_the_program_its_pages_and_its_migrations_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
        scripts = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode().split()
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "resender").rglob("*.py")}
    pages = (path for path in (ROOT / "admin_static").rglob("*") if path.is_file())
    # Of `upgrade --check`, of the command line.
    texts = {"resender/CHANGELOG.md", "resender/cli/words.zh.json"}
    assert names == own | texts | {f"resender/{path.relative_to(ROOT).as_posix()}" for path in pages}
    assert any("/migrations/0001_" in name for name in names)
    assert scripts == ["[console_scripts]", "binance-resender", "=", "resender.__main__:run"]


def test_wheel_asks_for_the_packages_of_requirements_txt(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        about = Parser().parsestr(wheel.read(f"{NAME}.dist-info/METADATA").decode())
    text = (ROOT / "requirements.txt").read_text("utf-8")
    lines = [re.sub(r"\s+#.*|^#.*", "", line).strip() for line in text.splitlines()]

    def plain(text: str) -> str:
        return re.sub(r"[\s\"']", "", text)

    assert sorted(map(plain, about.get_all("Requires-Dist", []))) == sorted(plain(x) for x in lines if x)
    assert (about["Version"], about["Requires-Python"]) == (__version__, ">=3.10")


def test_source_archive_holds_the_repository_but_no_data(built: Path, tmp_path: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"run.py", "settings.py", "requirements.txt", "Makefile", ".ci/run", ".ci/packages"} <= names
    assert {"admin_static/front.html", "tests/e2e/test_package.py", "deploy/resender"} <= names
    assert not [name for name in names if re.search(r"\.db$|\.pyc$|^data/|^\.venv|^\.git/", name)]


# --- the program out of the wheel ------------------------------------------------------------------


def test_demo_out_of_the_wheel_answers_and_keeps_its_data_where_it_was_started(
    bin_folder: Path, tmp_path: Path
) -> None:
    with serving(tmp_path, bin_folder / "binance-resender", "demo") as (port, _):
        price = call(port, "GET", "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
        assert (price.status, b'"symbol":"BTCUSDT"' in price.body) == (200, True)
        assert call(port, "GET", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3").status == 200
        # The front page, a page of the admin and what it loads: our own, and of packages.
        assert f"{__version__}".encode() in call(port, "GET", "/").body
        page = call(port, "GET", "/admin/login")
        assert page.status == 200
        files = re.findall(rb'(?:href|src)="(/admin/(?:static|vendor)/[^"]+)"', page.body)
        assert len(files) > 2
        for file in files:
            assert call(port, "GET", file.decode()).status == 200, file
    assert (tmp_path / "data/demo/resender.db").is_file()
    assert not list(bin_folder.parent.rglob("*.db"))


def test_module_and_command_are_the_same_program(bin_folder: Path, tmp_path: Path) -> None:
    for command in ([bin_folder / "binance-resender"], [bin_folder / "python", "-m", "resender"]):
        assert answer(tmp_path, *command, "--version") == (0, f"Binance Resender {__version__}\n", "")
        assert answer(tmp_path, *command, "--help")[1].startswith("usage: binance-resender ")
        code, _, said = answer(tmp_path, *command, "whitelst")
        assert (code, said.startswith("usage: binance-resender ")) == (2, True)
    assert not (tmp_path / "data").exists()


def test_settings_file_of_the_current_folder_is_read(bin_folder: Path, tmp_path: Path) -> None:
    command = bin_folder / "binance-resender"
    (tmp_path / "settings.py").write_text("DATA_DIR = 'mine'\n", "utf-8")
    code, said, _ = answer(tmp_path, command, "whitelist", "add", "203.0.113.5")
    assert code == 0
    assert f"(database {tmp_path}/mine/resender.db)" in said
    (tmp_path / "settings.py").write_text("PROT = 8100\n", "utf-8")
    code, _, error = answer(tmp_path, command, "whitelist", "list")
    assert (code, error) == (2, "error: settings.py: PROT: there is no such setting (did you mean PORT?).\n")
    # The one of the repository works there too.
    shutil.copy(ROOT / "settings.py", tmp_path)
    assert answer(tmp_path, command, "whitelist", "list")[0] == 0


def test_command_in_another_folder_is_told_of_the_gateway_that_runs(bin_folder: Path, tmp_path: Path) -> None:
    program = bin_folder / "binance-resender"
    nowhere = {f"UPSTREAM_{name}": "off" for name in ("API", "FAPI", "DAPI", "EAPI", "PAPI")}
    starts = ([program], [bin_folder / "python", "-m", "resender", "serve"])
    for number, start in enumerate(starts):
        here, elsewhere = tmp_path / f"here{number}", tmp_path / "elsewhere"
        with serving(here, *start, **nowhere, CACHE_ENABLED="false") as (_, pid):
            code, said, warning = answer(elsewhere, program, "whitelist", "add", "203.0.113.5")
            assert (code, f"(database {elsewhere}/data/resender.db)" in said) == (0, True)
            database = here / "data/resender.db"
            assert f"(pid {pid}) uses another database, {database}: it does not see this" in warning
            again = tmp_path / f"again{number}"
            code, said, warning = answer(
                again, program, "--data-dir", str(here / "data"), "whitelist", "add", "203.0.113.6"
            )
            assert (code, warning) == (0, ""), warning
