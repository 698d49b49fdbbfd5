"""Where the program lies, and which processes run it: a checkout, an installed command, a module."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from resender import config, places, settings_file
from resender.cli import database
from resender.cli.main import main
from resender.errors import ConfigError
from resender.lock import running_gateways
from resender.places import COMMAND, is_foreign, node_name, starters
from resender.settings_file import read_settings_file

ROOT = Path(__file__).resolve().parents[2]
_WAIT = "import sys; print('up', flush=True); sys.stdin.read()"


@contextmanager
def started(*command: str | Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says a word when it is ready and ends when its input does."""
    process = subprocess.Popen(  # type: ignore[call-overload]
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have the program think that it is installed; return the current folder."""
    for module in (places, settings_file, database):
        monkeypatch.setattr(module, "IS_INSTALLED", True)
    for name in [name for name in os.environ if name.startswith("RESENDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- places --------------------------------------------------------------------------------------


def test_checkout_has_its_settings_data_and_pages_beside_run_py(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not places.IS_INSTALLED
    assert (places.home(), places.STATIC) == (ROOT, ROOT / "admin_static")
    assert config.Config().data_path == ROOT / "data"
    assert ROOT / "run.py" in starters()


def test_installed_package_has_its_settings_and_data_in_the_current_folder(installed: Path) -> None:
    assert config.Config().data_path == installed / "data"
    assert config.Config(data_dir="/var/lib/x").data_path == Path("/var/lib/x")
    assert read_settings_file() == {}
    (installed / "settings.py").write_text("PORT = 8100\n")
    assert read_settings_file() == {"PORT": 8100}


def test_command_that_is_advised_fits_the_place(
    monkeypatch: pytest.MonkeyPatch, installed: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(places, "WRAPPER", tmp_path / "resender")
    assert places.called_as() == "binance-resender"
    monkeypatch.setattr(places, "IS_INSTALLED", False)
    assert places.called_as() == "python run.py"
    (tmp_path / "resender").touch()
    assert places.called_as() == "sudo resender"


def test_current_folder_that_is_gone_is_one_clear_line(
    installed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = installed / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["whitelist", "list"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the current folder cannot be used: ")
    assert said.count("\n") == 1


def test_installed_command_is_among_what_starts_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class File:
        def __init__(self, path: str) -> None:
            self.stem, self.path = Path(path).stem, tmp_path / path

        def locate(self) -> Path:
            return self.path

    files = [File("lib/resender/places.py"), File(f"bin/{COMMAND}")]
    monkeypatch.setattr(places, "distribution", lambda name: SimpleNamespace(files=files))
    assert set(starters()) == {ROOT / "resender", ROOT / "run.py", tmp_path / "bin" / COMMAND}

    def nothing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(places, "distribution", nothing)
    assert set(starters()) == {ROOT / "resender", ROOT / "run.py"}


# --- somebody else's settings --------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_settings_of_another_user_are_not_run(installed: Path) -> None:
    theirs, link = installed / "settings.py", installed / "link.py"
    theirs.write_text(f"open({str(installed / 'ran')!r}, 'w')\nPORT = 1\n")
    assert not is_foreign(theirs)
    os.chown(theirs, 65534, -1)
    with pytest.raises(ConfigError, match="belongs to another user and is not run"):
        read_settings_file()
    assert not (installed / "ran").exists()
    # A link of theirs to a program of ours is not better.
    os.chown(theirs, 0, -1)
    link.symlink_to(theirs)
    assert not is_foreign(link)
    os.lchown(link, 65534, -1)
    assert is_foreign(link)


def test_settings_of_another_process_are_not_run(
    installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    # Without such a file the other one's database is where its own folder and environment say.
    found = database._settings_of({"PWD": str(other)})
    assert found.data_path == other / "data"
    found = database._settings_of({"PWD": str(other), "RESENDER_DATA_DIR": "d"})
    assert found.data_path == other / "d"
    (other / "settings.py").write_text(f"open({str(other / 'ran')!r}, 'w')\nPORT = 1\n")
    with pytest.raises(ConfigError):
        database._settings_of({"PWD": str(other)})
    assert not (other / "ran").exists()
    (installed / "settings.py").write_text("DATA_DIR = 'mine'\n")
    assert database._settings_of({"PWD": str(installed)}).data_path == installed / "mine"


# --- who is running ------------------------------------------------------------------------------


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{_WAIT}\n")
    path.chmod(0o755)
    return path


def pids(*starts: Path) -> list[int]:
    return [pid for pid, _ in running_gateways(*starts)]


def test_installed_command_that_runs_is_a_gateway_wherever_it_was_started(tmp_path: Path) -> None:
    command = write(tmp_path / "env/bin" / COMMAND)
    link = tmp_path / COMMAND
    link.symlink_to(command)
    for words in ([command], [command, "serve", "--port", "0"], [link]):
        with started(*words, cwd="/") as gateway:
            ((pid, environment),) = running_gateways(tmp_path / "run.py", command)
            assert (pid, environment["PWD"]) == (gateway.pid, "/")
            assert pids(tmp_path / "run.py") == []
    for words in (["demo"], ["whitelist", "list"], ["doctor"]):
        with started(command, *words):
            assert pids(command) == [], words


def test_program_that_only_names_the_command_is_no_gateway(tmp_path: Path) -> None:
    command = write(tmp_path / "env/bin" / COMMAND)
    with started("/bin/sh", "-c", "echo up; read line", command):
        assert pids(command) == []
    with started(write(tmp_path / "other/bin" / COMMAND)):
        assert pids(command) == []
    with started(sys.executable, "-c", _WAIT, command), started(sys.executable, "-Ic", _WAIT, command):
        assert pids(command) == []
    tool = write(tmp_path / "tool.py")
    with started(sys.executable, tool, command), started(sys.executable, "-X", "dev", tool, "resender"):
        assert pids(command, tmp_path / "resender") == []


def test_options_of_python_hide_nothing(tmp_path: Path) -> None:
    command = write(tmp_path / "env/bin" / COMMAND)
    package = write(tmp_path / "resender/__main__.py").parent
    for words in (["-I", "-W", "error", command], ["-X", "utf8", command], ["-um", "resender"]):
        with started(sys.executable, *words, cwd=tmp_path) as gateway:
            assert pids(command, package) == [gateway.pid], words


def test_module_that_runs_is_a_gateway_if_it_is_this_one(tmp_path: Path) -> None:
    package = write(tmp_path / "here/resender/__main__.py").parent
    other = tmp_path / "bin/python3"
    other.parent.mkdir()
    other.symlink_to(os.path.realpath(sys.executable))
    # By its folder, whatever Python runs it.
    with started(other, "-m", "resender", "serve", cwd=package.parent) as gateway:
        assert pids(package) == [gateway.pid]
    with started(other, "-m", "resender", "demo", cwd=package.parent):
        assert pids(package) == []
    # Elsewhere by its Python, which has the packages of this one.
    elsewhere = write(tmp_path / "elsewhere/resender/__main__.py").parent
    with started(sys.executable, "-m", "resender", cwd=elsewhere.parent) as gateway:
        assert pids(package) == [gateway.pid]
    path = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    name = Path(sys.executable).name
    with started(name, "-m", "resender", cwd=elsewhere.parent, env=path) as gateway:
        assert pids(package) == [gateway.pid]
    with started(other, "-m", "resender", cwd=elsewhere.parent):
        assert pids(package) == []


def test_name_is_the_chosen_one_or_made_of_host_and_port() -> None:
    assert node_name("gw1", 8000) == "gw1"
    assert node_name("", 8000) == f"{socket.gethostname()}:8000"
    assert node_name("", 0) == f"{socket.gethostname()}:pid-{os.getpid()}"


def test_client_of_redis_is_imported_by_those_who_have_one_only() -> None:
    code = "import sys, resender.cli.serve, resender.cli.workers; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
