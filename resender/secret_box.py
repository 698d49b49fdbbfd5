"""Secrets at rest: short texts sealed with a key that is not in the database.

The key is the setting SECRET_KEY, or a file in DATA_DIR that is made when something is sealed first. What is
sealed names whose it is, so that it opens for nobody else.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from pathlib import Path

import orjson
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE_NAME = "account.key"
MIN_CHARS = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class SecretError(ValueError):
    """Something cannot be sealed or opened; the text says why, in one line and without secrets."""


class SecretBox:
    """Seals and opens.

    Shape: `secret_key` is the setting, "" for the file in `folder`.
    """

    def __init__(self, secret_key: str, folder: Path) -> None:
        self._secret_key = secret_key
        self._path = folder / FILE_NAME
        self._fernet: Fernet | None = None

    def __repr__(self) -> str:
        return "SecretBox()"

    def seal(self, text: str, context: str) -> str:
        """Seal a text for whom `context` names. Raises: SecretError."""
        inner = orjson.dumps({"context": context, "text": text})
        return self._open_box(may_make=True).encrypt(inner).decode()

    def unseal(self, sealed: str, context: str) -> str:
        """Open what was sealed. Raises: SecretError."""
        try:
            inner = orjson.loads(self._open_box(may_make=False).decrypt(sealed.encode()))
        except InvalidToken:
            raise SecretError("it was sealed with another key, or is damaged") from None
        if inner.get("context") != context:
            raise SecretError("it belongs to another account")
        return str(inner["text"])

    def _open_box(self, *, may_make: bool) -> Fernet:
        if self._fernet is None:
            self._fernet = Fernet(self._key(may_make=may_make))
        return self._fernet

    def _key(self, *, may_make: bool) -> bytes:
        if self._secret_key:
            if len(self._secret_key) < MIN_CHARS:
                raise SecretError(f"SECRET_KEY has fewer than {MIN_CHARS} characters")
            derive = HKDF(SHA256(), 32, salt=None, info=b"binance-resender accounts")
            return base64.urlsafe_b64encode(derive.derive(self._secret_key.encode()))
        if may_make:
            self._make_file()
        return self._read_file()

    def _make_file(self) -> None:
        """Make the key's file, whole or not at all; one that is there is never changed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            return
        draft = self._path.with_name(f".{FILE_NAME}.{os.getpid()}")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(file, "wb") as writing:
                writing.write(Fernet.generate_key())
                writing.flush()
                os.fsync(writing.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(draft, self._path)
        except OSError as error:
            raise SecretError(f"{self._path} cannot be written: {error.strerror}") from None
        finally:
            draft.unlink(missing_ok=True)

    def _read_file(self) -> bytes:
        try:
            found = self._path.stat()
            if found.st_mode & _OTHERS:
                raise SecretError(f"{self._path} may be read by others: chmod 600")
            if found.st_uid != os.geteuid():
                raise SecretError(f"{self._path} belongs to another user")
            text = self._path.read_bytes().strip()
            Fernet(text)
        except FileNotFoundError:
            raise SecretError(f"{self._path} is missing: it opens the secrets of accounts") from None
        except OSError as error:
            raise SecretError(f"{self._path} cannot be read: {error.strerror}") from None
        except SecretError:
            raise
        except ValueError:
            raise SecretError(f"{self._path} holds no key") from None
        return text
