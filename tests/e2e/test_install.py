"""The one command that installs the service: `deploy/install.sh`, on a Debian made for it, and what it says."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.e2e

INSTALL = ROOT / "deploy/install.sh"
TRIAL = ROOT / "deploy/test-install.sh"
TEXT = INSTALL.read_text("utf-8")
#: What speaks to the user, each with an English and a Chinese text first.
SPEAKERS = "say|step|note|wrong|fail|ask|words"
TRIAL_S = 900
CHINESE = re.compile(r"[\u4e00-\u9fff]")
#: As much of the source archive as a server has no use for.
NOT_INSTALLED = {
    ".ci", ".dockerignore", ".github", ".gitignore", ".pre-commit-config.yaml", "CONTRIBUTING.md", "RELEASING.md",
    "bench", "mkdocs.yml", "requirements-dev.txt", "requirements-docs.txt", "tests", "tools",
}  # fmt: skip


def call(*words: str, user: int | None = None, lang: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    """Call it by its text: another user may not get at the file."""
    return subprocess.run(
        ["sh", "-s", "--", *words],
        input=TEXT,
        env={"PATH": os.environ["PATH"], "LANG": lang},
        cwd="/",
        user=user,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def nobody() -> int | None:
    """Return a user that is not root."""
    return 65534 if os.geteuid() == 0 else None


# --- on a machine of its own ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.machine
@pytest.mark.timeout(TRIAL_S + 60)
def test_install_update_way_back_and_removal_on_a_debian_of_its_own() -> None:
    trial = subprocess.Popen(
        [TRIAL],
        env={**os.environ, "LIMIT_S": str(TRIAL_S)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = trial.communicate(timeout=TRIAL_S + 30)
    except BaseException:
        # It ends what it started.
        trial.send_signal(signal.SIGTERM)
        trial.communicate(timeout=20)
        raise
    if trial.returncode == 77:
        pytest.skip(said.strip().splitlines()[-1])
    assert trial.returncode == 0, said
    print(said)


# --- without one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_scripts_can_be_read_by_every_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    subprocess.run([shell, "-n", INSTALL], check=True)
    subprocess.run(["bash", "-n", TRIAL], check=True)


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    result = subprocess.run(["shellcheck", "-x", INSTALL, TRIAL], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def texts() -> Iterator[tuple[str, str]]:
    between = r"[ \t]*(?:\\\n[ \t]*)?"
    quoted = r"'([^']*)'"
    found = re.compile(
        rf"\b(?:{SPEAKERS}|confirm [yn]){between} {between}{quoted}{between} {between}{quoted}"
    )
    yield from found.findall(TEXT)


def test_every_line_it_says_is_there_in_both_languages() -> None:
    found = list(texts())
    for english, chinese in found:
        if english == chinese:  # the one line for those who cannot read the other
            continue
        assert not CHINESE.search(english), english
        assert CHINESE.search(chinese), chinese
        assert english.count("%s") == chinese.count("%s"), english
        assert english.count("%") == english.count("%s"), english
        assert chinese.count("%") == chinese.count("%s"), chinese
    # None is said by other means.
    called = re.findall(
        rf"(?:^|[;&|{{(]|\bthen|\belse|\bdo)[ \t]*(?:(?:{SPEAKERS}) |confirm [yn] )", TEXT, re.MULTILINE
    )
    handed_on = re.findall(rf"^\s*(?:{SPEAKERS}) \"\$@\"|\{{ words \"\$@\"", TEXT, re.MULTILINE)
    assert len(found) > 80
    assert len(found) >= len(called) - len(handed_on)
    beside = TEXT
    for text in sorted((text for pair in found for text in pair), key=len, reverse=True):
        beside = beside.replace(text, "")
    assert [line for line in beside.splitlines() if CHINESE.search(line)] == [
        "    case ${answer:-$default} in [yY]* | 是*) return 0 ;; *) return 1 ;; esac"
    ]


def test_help_is_told_in_the_language_of_the_locale_or_the_chosen_one() -> None:
    english, chinese = call("--help"), call("--help", lang="zh_CN.UTF-8")
    assert (english.returncode, chinese.returncode) == (0, 0)
    assert english.stdout.startswith("Usage: ")
    assert chinese.stdout.startswith("用法：")
    assert call("--language", "zh", "--help").stdout == chinese.stdout
    assert call("--language=en", "--help", lang="zh_CN.UTF-8").stdout == english.stdout
    options = set(re.findall(r"^  (--[a-z-]+)", english.stdout, re.MULTILINE))
    assert options == set(re.findall(r"^  (--[a-z-]+)", chinese.stdout, re.MULTILINE))
    # What is understood is told.
    parsed = re.search(r"^parse\(\) \{.*?^\}", TEXT, re.MULTILINE | re.DOTALL)
    assert parsed is not None
    assert options == set(re.findall(r"--[a-z-]+", parsed[0])) - {"--"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--nonsense"], "no option --nonsense"),
        (["--port"], "--port needs a value"),
        (["--port", "0"], "1 to 65535"),
        (["--port", "65536"], "1 to 65535"),
        (["--port", "80; reboot"], "1 to 65535"),
        (["--domain", "nodots"], "gateway.example.com"),
        (["--domain", "a.example { }"], "gateway.example.com"),
        (["--whitelist", "203.0.113.5;reboot"], "203.0.113.0/24"),
        (["--tls-key", "/etc/passwd"], "--tls-key belongs to --tls-cert"),
        (["--tls-cert", "/no/such/file"], "/no/such/file cannot be read"),
        (["--keep-data"], "--keep-data belongs to --uninstall"),
        (["--language", "fr"], "en or zh"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(words: list[str], why: str) -> None:
    result = call(*words, user=nobody())
    assert (result.returncode, result.stdout) == (2, "")
    assert why in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("lang", "why"), [("C", "Call it as root"), ("zh_CN.UTF-8", "请以 root 运行")])
def test_who_is_not_root_is_told_so(lang: str, why: str) -> None:
    result = call("--yes", "--whitelist=203.0.113.5", user=nobody(), lang=lang)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(why)
    assert len(result.stderr.splitlines()) == 1


def test_what_is_copied_is_the_source_archive_without_what_only_developers_need() -> None:
    found = re.search(r'^readonly NAMES="([^"]*)"', TEXT, re.MULTILINE)
    listed = re.search(
        r"^only-include = (\[.*?^\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    assert listed is not None
    names = found[1].split()
    assert names == sorted(names)
    assert set(ast.literal_eval(listed[1])) - set(names) <= NOT_INSTALLED
    assert set(names) <= set(ast.literal_eval(listed[1]))


def test_python_inside_of_it_can_be_read(tmp_path: Path) -> None:
    parts = re.findall(r"<<'END'\n(.*?)^END$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(parts) == 2
    for part in parts:
        compile(part, "install.sh", "exec")
