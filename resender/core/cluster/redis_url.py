"""The text of `REDIS_URL`: where Redis is and how to log in there. Pure; nothing is opened or resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

_DEFAULT_PORT = 6379
_FORM = "must be such as redis://user:password@host:6379/0, rediss://host (TLS) or unix:///path/redis.sock"
# What may stand behind the question mark of a rediss:// URL: files of certificates, named as Redis clients do.
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is.

    Shape: `path` of a Unix socket, or `host` and `port`; the files are "" where the system's authorities do.
    """

    host: str = ""
    port: int = _DEFAULT_PORT
    path: str = ""
    is_tls: bool = False
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def where(self) -> str:
        """Name it for people, without user and password."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_redis_url(text: str) -> RedisAddress:
    """Read a URL.

    Raises: ValueError with words for people; it repeats nothing of the URL.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ValueError(_FORM) from None
    if parts.fragment or any(c.isspace() or not 0x20 < ord(c) < 0x7F for c in text) or port == 0:
        raise ValueError(f"{_FORM}; other characters of a password are written as %xx")
    login = unquote(parts.username or ""), unquote(parts.password or "")
    if login[0] and not login[1]:
        raise ValueError(
            "has a user name but no password; a password alone is written as redis://:password@host"
        )
    if parts.scheme == "unix":
        if host or port or not parts.path.startswith("/") or parts.path == "/":
            raise ValueError(_FORM)
        db = _read_db(options.pop("db", "0"))
        _refuse_others(options)
        return RedisAddress(path=unquote(parts.path), db=db, user=login[0], password=login[1])
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ValueError(_FORM)
    is_tls = parts.scheme == "rediss"
    db = _read_db(options.pop("db", "") or parts.path.strip("/") or "0")
    files = [options.pop(name, "") if is_tls else "" for name in _TLS_FILES]
    _refuse_others(options)
    return RedisAddress(host, port or _DEFAULT_PORT, "", is_tls, db, *login, *files)


def _read_db(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise ValueError("the database behind the host must be a number, as in redis://host/1")
    return int(text)


def _refuse_others(options: dict[str, str]) -> None:
    if options:
        raise ValueError(
            f"behind the question mark only db and, with rediss://, {', '.join(_TLS_FILES)} may stand"
        )
