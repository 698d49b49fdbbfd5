"""Accounts as a user of the command line meets them: keys typed, piped, checked by the exchange, removed."""

from __future__ import annotations

import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET
from resender.secret_box import SecretBox
from resender.store import open_repository
from tests.support.authority import ca_file
from tests.support.processes import (
    PATIENCE_S,
    ROOT,
    GatewayProcess,
    SandboxThread,
    Start,
    assert_no_secrets,
    environment,
    signed,
    until,
)

pytestmark = pytest.mark.e2e

ED25519_KEY = "SandboxEd25519ReadOnlyKey" + "0" * 39
SECRETS = (API_KEY, API_SECRET, READ_KEY, READ_SECRET)


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    return environment(settings) | {"SSL_CERT_FILE": ca_file()}


class Piped:
    """A command with lines on its standard input, at its end."""

    def __init__(self, gateway: GatewayProcess, *words: str, lines: tuple[str, ...] = (), **settings: object):
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "account", *words],
            cwd=gateway.folder,
            env=variables({**gateway.settings, **settings}),
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        self.code = done.returncode
        self.out = [line for line in done.stdout.splitlines() if not line.startswith("(database ")]
        # Another gateway on this machine is warned of.
        noise = ("ResourceWarning", "the gateway that is running")
        self.err = [line for line in done.stderr.splitlines() if not any(word in line for word in noise)]
        for secret in SECRETS:
            assert secret not in done.stdout + done.stderr

    def check_refusal(self, *words: str) -> None:
        assert (self.code, self.out) == (1, []), self.err
        (line,) = self.err
        assert line.startswith("error: ")
        assert all(word in line for word in words), line


def typed(gateway: GatewayProcess, *words: str, text: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, type (or paste) a text; return the exit code and the screen."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(gateway.folder)
        command = [sys.executable, str(ROOT / "run.py"), "account", *words]
        os.execve(sys.executable, command, variables(gateway.settings))
    screen = b""
    deadline = time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                got = os.read(terminal, 4096)
            except OSError:  # the other side is gone
                break
            if not got:
                break
            screen += got
            if text and b"not shown): " in screen:
                os.write(terminal, text.encode())
                text = ""
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(status), screen.decode()


def files(gateway: GatewayProcess) -> Iterator[tuple[Path, bytes]]:
    """Read the database's files: itself, its log, the log's index."""
    found = [path for path in gateway.data.glob("resender.db*") if path.is_file()]
    assert found
    for path in found:
        yield path, path.read_bytes()


def sealed_parts(gateway: GatewayProcess) -> list[bytes]:
    with closing(sqlite3.connect(gateway.data / "resender.db")) as database:
        rows = database.execute("SELECT sealed FROM account WHERE sealed IS NOT NULL").fetchall()
    # All of Fernet's texts begin alike; any dozen characters further on is of this one alone.
    return [text[at : at + 12].encode() for (text,) in rows for at in range(24, len(text) - 12, 12)]


def test_read_only_key_is_checked_sealed_followed_and_removed_without_a_trace(
    start: Start, exchange: SandboxThread
) -> None:
    gateway = start(ADMIN_ENABLED="false")
    lines = (READ_KEY, READ_SECRET)
    added = Piped(gateway, "add", "Main", "spot", "--key", "--secret", "--stdin", lines=lines)
    assert (added.code, added.err) == (0, [])
    assert added.out == [f"Main is watched: Binance says that its key ...{READ_KEY[-4:]} may only read."]
    asked = exchange.calls("/sapi/v1/account/apiRestrictions")
    assert {one.header("x-mbx-apikey") for one in asked} == {READ_KEY}, (
        "by the command, perhaps by the server too"
    )
    key_file = gateway.data / "account.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert_no_secrets(gateway.folder, SECRETS)

    def is_live() -> bool:
        (line,) = Piped(gateway, "list").out[:1]
        return bool(re.search(r"\(own\)  since .* UTC  live, \d+ open orders?, since ", line))

    until(is_live, "the running server watches it")
    parts = sealed_parts(gateway)
    assert len(parts) > 10
    assert any(part in content for part in parts for _, content in files(gateway))

    removed = Piped(gateway, "remove", "main")
    assert (removed.code, removed.out, removed.err) == (0, ["Main is removed with its secrets."], [])
    for path, content in files(gateway):
        assert not [part for part in parts if part in content], path
    assert Piped(gateway, "list").out == ["No account is watched."]
    until(lambda: gateway.call("GET", "/local/spot/openOrders").status != 200, "the server has dropped it")
    gateway.stop(secrets=SECRETS)
    for path, content in files(gateway):
        assert not [part for part in parts if part in content], path


def test_key_that_may_trade_or_is_unknown_is_not_stored(start: Start, exchange: SandboxThread) -> None:
    gateway = start(ADMIN_ENABLED="false")
    words = ("add", "main", "um", "--key", "--secret", "--stdin")
    Piped(gateway, *words, lines=(API_KEY, API_SECRET)).check_refusal(
        "may more than read", "enableSpotAndMarginTrading"
    )
    Piped(gateway, *words, lines=(READ_KEY, "WrongSecret" + "0" * 50)).check_refusal(
        "Binance answered", "Signature"
    )
    Piped(gateway, *words, lines=("UnknownKey" + "0" * 50, READ_SECRET)).check_refusal("Binance answered")
    nowhere = {"UPSTREAM_API": "https://127.0.0.1:9"}
    Piped(gateway, *words, lines=(READ_KEY, READ_SECRET), **nowhere).check_refusal("could not be asked")
    off = {"UPSTREAM_API": "off"}
    Piped(gateway, *words, lines=(READ_KEY, READ_SECRET), **off).check_refusal(
        "could not be asked", "switched off"
    )
    assert Piped(gateway, "list").out == ["No account is watched."]
    assert not (gateway.data / "account.key").exists()
    gateway.stop(secrets=SECRETS)


def test_keys_are_typed_unseen_and_pasted_ones_are_not_left_for_the_shell(
    start: Start, exchange: SandboxThread
) -> None:
    gateway = start(ADMIN_ENABLED="false")
    code, screen = typed(
        gateway, "add", "one", "spot", "--key", "--secret", text=f"{READ_KEY}\n{READ_SECRET}\n"
    )
    assert code == 0, screen
    assert "one is watched" in screen
    assert READ_KEY not in screen
    assert READ_SECRET not in screen

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    exchange.ask(
        lambda sandbox: sandbox.accounts.add(
            ED25519_KEY, public_key=public, permissions={"enableReading": True}
        )
    )
    code, screen = typed(gateway, "add", "two", "um", "--key", "--secret", text=f"{ED25519_KEY}\n{private}")
    assert code == 0, screen
    for line in (ED25519_KEY, *private.splitlines()):
        assert line not in screen
    gateway.stop(secrets=(*SECRETS, ED25519_KEY, private.splitlines()[1]))


def test_key_of_a_call_is_bound_by_the_running_server(start: Start, exchange: SandboxThread) -> None:
    gateway = start(ADMIN_ENABLED="false")
    assert Piped(gateway, "add", "mybot", "um", "--key-from-calls").code == 0

    def is_bound() -> bool:
        answer = gateway.call("GET", signed("/fapi/v1/openOrders"), {"X-MBX-APIKEY": API_KEY})
        assert answer.status == 200
        return f"...{API_KEY[-4:]} (from calls)" in Piped(gateway, "list").out[0]

    until(is_bound, "the key of a call is the account's")
    linked = Piped(gateway, "link", "mybot", "--stdin", lines=(READ_KEY,))
    assert linked.out == [f"...{READ_KEY[-4:]} is a key of mybot."]
    gateway.stop(secrets=SECRETS)
    assert Piped(gateway, "remove", "mybot").out == ["mybot is removed."]


def test_list_says_when_no_server_runs(start: Start) -> None:
    gateway = start(ADMIN_ENABLED="false")
    gateway.stop()
    assert Piped(gateway, "add", "mybot", "um", "--key-from-calls").code == 0
    assert Piped(gateway, "list").out[-1] == "No server has told their states yet."


def test_stolen_database_opens_nothing(start: Start, tmp_path: Path) -> None:
    gateway = start(ADMIN_ENABLED="false")
    lines = (READ_KEY, READ_SECRET)
    assert Piped(gateway, "add", "main", "cm", "--key", "--secret", "--stdin", lines=lines).code == 0
    gateway.stop(secrets=SECRETS)
    (gateway.data / "account.key").unlink()
    again = start(ADMIN_ENABLED="false")

    def is_told() -> bool:
        return "account.key is missing" in again.stderr + "\n".join(Piped(again, "list").out)

    until(is_told, "it is said why the account is not watched")
    assert not (gateway.data / "account.key").exists(), "a new key would hide that the old one is lost"
    again.stop(secrets=SECRETS)


def test_two_commands_that_make_the_key_file_at_once_agree_on_it(
    start: Start, exchange: SandboxThread
) -> None:
    gateway = start(ADMIN_ENABLED="false")
    gateway.stop()
    other = "SandboxSecondReadOnlyKey" + "0" * 40
    exchange.ask(
        lambda sandbox: sandbox.accounts.add(other, READ_SECRET, permissions={"enableReading": True})
    )
    words = ("spot", "--key", "--secret", "--stdin")
    with ThreadPoolExecutor(2) as pool:
        added = [
            pool.submit(Piped, gateway, "add", name, *words, lines=(key, READ_SECRET))
            for name, key in (("one", READ_KEY), ("two", other))
        ]
        assert [(each.result().code, each.result().err) for each in added] == [(0, []), (0, [])]
    box = SecretBox("", gateway.data)
    with open_repository(f"sqlite:///{gateway.data / 'resender.db'}") as repository:
        opened = [box.unseal(str(row.sealed), str(row.id)) for row in repository.account_list()]
    assert sorted(READ_SECRET in text for text in opened) == [True, True]
    assert [path.name for path in gateway.data.glob("*account.key*")] == ["account.key"]
