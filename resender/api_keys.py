"""API keys and what is signed with them: HMAC, Ed25519 and RSA as Binance takes them.

Nothing here is stored or logged; texts of errors never hold a secret.
Source: rest-api.md of 2026-07-21, "SIGNED Endpoint examples".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

Kind = Literal["hmac", "ed25519", "rsa"]
_MIN_SECRET, _MAX_SECRET = 16, 512
_MIN_RSA_BITS = 2048
_PEM = "-----BEGIN"
_OTHER_KIND = "Binance takes keys of Ed25519 and of RSA (2048 bits or more), this is another one."


def digest_of(api_key: str) -> str:
    """Return what an API key is known by: SHA-256, hexadecimal."""
    return hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest()


def hint_of(api_key: str) -> str:
    """Return what people tell an API key by: its last four characters."""
    return api_key[-4:]


class Signer:
    """Signs with one secret."""

    __slots__ = ("_secret", "kind")

    def __init__(self, kind: Kind, secret: bytes | Ed25519PrivateKey | RSAPrivateKey) -> None:
        self.kind = kind
        self._secret = secret

    def __repr__(self) -> str:
        return f"Signer({self.kind})"

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read a secret: a private key in PEM (Ed25519 or RSA, without a passphrase), or an HMAC secret.

        Raises: ValueError.
        """
        if _PEM not in text:
            secret = text.strip()
            if not _MIN_SECRET <= len(secret) <= _MAX_SECRET or not secret.isascii() or not secret.isalnum():
                raise ValueError("A secret is some 64 letters and digits, or a private key in PEM.")
            return cls("hmac", secret.encode())
        if "-----BEGIN PUBLIC" in text:
            raise ValueError("This is the public key: the secret is the private one.")
        try:
            key = load_pem_private_key(text.strip().encode(), password=None)
        except TypeError:
            raise ValueError("The private key has a passphrase; store one without.") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("The private key cannot be read: PEM (PKCS#8) of Ed25519 or RSA is.") from None
        if isinstance(key, Ed25519PrivateKey):
            return cls("ed25519", key)
        if isinstance(key, RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
            return cls("rsa", key)
        raise ValueError(_OTHER_KIND)

    def sign(self, payload: bytes) -> str:
        """Sign: hexadecimal for HMAC, base64 for the others."""
        secret = self._secret
        if isinstance(secret, bytes):
            return hmac.new(secret, payload, hashlib.sha256).hexdigest()
        if isinstance(secret, Ed25519PrivateKey):
            return base64.b64encode(secret.sign(payload)).decode()
        return base64.b64encode(secret.sign(payload, PKCS1v15(), SHA256())).decode()

    @property
    def checker(self) -> bytes | Ed25519PublicKey | RSAPublicKey:
        """What signatures are checked with."""
        return self._secret if isinstance(self._secret, bytes) else self._secret.public_key()


class Verifier:
    """Checks signatures of one key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes | Ed25519PublicKey | RSAPublicKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Verifier()"

    @classmethod
    def of(cls, signer: Signer) -> Verifier:
        """Make the one that belongs to a signer."""
        return cls(signer.checker)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read a public key in PEM. Raises: ValueError."""
        if "PRIVATE KEY-----" in text:
            raise ValueError("This is a private key: the public one is wanted here.")
        try:
            key = load_pem_public_key(text.strip().encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("The public key cannot be read: PEM of Ed25519 or RSA is.") from None
        if isinstance(key, Ed25519PublicKey) or (
            isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS
        ):
            return cls(key)
        raise ValueError(_OTHER_KIND)

    def verify(self, payload: bytes, signature: str) -> bool:
        """Tell whether a signature is good; percent-encoding is undone before."""
        key = self._key
        if isinstance(key, bytes):
            expected = hmac.new(key, payload, hashlib.sha256).hexdigest().encode()
            return hmac.compare_digest(expected, signature.lower().encode("utf-8", "replace"))
        try:
            # Base64 in a query loses its "+" to a space where a client did not encode it.
            raw = base64.b64decode(signature.replace(" ", "+"), validate=True)
            if isinstance(key, Ed25519PublicKey):
                key.verify(raw, payload)
            else:
                key.verify(raw, payload, PKCS1v15(), SHA256())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True
