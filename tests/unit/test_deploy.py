"""What is shipped for a server: service file, wrapper, fail2ban, firewall rule, Makefile, backup.

The files are tried with the programs that will read them, where those are installed (in CI they
have to be): systemd-analyze, nft, fail2ban-regex, make. Nothing outside a test's folder changes.
"""

from __future__ import annotations

import configparser
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from resender.cli.main import EXIT_USAGE
from resender.log import JournalFormatter, JsonFormatter
from resender.systemd import _STATUS_EVERY_S

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "binance-resender.service"
#: The pages that tell how to set a server up, in both languages.
PAGES = ("docs/start/install{}.md", "docs/operate/firewall-tls{}.md")
LANGUAGES = ("", ".zh")
each_language = pytest.mark.parametrize("name", LANGUAGES, ids=["en", "zh"])


def find_program(name: str, package: str) -> str:
    """Return the path of a program of the system; skip the test where it is missing, in CI fail."""
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        reason = f"{name} is not installed: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a failure is the test's to judge."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def write_program(path: Path, *lines: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), "utf-8")
    path.chmod(0o755)
    return path


def block(name: str, word: str) -> str:
    """Return the one code block of a language's pages that has a word in it."""
    text = "\n\n".join((ROOT / page.format(name)).read_text("utf-8") for page in PAGES)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (found,) = [code for code in blocks if word in code]
    return str(found)


# --- the service file ----------------------------------------------------------------------------


def read_unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return parser["Service"]


def test_service_is_told_when_the_program_serves_and_when_it_hangs() -> None:
    service = read_unit()
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    # One sign of life may be lost.
    assert int(service["WatchdogSec"]) >= 2 * _STATUS_EVERY_S
    # sd_notify speaks through such a socket.
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()
    assert int(service["TimeoutAbortSec"]) < int(service["TimeoutStopSec"])


def test_service_starts_again_after_failures_but_not_after_what_cannot_work() -> None:
    service = read_unit()
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(EXIT_USAGE) == "2"
    assert 0 < int(service["RestartSec"]) < int(service["RestartMaxDelaySec"])
    assert int(service["RestartSteps"]) > 1


def test_service_has_a_name_in_the_journal_and_no_memory_image() -> None:
    service = read_unit()
    assert service["SyslogIdentifier"] == "binance-resender"
    assert service["LimitCORE"] == "0"
    assert service["UMask"] == "0077"


def test_service_file_is_understood_by_systemd(tmp_path: Path) -> None:
    program = find_program("systemd-analyze", "systemd")
    copy = tmp_path / UNIT.name
    text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text("utf-8"), flags=re.MULTILINE)
    copy.write_text(text, "utf-8")
    result = run(program, "verify", copy)
    complaints = [line for line in result.stderr.splitlines() if UNIT.name in line]
    # Before systemd 254 these two are not known, and it says so.
    unknown = re.compile(r"Unknown key(?: name)? '(?:RestartSteps|RestartMaxDelaySec)' in section")
    assert [line for line in complaints if not unknown.search(line)] == []
    assert result.returncode == 0, result.stderr


# --- the wrapper ---------------------------------------------------------------------------------

#: Lines of an environment file, and the values systemd makes of them.
QUOTING = [
    ("RESENDER_A=plain", "plain"),
    ("RESENDER_A=", ""),
    ("  RESENDER_A = blanks around   ", "blanks around"),
    ("RESENDER_A=tab\t ", "tab"),
    ('RESENDER_A="in double quotes"', "in double quotes"),
    ("RESENDER_A='in single quotes'", "in single quotes"),
    ('RESENDER_A="blanks at the end  "  ', "blanks at the end  "),
    ("RESENDER_A='a \"b\" $c \\d'", 'a "b" $c \\d'),
    ('RESENDER_A="a \\"b\\" \\$c \\d \\\\"', 'a "b" $c \\d \\'),
    ("RESENDER_A=a#b # no comment", "a#b # no comment"),
    ('RESENDER_A="a # b"', "a # b"),
    ('RESENDER_A="a" # b', "a# b"),
    ("RESENDER_A=it's", "it's"),
    ("RESENDER_A='two '\"parts\" joined", "two partsjoined"),
    ("RESENDER_A=a\\ b\\\\c\\'", "a b\\c'"),
    ("RESENDER_A=blank at the end\\ ", "blank at the end "),
    ("RESENDER_A=a\\\nb", "ab"),
    ('RESENDER_A="two\nlines"', "two\nlines"),
    ("RESENDER_A=um:*USDT@1m,bookTicker;spot:BTCUSDT@1h", "um:*USDT@1m,bookTicker;spot:BTCUSDT@1h"),
    ("RESENDER_A=hk=socks5://u:p@h:1080;markets=um+cm", "hk=socks5://u:p@h:1080;markets=um+cm"),
    ("RESENDER_A=first\nRESENDER_A=last", "last"),
    ("RESENDER_A=\u4e2d\u6587", "\u4e2d\u6587"),
]


class Wrapper:
    """A copy of `deploy/resender` for a folder of a test, and a `runuser` that tells what it got."""

    def __init__(self, folder: Path) -> None:
        self.settings = folder / "resender.env"
        self.opt = folder / "opt"
        self.opt.mkdir()
        text = (DEPLOY / "resender").read_text("utf-8")
        for old, new in (("/etc/binance-resender.env", self.settings), ("/opt/binance-resender", self.opt)):
            assert text.count(f'"{old}"') == 1
            text = text.replace(f'"{old}"', f'"{new}"')
        self.path = folder / "resender"
        self.path.write_text(text, "utf-8")
        self.path.chmod(0o755)
        self.words, self.variables = folder / "words", folder / "variables"
        write_program(
            folder / "bin/runuser",
            f'printf "%s\\0" "$@" > "{self.words}"; env -0 > "{self.variables}"',
        )
        self.bin = folder / "bin"

    def call(
        self, text: str, *words: str, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str], dict[str, str]]:
        self.settings.write_text(text, "utf-8")
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        result = run(self.path, *words, env={"PATH": path, **environment})
        if not self.words.exists():
            return result, [], {}
        pairs = self.variables.read_text("utf-8").split("\0")[:-1]
        variables = dict(pair.split("=", 1) for pair in pairs)
        return result, self.words.read_text("utf-8").split("\0")[:-1], variables


@pytest.fixture
def wrapper(tmp_path: Path) -> Wrapper:
    return Wrapper(tmp_path)


@pytest.mark.parametrize(("line", "value"), QUOTING)
@pytest.mark.parametrize("end", ["\n", ""], ids=["end of line", "end of file"])
def test_wrapper_reads_a_value_as_systemd_does(wrapper: Wrapper, line: str, value: str, end: str) -> None:
    result, _, variables = wrapper.call(f"# a comment\n; another\n\nRESENDER_B=b\n{line}{end}")
    assert result.returncode == 0, result.stderr
    assert variables["RESENDER_A"] == value
    assert variables["RESENDER_B"] == "b"


def test_wrapper_runs_the_command_as_the_services_user_and_keeps_its_words(wrapper: Wrapper) -> None:
    result, arguments, _ = wrapper.call(
        "RESENDER_A=1\n", "whitelist", "add", "203.0.113.5", "--note", "server A's", ""
    )
    assert result.returncode == 0
    assert arguments == [
        "-u", "resender", "--", ".venv/bin/python", "run.py",
        "whitelist", "add", "203.0.113.5", "--note", "server A's", "",
    ]  # fmt: skip


def test_wrapper_hands_over_everything_the_service_gets_and_nothing_odd(wrapper: Wrapper) -> None:
    text = "SSL_CERT_FILE=/etc/ca.pem\nno assignment\n1BAD=x\nBAD NAME=y\n#RESENDER_C=comment\nRESENDER_D=d\n"
    _, _, variables = wrapper.call(text, RESENDER_D="of the caller", RESENDER_E="e")
    assert variables["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert variables["RESENDER_D"] == "d"
    assert variables["RESENDER_E"] == "e"
    assert {"RESENDER_C", "1BAD", "BAD NAME", "no assignment"}.isdisjoint(variables)


def test_wrapper_reads_the_shipped_settings(wrapper: Wrapper) -> None:
    _, _, variables = wrapper.call((DEPLOY / "binance-resender.env").read_text("utf-8"))
    ours = {name: value for name, value in variables.items() if name.startswith("RESENDER_")}
    assert ours == {"RESENDER_DATA_DIR": "/var/lib/binance-resender"}


def test_wrapper_says_in_one_line_what_is_missing(wrapper: Wrapper) -> None:
    result, _, _ = wrapper.call("# a comment that ends with \\\nRESENDER_A=1\n")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "backslash" in result.stderr
    wrapper.settings.unlink()
    result = run(wrapper.path, "doctor")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert str(wrapper.settings) in result.stderr
    wrapper.settings.write_text("RESENDER_A=1\n", "utf-8")
    wrapper.opt.rmdir()
    result = run(wrapper.path, "doctor")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert str(wrapper.opt) in result.stderr


# --- fail2ban ------------------------------------------------------------------------------------

ADDRESSES = ("203.0.113.9", "2001:db8::9")
TEXTS = ("refused {}: not in the whitelist", "refused {}: not in ADMIN_WHITELIST", "failed log-in from {}")
MORE = " (3 more like this since the last such line)"


def log_lines(text: str, logger: str = "resender.access") -> list[str]:
    """Write a line of the log in every form fail2ban may meet, with the program's own formatters."""
    record = logging.LogRecord(logger, logging.WARNING, "", 0, text, None, None)
    journal = re.sub(r"^<\d>", "", JournalFormatter().format(record))
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s").format(record)
    moment = logging.Formatter("%(asctime)s").format(record)[:19].replace(" ", "T")
    return [f"{moment} host binance-resender[12]: {journal}", plain, JsonFormatter().format(record)]


def test_lines_for_fail2ban_are_the_programs() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "resender").rglob("*.py"))
    for text in TEXTS:
        assert f'f"{text.format("{self.ip}")}"' in source, text
    assert 'getLogger("resender.access")' in source
    assert f"{MORE.replace('3', '{unsaid}')}" in source


def ask_fail2ban(folder: Path, lines: list[str]) -> list[str]:
    """Return the addresses fail2ban finds, one for each line it takes."""
    program = find_program("fail2ban-regex", "fail2ban")
    common = Path("/etc/fail2ban/filter.d/common.conf")
    shutil.copy(common, folder / "common.conf")
    shutil.copy(DEPLOY / "fail2ban/filter.conf", folder / "binance-resender.conf")
    log = folder / "lines.log"
    log.write_text("\n".join([*lines, ""]), "utf-8")
    result = run(program, "-o", "ip", log, folder / "binance-resender.conf")
    assert result.returncode in (0, 255), result.stderr
    return result.stdout.split()


def test_fail2ban_takes_every_line_of_strangers(tmp_path: Path) -> None:
    for address in ADDRESSES:
        texts = [text.format(address) + more for text in TEXTS for more in ("", MORE)]
        lines = [line for text in texts for line in log_lines(text)]
        assert ask_fail2ban(tmp_path, lines) == [address] * len(lines)


def test_fail2ban_is_not_misled_by_what_others_write(tmp_path: Path) -> None:
    good = TEXTS[0].format(ADDRESSES[0])
    lines = [
        *log_lines(f"resender.access: {good}", "resender.gateway"),
        *log_lines(f'"level":"WARNING","logger":"resender.access","msg":"{good}', "resender.gateway"),
        *log_lines(f"{good} or so"),
        *log_lines(TEXTS[0].format("unknown")),
        f"2026-11-28T11:00:07 host other[12]: resender.access: {good}",
    ]
    assert ask_fail2ban(tmp_path, lines) == []


def test_jail_uses_the_filter_and_never_shuts_out_the_machine_itself() -> None:
    jail = configparser.ConfigParser(interpolation=None)
    jail.read_string((DEPLOY / "fail2ban/jail.conf").read_text("utf-8"))
    section = jail["binance-resender"]
    assert section["filter"] == "binance-resender"
    assert {"127.0.0.1/8", "::1"} <= set(section["ignoreip"].split())
    for name in LANGUAGES:
        code = block(name, "deploy/fail2ban/filter.conf")
        assert "/etc/fail2ban/filter.d/binance-resender.conf" in code
        assert "/etc/fail2ban/jail.d/binance-resender.conf" in code


# --- the firewall --------------------------------------------------------------------------------

# In a network of its own: the rule in force, a server on every address, calls from the machine itself
# and from an address that may not. `ip` is not needed for it.
_TRY_RULE = """
import fcntl, socket, struct, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # SIOCSIFFLAGS: lo goes up
subprocess.run([sys.argv[1], "-f", sys.argv[2]], check=True)
for port in (8000, 22):
    with socket.create_server(("127.0.0.1", port)) as server:
        with socket.create_connection(("127.0.0.1", port), 3):
            print("reached", port)
"""


@each_language
def test_firewall_rule_lets_the_machine_itself_the_clients_and_ssh_in(name: str) -> None:
    lines = [line.strip() for line in block(name, "chain input").splitlines()]
    rules = lines[lines.index("type filter hook input priority 0; policy accept;") + 1 : lines.index("}")]
    assert rules[:2] == ['iif "lo" accept', "ct state established,related accept"]
    assert rules[-1] == "tcp dport 8000 drop"
    # Nothing but the gateway's port is ever dropped: not SSH.
    assert [rule for rule in rules if "drop" in rule] == rules[-1:]
    # Server A, and whoever opens the admin pages.
    assert "tcp dport 8000 ip saddr { 203.0.113.5, 198.51.100.7 } accept" in rules
    assert "enable --now nftables" in block(name, "nft -c -f")
    for address in ("203.0.113.5", "198.51.100.7"):
        assert f"ufw allow from {address} to any port 8000 proto tcp" in block(name, "ufw enable")


def test_firewall_rule_is_understood_and_in_force_lets_the_machine_itself_in(tmp_path: Path) -> None:
    nft, python = find_program("nft", "nftables"), find_program("python3", "python3")
    rules = tmp_path / "rules.nft"
    rules.write_text(block("", "chain input"), "utf-8")
    own_network = ["unshare", "--map-root-user", "--net"]
    if run(*own_network, nft, "list", "ruleset").returncode:
        pytest.skip("this machine allows no network of one's own")
    assert run(*own_network, nft, "-c", "-f", rules).stderr == ""
    result = run(*own_network, python, "-c", _TRY_RULE, nft, rules)
    assert result.stdout.splitlines() == ["reached 8000", "reached 22"], result.stderr


# --- backup --------------------------------------------------------------------------------------


@each_language
def test_backup_of_the_pages_is_whole_and_for_its_owner_only(name: str, tmp_path: Path) -> None:
    data, backups = tmp_path / "data", tmp_path / "backups"
    environment = os.environ | {"RESENDER_DATA_DIR": str(data)}
    program = f"{sys.executable} {ROOT / 'run.py'}"
    code = block(name, "resender backup").replace(" -o resender -g resender", "")
    code = code.replace("/var/lib/binance-resender-backup", str(backups)).replace(
        "resender backup", f"{program} backup"
    )
    for words in (f"{program} whitelist add 203.0.113.5", code):
        done = subprocess.run(
            ["bash", "-euc", words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(backups.stat().st_mode) == 0o700
    (file,) = backups.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    done = subprocess.run(
        ["bash", "-euc", f"{program} restore {file} --without-settings && {program} whitelist list"],
        env=environment | {"RESENDER_DATA_DIR": str(tmp_path / "other")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "203.0.113.5" in done.stdout, done.stderr


# --- make ----------------------------------------------------------------------------------------


class Kitchen:
    """A folder with the Makefile and a Python that only pretends."""

    def __init__(self, folder: Path) -> None:
        find_program("make", "make")
        self.folder = folder
        for name in ("requirements.txt", "requirements-dev.txt"):
            (folder / name).write_text("", "utf-8")
            os.utime(folder / name, (1, 1))
        shutil.copy(ROOT / "Makefile", folder / "Makefile")
        self.log = folder / "log"
        self.log.touch()

    def python(self, *, is_old: bool = False, has_venv: bool = True, makes: str = "good") -> Path:
        """Write a Python; `makes` tells whether what it makes is `good` or `broken`."""
        return write_program(
            self.folder / "python",
            f'echo "python $*" >> "{self.log}"',
            'case "$*" in',
            f"  *version_info*) exit {int(is_old)} ;;",
            f"  *ensurepip*) exit {int(not has_venv)} ;;",
            '  -V) echo "Python 3.9.2" ;;',
            f'  "-m venv "*) mkdir -p "$3/bin"; cp "{self.folder}/{makes}" "$3/bin/python" ;;',
            "esac",
        )

    def inside(self, name: str, *, works: bool) -> Path:
        """Write what stands for a Python in a virtual environment."""
        return write_program(
            self.folder / name,
            f'echo "inside $*" >> "{self.log}"',
            f'case "$*" in *pip*version_info*) exit {int(not works)} ;; esac',
        )

    def make(self, target: str = ".venv/runtime", **settings: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("", "utf-8")
        settings.setdefault("PYTHON", str(self.folder / "python"))
        words = [f"{name}={value}" for name, value in settings.items()]
        return run("make", "--no-print-directory", target, *words, cwd=self.folder)

    def did(self, words: str) -> int:
        return sum(words in line for line in self.log.read_text("utf-8").splitlines())


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    kitchen = Kitchen(tmp_path)
    kitchen.inside("good", works=True)
    kitchen.inside("broken", works=False)
    return kitchen


def test_make_makes_an_environment_once_and_installs_only_what_is_new(kitchen: Kitchen) -> None:
    kitchen.python()
    assert kitchen.make().returncode == 0
    assert (kitchen.did("-m venv .venv"), kitchen.did("pip install")) == (1, 1)
    assert kitchen.make().returncode == 0
    assert (kitchen.did("-m venv"), kitchen.did("pip install")) == (0, 0)
    (kitchen.folder / "requirements.txt").touch()
    os.utime(kitchen.folder / ".venv/runtime", (2, 2))
    assert kitchen.make().returncode == 0
    assert (kitchen.did("-m venv"), kitchen.did("pip install")) == (0, 1)


def test_make_says_which_python_it_needs_and_makes_nothing(kitchen: Kitchen) -> None:
    kitchen.python(is_old=True)
    result = kitchen.make()
    assert result.returncode == 2
    assert "needs Python 3.10 or newer" in result.stderr
    assert "Python 3.9.2" in result.stderr
    assert not (kitchen.folder / ".venv").exists()
    missing = kitchen.make(PYTHON="python-that-is-not-there")
    assert missing.returncode == 2
    assert "apt-get install python3 python3-venv" in missing.stderr


def test_make_names_the_package_that_is_missing_and_leaves_nothing_half_made(kitchen: Kitchen) -> None:
    kitchen.python(has_venv=False)
    result = kitchen.make()
    assert result.returncode == 2
    assert "apt-get install python3-venv" in result.stderr
    assert not (kitchen.folder / ".venv").exists()
    kitchen.python(makes="broken")
    result = kitchen.make()
    assert result.returncode == 2
    assert "apt-get install python3-venv" in result.stderr
    assert not (kitchen.folder / ".venv").exists()


@pytest.mark.parametrize("kind", ["no pip", "dangling", "empty"])
@pytest.mark.parametrize("target", [".venv/runtime", ".venv/dev"])
def test_make_makes_a_broken_environment_anew(kitchen: Kitchen, kind: str, target: str) -> None:
    kitchen.python()
    assert kitchen.make(target).returncode == 0
    inside = kitchen.folder / ".venv/bin/python"
    inside.unlink()
    if kind == "no pip":
        shutil.copy(kitchen.folder / "broken", inside)
    elif kind == "dangling":
        inside.symlink_to("/nowhere/python3")
    result = kitchen.make(target)
    assert result.returncode == 0, result.stderr
    assert ".venv is broken and is made anew" in result.stderr
    assert (kitchen.did("-m venv .venv"), kitchen.did("pip install")) == (1, 1)
    assert (kitchen.folder / target).exists()


def test_make_keeps_a_good_environment_although_the_systems_python_is_old(kitchen: Kitchen) -> None:
    kitchen.python()
    assert kitchen.make().returncode == 0
    kitchen.python(is_old=True)
    assert kitchen.make().returncode == 0
    assert kitchen.did("-m venv") == 0


@pytest.mark.slow
def test_make_recovers_with_a_real_python(kitchen: Kitchen) -> None:
    program = kitchen.folder / "resender/cli"
    program.mkdir(parents=True)
    for name in ("__init__.py", "main.py", "serve.py"):
        (program / name).touch()
    # Half-made, as `python3 -m venv` leaves it where python3-venv is missing.
    python = find_program("python3", "python3")
    assert run(python, "-m", "venv", "--without-pip", kitchen.folder / ".venv").returncode == 0
    result = kitchen.make(PYTHON=python)
    assert result.returncode == 0, result.stderr
    assert run(kitchen.folder / ".venv/bin/python", "-m", "pip", "--version").returncode == 0
    # The user of the service may not write it.
    assert list(program.glob("__pycache__/serve.*.pyc"))
