"""API keys: digests, and signatures of the three kinds that Binance takes."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from resender.api_keys import Signer, Verifier, digest_of, hint_of

# Source: rest-api.md of 2026-07-21, "SIGNED Endpoint examples", HMAC keys.
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
PAYLOAD = (
    b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
    b"&timestamp=1499827319559"
)
SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"

ED25519 = Ed25519PrivateKey.generate()
RSA = generate_private_key(65537, 2048)


def private(key: object, passphrase: bytes = b"") -> str:
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()  # type: ignore[attr-defined,no-any-return]


def public(key: object) -> str:
    there = key.public_key()  # type: ignore[attr-defined]
    return there.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def test_key_is_known_by_digest_and_hint() -> None:
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(digest_of("\ud800")) == 64
    assert hint_of(SECRET) == "Tj0j"
    assert hint_of("ab") == "ab"


def test_hmac_signs_as_the_documentation_says() -> None:
    signer = Signer.parse(SECRET)
    assert signer.kind == "hmac"
    assert signer.sign(PAYLOAD) == SIGNATURE
    assert Signer.parse(f"  {SECRET}\r\n").sign(PAYLOAD) == SIGNATURE


@pytest.mark.parametrize(
    ("signature", "is_good"),
    [
        (SIGNATURE, True),
        (SIGNATURE.upper(), True),
        (SIGNATURE[:-1], False),
        (SIGNATURE + "0", False),
        ("", False),
        ("é" * 64, False),
        ("\ud800", False),
        (SIGNATURE[:-1] + "２", False),
    ],
)
def test_hmac_signature_is_checked(signature: str, is_good: bool) -> None:
    assert Verifier.of(Signer.parse(SECRET)).verify(PAYLOAD, signature) is is_good


@pytest.mark.parametrize(("key", "kind"), [(ED25519, "ed25519"), (RSA, "rsa")])
def test_private_keys_sign_what_the_public_one_checks(key: object, kind: str) -> None:
    signer = Signer.parse(private(key))
    assert signer.kind == kind
    signature = signer.sign(PAYLOAD)
    for verifier in (Verifier.of(signer), Verifier.parse(public(key))):
        assert verifier.verify(PAYLOAD, signature)
        assert verifier.verify(PAYLOAD, signature.replace("+", " ")), "as a query gives an unquoted plus"
        assert not verifier.verify(PAYLOAD + b"0", signature)
        assert not verifier.verify(PAYLOAD, "")
        assert not verifier.verify(PAYLOAD, "é")
        assert not verifier.verify(PAYLOAD, "\ud800")
        assert not verifier.verify(PAYLOAD, signature[:-2])
        assert not verifier.verify(PAYLOAD, base64.b64encode(b"\0" * 64).decode())
        assert not verifier.verify(PAYLOAD, SIGNATURE)


def test_openssl_takes_the_signature(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_text(public(RSA))
    (tmp_path / "signature").write_bytes(base64.b64decode(Signer.parse(private(RSA)).sign(PAYLOAD)))
    (tmp_path / "payload").write_bytes(PAYLOAD)
    command = ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "payload"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout == b"Verified OK\n"


def test_keys_of_another_do_not_fit() -> None:
    signature = Signer.parse(private(ED25519)).sign(PAYLOAD)
    assert not Verifier.parse(public(Ed25519PrivateKey.generate())).verify(PAYLOAD, signature)
    assert not Verifier.parse(public(RSA)).verify(PAYLOAD, signature)


def test_windows_lines_and_blanks_around_are_read() -> None:
    text = private(ED25519)
    assert Signer.parse("\r\n" + text.replace("\n", "\r\n") + "  ").kind == "ed25519"
    assert Verifier.parse("\n" + public(ED25519).replace("\n", "\r\n"))


EC = ec.generate_private_key(ec.SECP256R1())
SMALL = generate_private_key(65537, 1024)
DSA = dsa.generate_private_key(2048)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "64 letters and digits"),
        ("short", "64 letters and digits"),
        ("x" * 600, "64 letters and digits"),
        (SECRET + "!", "64 letters and digits"),
        (SECRET[:30] + " " + SECRET[30:], "64 letters and digits"),
        (SECRET + "é", "64 letters and digits"),
        (private(EC), "Ed25519 and of RSA"),
        (private(DSA), "Ed25519 and of RSA"),
        (private(SMALL), "2048 bits or more"),
        (private(ED25519, b"passphrase"), "has a passphrase"),
        (private(RSA)[:-200], "cannot be read"),
        (private(ED25519) + "\ud800", "cannot be read"),
        ("-----BEGIN PRIVATE KEY-----\nrubbish\n-----END PRIVATE KEY-----", "cannot be read"),
        (public(ED25519), "the public key"),
    ],
    ids=range(14),
)
def test_what_is_no_secret_is_refused_without_being_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Signer.parse(text)
    said = str(caught.value)
    assert "\n" not in said
    for part in text.split():
        assert len(part) < 16 or part not in said
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        (SECRET, "cannot be read"),
        (public(ED25519)[:60], "cannot be read"),
        ("\ud800", "cannot be read"),
        (public(EC), "Ed25519 and of RSA"),
        (public(SMALL), "2048 bits or more"),
        (private(ED25519), "This is a private key"),
        (private(ED25519, b"passphrase"), "This is a private key"),
    ],
    ids=range(8),
)
def test_what_is_no_public_key_is_refused_without_being_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Verifier.parse(text)
    for part in text.split():
        assert len(part) < 16 or part not in str(caught.value)


def test_nothing_shows_a_secret() -> None:
    for text in (SECRET, private(ED25519), private(RSA)):
        signer = Signer.parse(text)
        assert repr(signer) == f"Signer({signer.kind})"
        assert repr(Verifier.of(signer)) == "Verifier()"
