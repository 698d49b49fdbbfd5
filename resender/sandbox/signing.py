"""Keys, timestamps and signatures, checked over the bytes as they came.

Pure: bytes, secret and time in, an error or nothing out. It holds no state.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Container

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .model import ApiError

_KEY_FORMAT = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_MICROSECONDS_FROM = 10**15


def strip_signature(raw: bytes) -> bytes:
    """Return the bytes without the signature parameter, everything else untouched.

    Shape: `a=1&signature=x&b=2` gives `a=1&b=2`; the name must be spelled plainly.
    """
    if raw.startswith(b"signature="):
        return raw.partition(b"&")[2]
    head, found, tail = raw.partition(b"&signature=")
    if not found:
        return raw
    _, separator, rest = tail.partition(b"&")
    return head + separator + rest


def sign(secret: str, query: bytes, body: bytes = b"") -> str:
    """Return the HMAC-SHA256 of query and body put together without a separator."""
    return hmac.new(secret.encode(), query + body, hashlib.sha256).hexdigest()


def check_key(api_key: str | None, accounts: Container[str]) -> str:
    """Return the key when it is a known one.

    Raises: ApiError -2014 for a missing or malformed key, -2015 for an unknown one.
    """
    if not api_key or not _KEY_FORMAT.fullmatch(api_key):
        raise ApiError(-2014, "API-key format invalid.", 401)
    if api_key not in accounts:
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
    return api_key


def check_signature(secret: str, query: bytes, body: bytes, signature: str) -> None:
    """Raise ApiError -1022 unless the signature fits the bytes as received."""
    expected = sign(secret, strip_signature(query), strip_signature(body))
    if not hmac.compare_digest(expected.encode(), signature.lower().encode("utf-8", "replace")):
        raise ApiError(-1022, "Signature for this request is not valid.")


def read_public_key(pem: str) -> Ed25519PublicKey:
    """Read the PEM of an Ed25519 public key.

    Raises: ValueError when it is something else.
    """
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key")
    return key


def check_ed25519(key: Ed25519PublicKey, payload: bytes, signature: str) -> None:
    """Raise ApiError -1022 unless the base64 signature fits the payload."""
    try:
        key.verify(base64.b64decode(signature, validate=True), payload)
    except (InvalidSignature, binascii.Error, ValueError):
        raise ApiError(-1022, "Signature for this request is not valid.") from None


def check_time(params: dict[str, str], now_ms: int) -> None:
    """Apply the timestamp and recvWindow rules.

    Raises: ApiError -1102, -1100, -1131 or -1021.
    Source: spot rest-api.md of 2026-07-21: not 1,000 ms ahead, not older than recvWindow.
    """
    text = params.get("timestamp", "")
    if not text:
        raise mandatory("timestamp")
    if not _DIGITS.fullmatch(text):
        raise illegal("timestamp", "^[0-9]{1,20}$")
    timestamp = int(text)
    if timestamp >= _MICROSECONDS_FROM:
        timestamp //= 1000
    try:
        window = float(params.get("recvWindow") or 5000)
    except ValueError:
        raise illegal("recvWindow", "^([0-9]{1,10})(\\.[0-9]{1,3})?$") from None
    if window > 60_000:
        raise ApiError(-1131, "recvWindow must be less than 60000.")
    if timestamp >= now_ms + 1000:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp > window:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def mandatory(name: str) -> ApiError:
    """Build the error for a parameter that is missing."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, legal: str) -> ApiError:
    """Build the error for a parameter with characters that may not be in it."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
