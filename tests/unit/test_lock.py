"""One gateway for each folder, and which others are running; the others are real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resender.cli.main import _parser
from resender.errors import StartError
from resender.lock import _OTHER_COMMANDS, LOCK_NAME, data_dir_lock, running_gateways

ROOT = Path(__file__).resolve().parents[2]
_HOLD = """
import sys
from pathlib import Path
from resender.lock import data_dir_lock
with data_dir_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
_WAIT = "import sys; print('up', flush=True); sys.stdin.read()"


@contextmanager
def started(*command: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says a word when it is ready and ends when its input does."""
    process = subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def holder(folder: Path) -> contextmanager[subprocess.Popen[str]]:  # type: ignore[valid-type]
    return started("-c", _HOLD, str(folder), cwd=ROOT)


def refusal(folder: Path) -> str:
    with pytest.raises(StartError) as caught:
        with data_dir_lock(folder):
            pytest.fail("the lock was given twice")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the lock ----------------------------------------------------------------------------------


def test_second_gateway_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        text = refusal(tmp_path)
        assert f"another gateway (pid {first.pid}) uses the folder {tmp_path}" in text
        # A refused one takes nothing away from the first.
        assert f"(pid {first.pid})" in refusal(tmp_path)


def test_lock_ends_with_a_process_however_that_ends(tmp_path: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        with holder(tmp_path) as first:
            first.send_signal(number)
            assert first.wait(20) == -number
            with data_dir_lock(tmp_path):
                assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_lock_is_given_back_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    with data_dir_lock(tmp_path):
        assert f"(pid {os.getpid()})" in refusal(tmp_path)
    with pytest.raises(ZeroDivisionError):
        with data_dir_lock(tmp_path):
            raise ZeroDivisionError
    with data_dir_lock(tmp_path):
        pass


def test_pid_of_an_older_process_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("4194304444\nold\n")
    with data_dir_lock(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_other_folders_have_locks_of_their_own(tmp_path: Path) -> None:
    with data_dir_lock(tmp_path / "a"), data_dir_lock(tmp_path / "b"):
        assert (tmp_path / "a" / LOCK_NAME).is_file()


def test_lock_file_that_names_nobody_is_another_process(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / LOCK_NAME).write_text("")
        assert "(another process)" in refusal(tmp_path)


def test_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    with data_dir_lock(tmp_path / "new" / "data"):
        assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "new" / "data" / LOCK_NAME).stat().st_mode & 0o777 == 0o600


def test_child_of_a_gateway_does_not_keep_the_lock(tmp_path: Path) -> None:
    with data_dir_lock(tmp_path):
        child = started("-c", _WAIT, close_fds=False)
        child.__enter__()
    try:
        with data_dir_lock(tmp_path):
            pass
    finally:
        child.__exit__(None, None, None)


def test_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = refusal(tmp_path / "file" / "data")
    assert text.startswith(f"{tmp_path / 'file' / 'data' / LOCK_NAME} cannot be used: Not a directory; ")
    assert "choose another DATA_DIR" in text
    (tmp_path / "odd" / LOCK_NAME).mkdir(parents=True)
    assert "cannot be used: Is a directory" in refusal(tmp_path / "odd")


def test_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    mine = os.geteuid()
    if mine == 0:  # root may write anywhere
        os.seteuid(65534)
    try:
        text = refusal(tmp_path)
    finally:
        os.seteuid(mine)
    assert text.startswith(f"{tmp_path / LOCK_NAME} cannot be used: Permission denied; uid ")
    assert "chown -R" in text


# --- who is running ----------------------------------------------------------------------------

COMMANDS = ("demo", "whitelist list", "preload list", "user list", "log on", "doctor", "--data-dir x doctor")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "program" / "run.py"
    path.parent.mkdir()
    path.write_text(_WAIT)
    return path


def found(script: Path) -> dict[int, str]:
    """Return the running processes and one word of their environment."""
    return {pid: environment.get("RESENDER_X", "") for pid, environment in running_gateways(script)}


def environment(word: str) -> dict[str, str]:
    return {**os.environ, "RESENDER_X": word}


def test_running_gateway_is_found_with_its_environment(script: Path) -> None:
    assert found(script) == {}
    with started(str(script), env=environment("a=b c")) as first:
        with started("run.py", "serve", cwd=script.parent, env=environment("second")) as second:
            assert found(script) == {first.pid: "a=b c", second.pid: "second"}


def test_commands_and_the_demo_are_no_gateways(script: Path) -> None:
    for words in COMMANDS:
        with started(str(script), *words.split()):
            assert found(script) == {}, words


def test_every_command_but_serve_is_known_as_no_gateway() -> None:
    words = {word for action in _parser()._actions if action.choices for word in action.choices}
    assert {word.encode() for word in words - {"serve"}} == _OTHER_COMMANDS


def test_same_name_elsewhere_is_another_program(script: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "run.py"
    other.parent.mkdir()
    other.write_text(_WAIT)
    with started(str(other)), started("-c", _WAIT, "run.py", cwd=script.parent) as mention:
        assert set(found(script)) <= {mention.pid}


def test_process_that_ends_meanwhile_is_no_trouble(script: Path) -> None:
    with started(str(script)) as first:
        finding = running_gateways(script)
        first.kill()
        deadline = time.monotonic() + 20
        while first.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert list(finding) == []


# --- as root, in a folder of somebody else's -----------------------------------------------------


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_lock_that_leads_elsewhere_is_neither_written_to_nor_given_away(tmp_path: Path, link: str) -> None:
    """Whoever owns the folder could get any file of root's by it."""
    folder, other = tmp_path / "data", tmp_path / "of-root"
    folder.mkdir()
    other.write_text("what nobody else may have")
    other.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    lock = folder / LOCK_NAME
    if link == "symbolic":
        lock.symlink_to(other)
    else:
        os.link(other, lock)
    assert "cannot be used" in refusal(folder)
    assert other.read_text() == "what nobody else may have"
    assert other.stat().st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_lock_that_root_has_made_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with data_dir_lock(folder):
        assert (folder / LOCK_NAME).stat().st_uid == 65534
