"""Passwords: how they are hashed, compared, made up and judged.

It stores nothing and knows no user. No state but the hasher's parameters.

Source: OWASP's Password Storage Cheat Sheet: argon2id with 19 MiB, 2 passes, 1 lane. That is some
30 ms of one core, so that log-ins cannot starve a machine with two of them.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata

import argon2

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Compared with when there is no such user, so that the answer takes as long as for one that exists.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$R8Cnf3oYTq0yVbWkZpLx4A$Y0u1Yc9vJ3hQm5rT7wXz2bN4dF6gH8jK0lP1oI3uE5s"

LENGTH_MIN = 10
LENGTH_MAX = 200
# What is hashed at all: more is no password but an attempt to keep the processor busy.
_HASHED_MAX = 1000

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
_GENERATED_LENGTH = 20

# The first of every list of stolen passwords, as far as they are long enough to get here.
_COMMON = """
0123456789 0987654321 1029384756 1111111111 1234567890 12345678910 123456789a 1234567891 1q2w3e4r5t
1qaz2wsx3edc a123456789 abcd123456 abcdefghij adminadmin admin12345 admin123456 administrator
binance123 binance123456 changeme123 football123 iloveyou123 letmein123 passw0rd123 password12
password123 password1234 password12345 princess123 q1w2e3r4t5 qazwsxedcrfv qwerty12345 qwerty123456
qwertyuiop qwertyuiop123 welcome123 zaq12wsxcde3
"""
_NOTORIOUS = frozenset(_COMMON.split())


class WeakPassword(ValueError):
    """A password that is not accepted; `reason` is `short`, `long`, `user_name` or `common`."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def hash_password(password: str) -> str:
    """Return what is stored of a password; takes some 30 ms.

    Raises: ValueError if it is longer than anybody's password.
    """
    if len(password) > _HASHED_MAX:
        raise WeakPassword("long", f"A password has at most {LENGTH_MAX} characters.")
    return _HASHER.hash(_encoded(password))


def verify_password(password_hash: str | None, password: str) -> bool:
    """Tell whether a password is the one that was hashed; takes as long without a hash."""
    is_possible = password_hash is not None and len(password) <= _HASHED_MAX
    given = _encoded(password[:_HASHED_MAX])
    try:
        return _HASHER.verify(password_hash or _NOBODY, given) and is_possible
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
        # A damaged hash lets nobody in, and takes its time too.
        return False if password_hash is None else verify_password(None, password)


def needs_rehash(password_hash: str) -> bool:
    """Tell whether a hash was made with other parameters than today's."""
    try:
        return _HASHER.check_needs_rehash(password_hash)
    except argon2.exceptions.InvalidHash:
        return True


def generate_password() -> str:
    """Make up a password: 20 letters and digits that cannot be mistaken for one another."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_GENERATED_LENGTH))


def check_password(password: str, username: str) -> None:
    """Refuse a password that is too easy to guess.

    Raises: WeakPassword, a ValueError with a text for the user.
    """
    if len(password) < LENGTH_MIN:
        raise WeakPassword("short", f"A password needs at least {LENGTH_MIN} characters.")
    if len(password) > LENGTH_MAX:
        raise WeakPassword("long", f"A password has at most {LENGTH_MAX} characters.")
    plain = password.strip().lower()
    name = username.strip().lower()
    if name and plain.replace(name, "").strip("0123456789!.-_@# ") == "" and name in plain:
        raise WeakPassword("user_name", "The password must not be made of the user name.")
    if plain in _NOTORIOUS or len(set(plain)) < 4:
        raise WeakPassword("common", "This password is among the first anybody would try.")


def digest(secret: str) -> str:
    """Return what is stored of a session's or token's secret: it is random, so a plain hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _encoded(password: str) -> bytes:
    # The same letters typed on another device may come as other code points.
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
