"""Secrets at rest: short texts sealed with a key that is not in the database.

The key is the setting SECRET_KEY, or a file in DATA_DIR that is made when something is sealed first. What is
sealed names whose it is, so that it opens for nobody else.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import tempfile
from pathlib import Path

import orjson
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE_NAME = "account.key"
MIN_CHARS = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FILE_MAX = 1024


class SecretError(ValueError):
    """Something cannot be sealed or opened; the text says why, in one line and without secrets."""


class SecretBox:
    """Seals and opens.

    Shape: `secret_key` is the setting, "" for the file in `folder`.
    """

    def __init__(self, secret_key: str, folder: Path) -> None:
        self._secret_key = secret_key
        self._path = folder / FILE_NAME

    def __repr__(self) -> str:
        return "SecretBox()"

    def seal(self, text: str, context: str) -> str:
        """Seal a text for whom `context` names. Raises: SecretError."""
        try:
            inner = orjson.dumps({"context": context, "text": text})
        except TypeError:  # lone surrogates
            raise SecretError("it is no text that can be kept") from None
        return self._fernet(may_make=True).encrypt(inner).decode()

    def unseal(self, sealed: str, context: str) -> str:
        """Open what was sealed. Raises: SecretError."""
        try:
            inner = orjson.loads(self._fernet(may_make=False).decrypt(sealed.encode("utf-8", "replace")))
        except InvalidToken:
            raise SecretError("it was sealed with another key, or is damaged") from None
        if inner["context"] != context:
            raise SecretError("it belongs to another account")
        return str(inner["text"])

    def _fernet(self, *, may_make: bool) -> Fernet:
        # Nothing is kept: what is sealed now has to open with the file that is there now.
        if self._secret_key:
            if len(self._secret_key) < MIN_CHARS:
                raise SecretError(f"SECRET_KEY has fewer than {MIN_CHARS} characters")
            derive = HKDF(SHA256(), 32, salt=None, info=b"binance-resender accounts")
            return Fernet(
                base64.urlsafe_b64encode(derive.derive(self._secret_key.encode("utf-8", "replace")))
            )
        try:
            if may_make and not self._path.exists():
                self._make_file()
            return self._read_file()
        except FileNotFoundError:
            raise SecretError(f"{self._path} is missing: it opens the secrets of accounts") from None
        except OSError as error:
            raise SecretError(f"{self._path} cannot be used: {error.strerror}") from None

    def _make_file(self) -> None:
        """Make the key's file, whole or not at all; one that is there is never changed."""
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        # For its owner alone from the first moment on.
        file, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=folder)
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(Fernet.generate_key())
                writing.flush()
                os.fsync(writing.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(name, self._path)
        finally:
            os.unlink(name)
        # Before anything sealed with it is kept.
        listing = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(listing)
        finally:
            os.close(listing)

    def _read_file(self) -> Fernet:
        with self._path.open("rb") as reading:
            found = os.fstat(reading.fileno())
            if found.st_uid != os.geteuid():
                raise SecretError(f"{self._path} belongs to another user than the one that runs this")
            if found.st_mode & _OTHERS:
                raise SecretError(f"{self._path} may be read by others: chmod 600")
            text = reading.read(_FILE_MAX).strip()
        try:
            return Fernet(text)
        except ValueError:
            raise SecretError(f"{self._path} holds no key") from None
