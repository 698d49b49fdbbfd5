"""The command `account`."""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from resender import assembly
from resender.account import KeyRefused
from resender.api_keys import Signer, digest_of
from resender.cli import accounts
from resender.cli.main import main
from resender.config import Config
from resender.secret_box import FILE_NAME, SecretBox
from resender.store import AccountRow, open_repository
from resender.store.tables import clock_ms

KEY = "ApiKey" + "a1B2" * 14 + "wxyz"
OTHER = "OtherKey" + "c3D4" * 13 + "uvst"
SECRET = "HmacSecret" + "e5F6" * 13 + "zz"


def pem_pair() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


PRIVATE, PUBLIC = pem_pair()


class Binance:
    """Says what a key may do, in place of the exchange."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refusal = ""

    def check(self, config: Config, api_key: str, signer: Signer) -> None:
        self.asked.append((api_key, signer.kind))
        if self.refusal:
            raise KeyRefused(self.refusal)


@pytest.fixture
def binance(monkeypatch: pytest.MonkeyPatch) -> Binance:
    found = Binance()
    monkeypatch.setattr(accounts, "check_read_only", found.check)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        database_url=f"sqlite:///{tmp_path / 'store.db'}",
        data_dir=str(tmp_path / "data"),
        whitelist=("10.0.0.1",),
    )


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    # Another one on this machine would be warned of.
    monkeypatch.setattr("resender.cli.database.running_gateways", lambda *starters: iter(()))


def give(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def account(config: Config, *words: str) -> int:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir")
    parser = argparse.ArgumentParser(prog="run.py", parents=[common])
    accounts.add_parser(parser.add_subparsers(), common)
    arguments = parser.parse_args(["account", *words])
    return int(arguments.run(config, arguments))


class Said:
    """What was printed since the last look: never a key or a secret."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        captured = capfd.readouterr()
        for secret in (KEY, OTHER, SECRET, PRIVATE.splitlines()[1]):
            assert secret not in captured.out + captured.err
        lines = captured.out.splitlines()
        self.out = [line for line in lines if not line.startswith("(database ")]
        self.names_database = self.out != lines
        self.err = captured.err.splitlines()


def rows(config: Config) -> list[AccountRow]:
    with open_repository(config.database) as repository:
        return repository.account_list()


def audit(config: Config) -> list[tuple[str, str, str]]:
    with open_repository(config.database) as repository:
        model = repository.models.audit
        query = model.select(model.actor, model.action, model.subject).order_by(model.id)
        return list(query.tuples())


# --- add ---------------------------------------------------------------------------------------


def test_key_that_calls_will_bring(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    assert account(config, "add", "mybot", "UM", "--key-from-calls") == 0
    said = Said(capfd)
    assert said.out == [
        "mybot is watched: its key is the next new one of a signed call that Binance accepts."
    ]
    assert said.names_database
    (row,) = rows(config)
    assert (row.name, row.market, row.mode, row.keys, row.sealed) == ("mybot", "um", "key", (), None)
    assert audit(config) == [("command line", "account.add", "mybot")]


def test_subscription_that_the_client_will_sign(config: Config, capfd: pytest.CaptureFixture[str]) -> None:
    assert account(config, "add", "desk", "margin", "--signed-by-client") == 0
    assert Said(capfd).out == [
        "desk is watched: its client has to sign a subscription at /local/margin/userDataStream."
    ]
    assert [(row.market, row.mode, row.keys) for row in rows(config)] == [("margin", "signed", ())]


def test_key_given_now_is_stored_as_its_digest_only(
    config: Config, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give(monkeypatch, f"  {KEY}\r")
    assert account(config, "add", "mybot", "um", "--key-from-calls", "--key", "--stdin") == 0
    assert Said(capfd).out == ["mybot is watched: its key is ...wxyz."]
    (row,) = rows(config)
    assert [(key.digest, key.hint, key.source) for key in row.keys] == [(digest_of(KEY), "wxyz", "linked")]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_key_comes_from_a_file_with_its_public_part(
    config: Config, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "public.pem").write_text(PUBLIC)
    files = ("--key-file", str(tmp_path / "key"), "--public-key", str(tmp_path / "public.pem"))
    assert account(config, "add", "desk", "spot", "--signed-by-client", *files) == 0
    (row,) = rows(config)
    assert [(key.digest, key.public_key) for key in row.keys] == [(digest_of(KEY), PUBLIC.strip())]


@pytest.mark.parametrize("market", ["spot", "margin", "um", "cm", "pm"])
def test_secret_is_sealed_for_its_account_alone(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], market: str, tmp_path: Path,
) -> None:  # fmt: skip
    give(monkeypatch, KEY, SECRET)
    assert account(config, "add", "main", market, "--key", "--secret", "--stdin") == 0
    assert Said(capfd).out == ["main is watched: Binance says that its key ...wxyz may only read."]
    assert binance.asked == [(KEY, "hmac")]
    (row,) = rows(config)
    assert [(key.digest, key.source) for key in row.keys] == [(digest_of(KEY), "own")]
    assert row.sealed is not None
    box = SecretBox("", config.data_path)
    assert orjson.loads(box.unseal(row.sealed, str(row.id))) == {"key": KEY, "secret": SECRET}
    with pytest.raises(ValueError, match="another account"):
        box.unseal(row.sealed, str(row.id + 1))
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert KEY.encode() not in content
        assert SECRET.encode() not in content


def test_setting_seals_without_a_file(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_setting = Config(database_url=config.database_url, data_dir=config.data_dir, secret_key="k" * 32)
    give(monkeypatch, KEY, SECRET)
    assert account(with_setting, "add", "main", "spot", "--secret", "--stdin") == 0
    assert not (config.data_path / FILE_NAME).exists()
    (row,) = rows(config)
    assert SECRET in SecretBox("k" * 32, config.data_path).unseal(str(row.sealed), str(row.id))


def test_private_key_comes_in_lines_or_from_a_file(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    give(monkeypatch, KEY, *PRIVATE.splitlines())
    assert account(config, "add", "one", "spot", "--key", "--secret", "--stdin") == 0
    file = tmp_path / "private.pem"
    file.write_text(PRIVATE)
    file.chmod(0o640)
    give(monkeypatch, OTHER)
    assert account(config, "add", "two", "spot", "--key", "--secret-file", str(file), "--stdin") == 0
    assert [kind for _, kind in binance.asked] == ["ed25519", "ed25519"]
    assert Said(capfd).err == [f"warning: others may read {file}: chmod 600"]
    file.chmod(0o600)
    (tmp_path / "key").write_text(KEY)
    files = ("--key-file", str(tmp_path / "key"), "--secret-file", str(file))
    assert account(config, "add", "three", "um", *files) == 0
    assert Said(capfd).err == []
    box = SecretBox("", config.data_path)
    for row in rows(config):
        assert orjson.loads(box.unseal(str(row.sealed), str(row.id)))["secret"] == PRIVATE.strip()


def test_key_that_binance_refuses_is_not_stored(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    binance.refusal = f"This key may more than read:\n enableWithdrawals \x1b[1m {KEY}"
    give(monkeypatch, KEY, SECRET)
    assert account(config, "add", "main", "spot", "--key", "--secret", "--stdin") == 1
    said = Said(capfd)
    assert said.out == []
    assert said.err == ["error: This key may more than read: enableWithdrawals [1m ***"]
    assert rows(config) == []
    assert audit(config) == []
    assert not (config.data_path / FILE_NAME).exists()


def test_nothing_is_stored_if_it_cannot_be_sealed(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config.data_path.mkdir()
    (config.data_path / FILE_NAME).write_text("x" * 44)
    (config.data_path / FILE_NAME).chmod(0o644)
    give(monkeypatch, KEY, SECRET)
    assert account(config, "add", "main", "spot", "--key", "--secret", "--stdin") == 1
    (line,) = Said(capfd).err
    assert "may be read by others: chmod 600" in line
    assert rows(config) == []
    assert audit(config) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("mybot", "um"), "Say one way to watch it"),
        (("mybot", "um", "--key"), "Say one way to watch it"),
        (("mybot", "um", "--key-from-calls", "--secret"), "Say one way to watch it"),
        (("mybot", "um", "--signed-by-client", "--key-from-calls"), "Say one way to watch it"),
        (("mybot", "um", "--signed-by-client"), "um is watched in mode key or secret"),
        (("mybot", "spot", "--key-from-calls"), "spot is watched in mode signed or secret"),
        (("mybot", "options", "--key-from-calls"), "market is one of spot, margin, um, cm, pm"),
        (("my bot", "um", "--key-from-calls"), "name"),
        (("", "um", "--key-from-calls"), "name"),
        (("x" * 65, "um", "--key-from-calls"), "name"),
        (("币安", "um", "--key-from-calls"), "name"),
        (("a\n", "um", "--key-from-calls"), "name"),
        (("\udcff", "um", "--key-from-calls"), "name"),
        (("a;--", "um\x1b[2J", "--key-from-calls"), "name"),
        (("main", "um", "--secret", "--public-key", "x"), "secret is not given"),
        (("main", "um", "--key-from-calls", "--public-key", "x"), "Whose public key"),
        (("main", "um", "--key-from-calls", "--key"), "no terminal to ask for the API key"),
        (("main", "um", "--key", "--secret"), "no terminal to ask for the API key"),
        (("main", "um", "--key-from-calls", "--stdin"), "No API key was given"),
        (("main", "um", "--key-from-calls", "--key-file", "/nowhere"), "/nowhere cannot be read (No such file"),
        (("main", "um", "--key-from-calls", "--key-file", "/"), "Is a directory"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_exit_2(
    config: Config, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert account(config, "add", *words) == 2
    said = Said(capfd)
    assert said.out == []
    (line,) = said.err
    assert line.startswith("error: ")
    assert text in line
    assert line.isprintable()
    assert rows(config) == []


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((KEY,), "No secret was given"),
        ((KEY, "short"), "A secret is"),
        ((KEY, KEY), "same text"),
        ((KEY + "!", SECRET), "An API key is"),
        ((KEY * 5, SECRET), "An API key is"),
        ((KEY, "-----BEGIN PRIVATE KEY-----", "AAAA"), "private key cannot be read"),
        ((KEY, *PUBLIC.splitlines()), "public key"),
        ((KEY, SECRET + "\x00"), "A secret is"),
    ],
)  # fmt: skip
def test_secret_that_cannot_be_one_is_never_sent(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], lines: tuple[str, ...], text: str,
) -> None:  # fmt: skip
    give(monkeypatch, *lines)
    assert account(config, "add", "main", "spot", "--key", "--secret", "--stdin") == 2
    (line,) = Said(capfd).err
    assert text in line
    assert binance.asked == []
    assert rows(config) == []


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"\xff\xfe\x00", "is no text"), (b"", "holds no secret"), (b"x" * 30_000, "holds no secret")],
)
def test_file_that_is_no_secret(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, text: str,
) -> None:  # fmt: skip
    file = tmp_path / "secret"
    file.write_bytes(content)
    give(monkeypatch, KEY)
    assert account(config, "add", "main", "spot", "--secret-file", str(file), "--stdin") == 2
    assert text in Said(capfd).err[-1]


def test_name_is_taken_in_any_case_before_anything_is_asked(
    config: Config, binance: Binance, capfd: pytest.CaptureFixture[str]
) -> None:
    account(config, "add", "MyBot", "um", "--key-from-calls")
    Said(capfd)
    assert account(config, "add", "mybot", "spot", "--key", "--secret") == 1
    assert Said(capfd).err == ["error: There is an account MyBot already."]


def test_key_of_another_account_of_the_market_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, KEY)
    account(config, "add", "one", "um", "--key-from-calls", "--stdin")
    give(monkeypatch, KEY)
    Said(capfd)
    assert account(config, "add", "two", "um", "--key-from-calls", "--stdin") == 1
    assert Said(capfd).err == ["error: This key belongs to the account one already."]
    give(monkeypatch, KEY)
    assert account(config, "add", "two", "cm", "--key-from-calls", "--stdin") == 0
    assert [row.market for row in rows(config)] == ["um", "cm"]


@pytest.mark.parametrize(
    "words",
    [
        ("--key", SECRET),
        (f"--key={SECRET}", "--secret"),
        (f"--secret={SECRET}",),
        ("--secret", *PRIVATE.splitlines()),
        (f"--api-key={KEY}",),
    ],
)
def test_secret_as_an_argument_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["account", "add", "main", "spot", *words])
    assert caught.value.code == 2
    assert any("***" in line for line in Said(capfd).err)


# --- list --------------------------------------------------------------------------------------


def tell(config: Config, text: str) -> None:
    with open_repository(config.database) as repository:
        repository.state_set("account_states", text)


def test_key_of_the_states_is_the_one_the_server_writes() -> None:
    assert accounts._STATES_KEY == assembly.ACCOUNT_STATES_KEY


def test_list_shows_what_the_server_has_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert account(config, "list") == 0
    assert Said(capfd).out == ["No account is watched."]
    give(monkeypatch, KEY)
    account(config, "add", "mybot", "um", "--key-from-calls", "--stdin")
    account(config, "add", "desk", "spot", "--signed-by-client")
    account(config, "add", "new", "pm", "--key-from-calls")
    Said(capfd)
    states = {
        "1": {"state": "live", "why": "", "orders": 1, "since_ms": 1_700_000_000_000},
        "2": {"state": "waiting", "why": "subscription needed", "orders": 0, "since_ms": None},
    }
    tell(config, json.dumps({"at_ms": clock_ms() - 30_000, "accounts": states}))
    assert account(config, "list") == 0
    said = Said(capfd)
    made = r"since 20\d\d-\d\d-\d\d \d\d:\d\d UTC"
    assert len(said.out) == 3
    for line, pattern in zip(
        said.out,
        [
            rf"mybot  um    key     \.\.\.wxyz \(linked\)  {made}  live, 1 open order, since 2023-11-14 22:13 UTC",
            rf"desk   spot  signed  no key yet        {made}  waiting: subscription needed",
            rf"new    pm    key     no key yet        {made}  not watched yet",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize(
    ("ago_ms", "words"), [(61_000, "61 s"), (300_000, "5 min"), (7_300_000, "2 h"), (10**9, "11 d")]
)
def test_states_of_a_silent_server_are_not_shown(
    config: Config, capfd: pytest.CaptureFixture[str], ago_ms: int, words: str
) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    Said(capfd)
    state = {"state": "live", "why": "", "orders": 3, "since_ms": 1}
    tell(config, json.dumps({"at_ms": clock_ms() - ago_ms, "accounts": {"1": state}}))
    assert account(config, "list") == 0
    said = Said(capfd)
    assert "live" not in said.out[0]
    assert said.out[-1] == f"No server has told their states for {words}: is one running?"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"at_ms": "x", "accounts": {}}', '{"at_ms": 1}']
)
def test_states_that_cannot_be_read_are_none(
    config: Config, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    tell(config, text)
    Said(capfd)
    assert account(config, "list") == 0
    assert Said(capfd).out[-1] == "No server has told their states yet."


@pytest.mark.parametrize(
    "told",
    [[], {"1": 7}, {"1": {}}, {"1": {"orders": "x", "since_ms": []}}, {"1": {"state": 7, "since_ms": 10**20}},
     {"1": {"state": "waiting", "why": f"Binance refuses the key:\n\x1b[2J {KEY}"}}],
)  # fmt: skip
def test_odd_states_stay_one_line(config: Config, capfd: pytest.CaptureFixture[str], told: object) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    tell(config, json.dumps({"at_ms": clock_ms(), "accounts": told}))
    Said(capfd)
    assert account(config, "list") == 0
    (line,) = Said(capfd).out
    assert line.isprintable()


# --- remove ------------------------------------------------------------------------------------


def test_removed_secret_is_in_no_file_any_more(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    give(monkeypatch, KEY, SECRET)
    account(config, "add", "Main", "spot", "--key", "--secret", "--stdin")
    (row,) = rows(config)
    assert row.sealed is not None
    Said(capfd)
    assert account(config, "remove", "main") == 0
    said = Said(capfd)
    assert said.out == ["Main is removed with its secrets."]
    assert said.err == []
    assert rows(config) == []
    parts = [row.sealed[at : at + 12].encode() for at in range(12, len(row.sealed) - 12, 12)]
    for path in tmp_path.glob("store.db*"):
        content = path.read_bytes()
        assert not [part for part in parts if part in content], path
    assert [entry[1] for entry in audit(config)] == ["account.add", "account.remove"]


def test_reader_that_keeps_the_log_is_told(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, KEY, SECRET)
    account(config, "add", "main", "spot", "--key", "--secret", "--stdin")
    Said(capfd)
    monkeypatch.setattr("resender.store.Repository.empty_wal", lambda self: False)
    assert account(config, "remove", "main") == 0
    (line,) = Said(capfd).err
    assert line.startswith("warning: other programs read the database")


@pytest.mark.parametrize("words", [("remove", "gone"), ("link", "gone"), ("unlink", "gone", "abcd")])
def test_unknown_account_is_one_line_and_exit_1(
    config: Config, capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert account(config, *words) == 1
    assert Said(capfd).err == ["error: There is no account gone."]


@pytest.mark.parametrize(
    "name", ["", "币安", "a\nb", "\udcff", "%", "'; DROP TABLE account; --", "\x1b[2J", KEY]
)
def test_odd_names_are_no_accounts(config: Config, capfd: pytest.CaptureFixture[str], name: str) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    Said(capfd)
    assert account(config, "remove", name) == 1
    (line,) = Said(capfd).err
    assert line.startswith("error: There is no account")
    assert len(rows(config)) == 1


# --- link and unlink ---------------------------------------------------------------------------


def test_another_key_is_linked_and_taken_away(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    Said(capfd)
    give(monkeypatch, OTHER)
    assert account(config, "link", "MYBOT", "--stdin") == 0
    assert Said(capfd).out == ["...uvst is a key of mybot."]
    give(monkeypatch, OTHER)
    assert account(config, "link", "mybot", "--stdin") == 0
    said = Said(capfd)
    assert said.out == ["...uvst was a key of mybot already."]
    assert not said.names_database
    (tmp_path / "public.pem").write_text(PUBLIC)
    give(monkeypatch, OTHER)
    assert account(config, "link", "mybot", "--stdin", "--public-key", str(tmp_path / "public.pem")) == 0
    assert Said(capfd).out == ["...uvst is a key of mybot; its signatures are checked."]
    assert [key.public_key for key in rows(config)[0].keys] == [PUBLIC.strip()]
    assert account(config, "list") == 0
    assert "...uvst (linked, public key)" in Said(capfd).out[0]
    assert account(config, "unlink", "mybot", "...uvst") == 0
    assert Said(capfd).out == ["...uvst is no key of mybot any more."]
    assert rows(config)[0].keys == ()
    actions = [action for _, action, _ in audit(config)]
    assert actions == ["account.add", "account.link", "account.link", "account.unlink"]


def test_key_of_another_account_is_not_linked(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, KEY)
    account(config, "add", "one", "um", "--key-from-calls", "--stdin")
    account(config, "add", "two", "um", "--key-from-calls")
    Said(capfd)
    give(monkeypatch, KEY)
    assert account(config, "link", "two", "--stdin") == 1
    assert Said(capfd).err == ["error: This key belongs to the account one already."]
    assert [action for _, action, _ in audit(config)] == ["account.add", "account.add"]


def test_private_key_is_no_public_key(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    (tmp_path / "private.pem").write_text(PRIVATE)
    Said(capfd)
    give(monkeypatch, KEY)
    assert account(config, "link", "mybot", "--stdin", "--public-key", str(tmp_path / "private.pem")) == 2
    assert "private key" in Said(capfd).err[0]


def test_own_key_is_not_taken_away(
    config: Config, binance: Binance, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, KEY, SECRET)
    account(config, "add", "main", "spot", "--key", "--secret", "--stdin")
    Said(capfd)
    assert account(config, "unlink", "main", "wxyz") == 1
    assert Said(capfd).err == ["error: main is read with this key: remove the account instead."]
    assert len(rows(config)[0].keys) == 1


def test_hint_that_fits_none_or_several(
    config: Config, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    account(config, "add", "mybot", "um", "--key-from-calls")
    Said(capfd)
    assert account(config, "unlink", "mybot", "wxyz") == 1
    assert Said(capfd).err == ["error: mybot has no key that ends in wxyz; it has none."]
    for key in (KEY, "B" + KEY[1:]):
        give(monkeypatch, key)
        assert account(config, "link", "mybot", "--stdin") == 0
    capfd.readouterr()
    assert account(config, "unlink", "mybot", "wxyz") == 1
    assert Said(capfd).err == ["error: mybot has 2 keys that end in wxyz: unlink it on the page Accounts."]
    assert account(config, "unlink", "mybot", "WXYZ") == 1
    assert "it has ...wxyz, ...wxyz" in Said(capfd).err[0]
    assert account(config, "unlink", "mybot", KEY) == 1
    Said(capfd)
    assert len(rows(config)[0].keys) == 2


@pytest.mark.parametrize("words", [(), ("add",), ("add", "x"), ("remove",), ("unlink", "x"), ("show",)])
def test_wrong_words_are_exit_2(config: Config, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        account(config, *words)
    assert caught.value.code == 2
