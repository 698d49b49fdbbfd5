"""The certificate clients are shown: what does not fit is refused in words, a new one taken whole or not at all."""

from __future__ import annotations

import datetime
import fcntl
import logging
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from resender.errors import StartError
from resender.server_tls import ServerTls

ROOT = Path(__file__).resolve().parents[2]
PLAIN = serialization.NoEncryption()
NOBODY = 65534
Pair = tuple[bytes, bytes]


def make_pair(
    *,
    is_rsa: bool = False,
    days: int = 30,
    sealing: serialization.KeySerializationEncryption = PLAIN,
) -> Pair:
    """Make a certificate that nobody else signed, and its key."""
    key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw.example.com")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealing),
    )


FIRST, SECOND, THIRD = make_pair(), make_pair(days=90), make_pair()


class Files:
    """The two files; each writing leaves another stamp, however quick it is."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self._moment_ns = 1_700_000_000_000_000_000

    def write(self, cert: bytes | None = None, key: bytes | None = None) -> None:
        for path, data in ((self.cert, cert), (self.key, key)):
            if data is not None:
                path.write_bytes(data)
                self._moment_ns += 1_000_000
                os.utime(path, ns=(self._moment_ns, self._moment_ns))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path)
    found.write(*FIRST)
    return found


@pytest.fixture
def tls(files: Files) -> ServerTls:
    return ServerTls(files.cert, files.key)


def client(*, version: ssl.TLSVersion | None = None, ciphers: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def shake(server: ssl.SSLContext, context: ssl.SSLContext | None = None) -> ssl.SSLObject:
    """Shake hands without a socket; return the client's end."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        (context or client()).wrap_bio(down, up),
        server.wrap_bio(up, down, server_side=True),
    ]
    left = list(ends)
    for _ in range(20):
        for end in list(left):
            try:
                end.do_handshake()
                left.remove(end)
            except ssl.SSLWantReadError:
                continue
        if not left:
            return ends[0]
    raise AssertionError("the handshake does not end")


def shown(tls: ServerTls, context: ssl.SSLContext | None = None) -> bytes:
    """Return the certificate a client is shown, PEM."""
    return ssl.DER_cert_to_PEM_cert(shake(tls.context, context).getpeercert(True) or b"").encode()


def refusal(cert: Path, key: Path | None) -> str:
    with pytest.raises(StartError) as caught:
        ServerTls(cert, key)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("TLS cannot be served: ")
    return text


@contextmanager
def as_nobody() -> Iterator[None]:
    """Lose root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# --- the start ------------------------------------------------------------------------------------


def test_certificate_and_key_are_shown_and_only_http_1_is_agreed_on(tls: ServerTls) -> None:
    end = shake(tls.context)
    assert ssl.DER_cert_to_PEM_cert(end.getpeercert(True) or b"").encode() == FIRST[0]
    assert end.version() == "TLSv1.3"
    assert end.selected_alpn_protocol() == "http/1.1"
    assert shake(tls.context, client(version=ssl.TLSVersion.TLSv1_2)).version() == "TLSv1.2"


def test_older_versions_of_tls_are_not_spoken_nor_anything_negotiated_anew(tls: ServerTls) -> None:
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.context.options & ssl.OP_NO_RENEGOTIATION


def test_key_may_be_in_the_file_of_the_certificate(files: Files) -> None:
    files.write(FIRST[0] + FIRST[1])
    assert shown(ServerTls(files.cert, None)) == FIRST[0]
    files.write(SECOND[1] + SECOND[0])
    assert shown(ServerTls(files.cert, None)) == SECOND[0]


def test_chain_goes_out_whole(files: Files) -> None:
    files.write(FIRST[0] + SECOND[0])
    end = shake(ServerTls(files.cert, files.key).context)
    assert ssl.DER_cert_to_PEM_cert(end.getpeercert(True) or b"").encode() == FIRST[0]


def test_certificate_without_a_key_is_told_that_its_setting_is_empty(files: Files) -> None:
    text = refusal(files.cert, None)
    assert str(files.cert) in text
    assert "TLS_KEY is empty" in text


def test_pair_that_does_not_fit_is_refused(files: Files) -> None:
    files.write(key=SECOND[1])
    assert refusal(files.cert, files.key) == (
        f"TLS cannot be served: the private key does not belong to the certificate of {files.cert}"
    )


@pytest.mark.parametrize("missing", ["cert", "key"])
def test_missing_file_is_named(files: Files, missing: str) -> None:
    path: Path = getattr(files, missing)
    path.unlink()
    assert refusal(files.cert, files.key) == f"TLS cannot be served: {path}: No such file or directory"


@pytest.mark.parametrize("what", ["cert", "key"])
@pytest.mark.parametrize("data", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nxx\n", b"\0" * 5000])
def test_file_that_holds_no_pem_is_refused_in_words(files: Files, what: str, data: bytes) -> None:
    files.write(**{what: data})
    text = refusal(files.cert, files.key)
    assert str(files.cert) in text
    assert str(files.key) in text
    assert "PEM" in text


def test_folder_in_the_place_of_a_file_is_refused(tmp_path: Path, files: Files) -> None:
    text = refusal(tmp_path, files.key)
    assert text == f"TLS cannot be served: {tmp_path}: Is a directory"


def test_file_that_may_not_be_read_is_named_with_the_reason() -> None:
    # Beside pytest's own folders, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        files = Files(Path(name))
        files.write(*FIRST)
        files.cert.chmod(0o644)
        files.key.chmod(0)
        with as_nobody():
            text = refusal(files.cert, files.key)
        assert text == f"TLS cannot be served: {files.key}: Permission denied"


def test_nothing_of_a_key_is_in_an_error(files: Files) -> None:
    files.write(key=FIRST[1].replace(b"PRIVATE", b"PRIVATF"))
    words = FIRST[1].split(b"\n")[1].decode()
    assert words not in refusal(files.cert, files.key)


SEALED = """
import fcntl, pathlib, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from resender.errors import StartError
from resender.server_tls import ServerTls
try:
    ServerTls(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
except StartError as error:
    print("refused:", error)
"""


def test_sealed_key_is_refused_and_its_password_not_asked_for_on_the_terminal(files: Files) -> None:
    files.write(*make_pair(sealing=serialization.BestAvailableEncryption(b"hush hush")))
    master, slave = os.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", SEALED, str(files.cert), str(files.key)],
            cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        ) as child:  # fmt: skip
            os.write(master, b"hush hush\n")
            assert child.wait(30) == 0
        fcntl.fcntl(master, fcntl.F_SETFL, os.O_NONBLOCK)
        said = os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert said.startswith("refused: TLS cannot be served: ")
    assert "sealed with a password" in said
    assert "hush" not in said
    assert "pass phrase" not in said


# --- renewals -------------------------------------------------------------------------------------


def test_renewed_certificate_is_taken_once_and_told(
    files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert not tls.refresh()
    files.write(*SECOND)
    assert tls.refresh()
    assert shown(tls) == SECOND[0]
    assert not tls.refresh()
    assert caplog.messages == [f"the new certificate of {files.cert} is in force"]


def test_renewal_in_the_file_of_both_is_taken(files: Files) -> None:
    files.write(FIRST[0] + FIRST[1])
    tls = ServerTls(files.cert, None)
    files.write(SECOND[0] + SECOND[1])
    assert tls.refresh()
    assert shown(tls) == SECOND[0]


def test_renewal_by_a_link_to_other_files_is_taken(tmp_path: Path, files: Files) -> None:
    """certbot's folder `live` holds links, which are turned to the new files."""
    live = tmp_path / "live"
    live.mkdir()
    for path in (files.cert, files.key):
        (live / path.name).symlink_to(path)
    tls = ServerTls(live / files.cert.name, live / files.key.name)
    new = tmp_path / "archive"
    new.mkdir()
    others = Files(new)
    others.write(*SECOND)
    for path in (others.cert, others.key):
        beside = live / "beside"
        beside.symlink_to(path)
        beside.replace(live / path.name)
    assert tls.refresh()
    assert shown(tls) == SECOND[0]


def test_half_written_renewal_leaves_the_old_certificate_in_force(
    files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    for count in range(0, len(SECOND[0]), 97):
        files.write(cert=SECOND[0][:count])
        assert not tls.refresh()
        assert shown(tls) == FIRST[0]
    files.write(*SECOND)
    assert tls.refresh()
    assert shown(tls) == SECOND[0]


@pytest.mark.parametrize("first", ["cert", "key"])
def test_certificate_and_key_may_be_written_one_after_the_other(
    files: Files, tls: ServerTls, first: str
) -> None:
    new = dict(zip(("cert", "key"), SECOND, strict=True))
    files.write(**{first: new.pop(first)})
    for _ in range(3):
        assert not tls.refresh()
        assert shown(tls) == FIRST[0]
    files.write(**new)
    assert tls.refresh()
    assert shown(tls) == SECOND[0]


def test_what_does_not_fit_is_told_once_and_again_when_it_has_changed(
    files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(cert=SECOND[0])
    tls.refresh()
    assert caplog.messages == []  # the key may be on its way
    for _ in range(5):
        tls.refresh()
    assert len(caplog.messages) == 1
    assert "the old one stays" in caplog.text
    assert "does not belong to the certificate" in caplog.text
    files.write(cert=b"")
    for _ in range(5):
        tls.refresh()
    assert len(caplog.messages) == 2


def test_files_that_are_gone_leave_the_old_certificate_in_force(
    files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    files.cert.unlink()
    files.key.unlink()
    for _ in range(3):
        assert not tls.refresh()
    assert shown(tls) == FIRST[0]
    assert caplog.messages == [
        f"the new certificate is not used, the old one stays: {files.cert}: No such file or directory"
    ]
    files.write(*SECOND)
    assert tls.refresh()
    assert shown(tls) == SECOND[0]


def test_sealed_key_of_a_renewal_is_not_taken(
    files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(*make_pair(sealing=serialization.BestAvailableEncryption(b"hush hush")))
    assert not tls.refresh()
    assert not tls.refresh()
    assert shown(tls) == FIRST[0]
    assert "sealed with a password" in caplog.text


def test_old_pair_that_is_put_back_is_in_force_without_a_word(
    tmp_path: Path, files: Files, tls: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept = tmp_path / "kept"
    os.link(files.cert, kept)
    files.cert.unlink()
    shutil.copy2(kept, files.cert)
    assert tls.refresh()  # another file, as far as anybody can tell
    assert shown(tls) == FIRST[0]
    assert not tls.refresh()


@pytest.mark.parametrize("is_rsa", [False, True], ids=["to another kind of key", "and back"])
def test_renewal_with_another_kind_of_key_replaces_the_old_certificate(files: Files, is_rsa: bool) -> None:
    old, new = make_pair(is_rsa=is_rsa), make_pair(is_rsa=not is_rsa)
    files.write(*old)
    tls = ServerTls(files.cert, files.key)
    files.write(*new)
    assert tls.refresh()
    for ciphers in ("ALL", "aRSA" if not is_rsa else "aECDSA"):
        assert shown(tls, client(version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)) == new[0]
    # Who can show what only the old kind of key can sign is shown nothing.
    with pytest.raises(ssl.SSLError):
        shake(tls.context, client(version=ssl.TLSVersion.TLSv1_2, ciphers="aRSA" if is_rsa else "aECDSA"))
    assert shown(tls) == new[0]


def test_file_that_changes_while_it_is_read_leaves_the_old_certificate_in_force(
    files: Files, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next renewal begins in the moment in which this one has been found to fit."""
    files.write(*SECOND)
    load = ssl.SSLContext.load_cert_chain

    def loaded(context: ssl.SSLContext, *args: Any, **options: Any) -> None:
        load(context, *args, **options)
        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
        files.write(cert=THIRD[0])

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", loaded)
    tls.refresh()
    assert shown(tls) in (FIRST[0], SECOND[0])
    tls.refresh()
    assert shown(tls) in (FIRST[0], SECOND[0])
    files.write(key=THIRD[1])
    assert tls.refresh()
    assert shown(tls) == THIRD[0]


# --- its end --------------------------------------------------------------------------------------


def test_end_of_the_certificate_is_told_and_that_of_its_renewal(files: Files, tls: ServerTls) -> None:
    def days() -> int:
        assert tls.ends_at is not None
        return (tls.ends_at - datetime.datetime.now(datetime.timezone.utc)).days

    assert days() == 29
    files.write(*SECOND)
    tls.refresh()
    assert days() == 89


def test_end_is_that_of_the_certificate_in_force_not_of_one_that_does_not_fit(
    files: Files, tls: ServerTls
) -> None:
    """Else nobody is told that the old one runs out while the log says that it stays."""
    before = tls.ends_at
    files.write(cert=SECOND[0])
    assert not tls.refresh()
    assert tls.ends_at == before
    files.write(cert=b"")
    assert not tls.refresh()
    assert tls.ends_at == before
