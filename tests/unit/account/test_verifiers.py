"""What checks signatures: registered public keys and the own secret; one that cannot be read checks nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from resender.account.verifiers import own_verifier, verifiers_of
from resender.api_keys import Signer, digest_of
from resender.core.account.spec import AccountMarket, AccountSpec, Mode

SECRET = "s" * 64


class Account:
    """An account, as far as its own key goes."""

    api_key: str | None = None
    signer: Signer | None = None


def test_own_secret_checks_its_own_key_alone() -> None:
    account: Any = Account()
    assert own_verifier(account) == {}
    account.signer = Signer.parse(SECRET)
    assert own_verifier(account) == {}, "a secret without its key"
    account.api_key = "k" * 64
    found = own_verifier(account)
    assert list(found) == [digest_of("k" * 64)]
    signature = Signer.parse(SECRET).sign(b"a=1")
    verifier = found[digest_of("k" * 64)]
    assert verifier.verify(b"a=1", signature)
    assert not verifier.verify(b"a=2", signature)


def test_rsa_key_that_is_registered_checks_signatures(caplog: pytest.LogCaptureFixture) -> None:
    private = generate_private_key(65537, 2048)
    signer = Signer.parse(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    own = own_verifier(cast(Any, Account()))
    spec = AccountSpec(
        1, "desk", AccountMarket.UM, Mode.KEY, {"a": "", "b": ""}, {"a": public, "b": "no PEM at all"}
    )
    found = verifiers_of(spec, own)
    assert list(found) == ["a"]
    signature = signer.sign(b"x=1")
    assert found["a"].verify(b"x=1", signature)
    assert not found["a"].verify(b"x=1&", signature)
    assert "public key cannot be read" in caplog.text
    assert own == {}
