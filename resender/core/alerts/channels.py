"""The channels: which fields each has, and what is posted to it for a message.

Pure: it makes requests and reads answers, it sends nothing. E-mail is `resender/alerts/sending.py`.
Sources (2026-11): Telegram Bot API "sendMessage"; Feishu/Lark, DingTalk and WeCom "custom robot" pages with their
signatures; Bark server API v2; Slack and Discord "incoming webhooks".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{20,100}")
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_LONGEST_TEXT = {"wecom": 2000, "discord": 1900, "telegram": 4000}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of a channel. Shape: `kind` is text, url, number or choice (of `choices`)."""

    name: str
    kind: str = "text"
    is_secret: bool = False
    is_needed: bool = True
    default: str = ""
    choices: tuple[str, ...] = ()


_URL = FieldSpec("url", "url", is_secret=True)
_SECRET = FieldSpec("secret", is_secret=True, is_needed=False)
CHANNELS: Mapping[str, tuple[FieldSpec, ...]] = {
    "telegram": (
        FieldSpec("token", is_secret=True),
        FieldSpec("chat_id"),
        FieldSpec("server", "url", is_needed=False, default="https://api.telegram.org"),
    ),
    "feishu": (_URL, _SECRET),
    "dingtalk": (_URL, _SECRET),
    "wecom": (_URL,),
    "bark": (
        FieldSpec("key", is_secret=True),
        FieldSpec("server", "url", is_needed=False, default="https://api.day.app"),
    ),
    "email": (
        FieldSpec("host"),
        FieldSpec("port", "number", is_needed=False, default="587"),
        FieldSpec(
            "security", "choice", is_needed=False, default="starttls", choices=("starttls", "tls", "none")
        ),
        FieldSpec("user", is_needed=False),
        FieldSpec("password", is_secret=True, is_needed=False),
        FieldSpec("sender"),
        FieldSpec("to"),
    ),
    "slack": (_URL,),
    "discord": (_URL,),
    "webhook": (_URL, _SECRET),
}


@dataclass(frozen=True, slots=True)
class Post:
    """One request. Shape: `url` with its query; `body` JSON."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def check_fields(kind: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a channel as they are kept: known ones, with their defaults.

    Raises: ValueError(field, words).
    """
    found: dict[str, str] = {}
    unknown = sorted(set(given) - {spec.name for spec in CHANNELS[kind]})
    if unknown:
        raise ValueError(unknown[0][:40], "There is no such field.")
    for spec in CHANNELS[kind]:
        text = str(given.get(spec.name) or "").strip() or spec.default
        if not text:
            if spec.is_needed:
                raise ValueError(spec.name, "It is needed.")
            continue
        if len(text) > 1000 or any(ord(c) < 32 for c in text):
            raise ValueError(spec.name, "It is too long, or has a line break.")
        _check(spec, text)
        found[spec.name] = text
    if kind == "telegram" and not _TOKEN.fullmatch(found["token"]):
        raise ValueError("token", "A bot's token looks like 123456789:AAF... (from @BotFather).")
    if kind == "email":
        _check_email(found)
    return found


def _check(spec: FieldSpec, text: str) -> None:
    if spec.kind == "url":
        try:
            parts = urlsplit(text)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
            _ = parts.port
        except ValueError:
            is_good = False
        if not is_good or any(c.isspace() or ord(c) > 0x7E for c in text):
            raise ValueError(spec.name, "It has to be an address such as https://host/path.")
    elif spec.kind == "number":
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
            raise ValueError(spec.name, "It has to be a number from 1 to 65535.")
    elif spec.kind == "choice" and text not in spec.choices:
        raise ValueError(spec.name, f"It has to be one of: {', '.join(spec.choices)}.")


def _check_email(found: Mapping[str, str]) -> None:
    labels = found["host"].split(".")
    is_host = ":" in found["host"] or all(0 < len(label) <= 63 for label in labels)
    if not _HOST.fullmatch(found["host"]) or not is_host:
        raise ValueError("host", "It has to be the name of a mail server.")
    for name in ("sender", "to"):
        for address in found[name].split(","):
            before, at, after = address.strip().rpartition("@")
            if not (before and at and after) or any(c in address for c in "<>[]\r\n") or ".." in after:
                raise ValueError(name, "It has to be an e-mail address.")
    for name in ("user", "password"):
        if not found.get(name, "").isascii():
            raise ValueError(name, "Mail servers take ASCII letters only.")
    if found.get("security") == "none" and found.get("password"):
        raise ValueError("security", "A password is not sent without TLS.")


def shown_fields(kind: str, fields: Mapping[str, str]) -> dict[str, str]:
    """Return what may be shown of a channel's fields: secrets are left out, of an address its host."""
    shown = {}
    for spec in CHANNELS[kind]:
        text = fields.get(spec.name, "")
        if spec.kind == "url" and spec.is_secret and text:
            shown[spec.name] = urlsplit(text).hostname or ""
        elif not spec.is_secret and text:
            shown[spec.name] = text
    return shown


def make_post(
    kind: str, fields: Mapping[str, str], title: str, text: str, events: list[dict[str, object]], now_ms: int
) -> Post:
    """Make the request of a message. Shape: `events` are for programs, of the webhook."""
    longest = _LONGEST_TEXT.get(kind, 8000)
    both = f"{title}\n{text}"
    both = _cut(both, longest)
    url = fields.get("url", "")
    headers: dict[str, str] = {}
    body: dict[str, object]
    if kind == "telegram":
        url = f"{fields['server'].rstrip('/')}/bot{fields['token']}/sendMessage"
        body = {"chat_id": fields["chat_id"], "text": both, "disable_web_page_preview": True}
    elif kind == "feishu":
        body = {"msg_type": "text", "content": {"text": both}}
        if secret := fields.get("secret"):
            stamp = str(now_ms // 1000)
            body |= {"timestamp": stamp, "sign": _sign(f"{stamp}\n{secret}", b"")}
    elif kind == "dingtalk":
        body = {"msgtype": "text", "text": {"content": both}}
        if secret := fields.get("secret"):
            signature = quote_plus(_sign(secret, f"{now_ms}\n{secret}".encode()))
            url += f"{'&' if '?' in url else '?'}timestamp={now_ms}&sign={signature}"
    elif kind == "wecom":
        body = {"msgtype": "text", "text": {"content": both}}
    elif kind == "bark":
        url = f"{fields['server'].rstrip('/')}/push"
        # Apple takes 4096 bytes for the whole.
        body = {
            "device_key": fields["key"],
            "title": title,
            "body": _cut(text, 3000),
            "group": "Binance Resender",
        }
    elif kind == "slack":
        body = {"text": both}
    elif kind == "discord":
        body = {"content": both, "allowed_mentions": {"parse": []}}
    else:
        body = {"title": title, "text": text, "events": events, "time": now_ms}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers["Content-Type"] = "application/json; charset=utf-8"
    if kind == "webhook" and (secret := fields.get("secret")):
        stamp = str(now_ms)
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + data, hashlib.sha256).hexdigest()
        headers |= {"Resender-Timestamp": stamp, "Resender-Signature": f"sha256={digest}"}
    return Post(url, headers, data)


def _cut(text: str, longest: int) -> str:
    """Units: bytes."""
    data = text.encode()
    return text if len(data) <= longest else data[: longest - 4].decode("utf-8", "ignore") + " ..."


def _sign(key: str, text: bytes) -> str:
    return base64.b64encode(hmac.new(key.encode(), text, hashlib.sha256).digest()).decode()


# Where a robot says in its answer's body whether it has taken the message: key, value that is good.
_VERDICTS: Mapping[str, tuple[tuple[str, object], ...]] = {
    "telegram": (("ok", True),),
    "feishu": (("code", 0), ("StatusCode", 0)),
    "dingtalk": (("errcode", 0),),
    "wecom": (("errcode", 0),),
    "bark": (("code", 200),),
}
_WORDS = ("description", "msg", "errmsg", "message", "StatusMessage")


def problem_of(kind: str, status: int, body: bytes, mask: Callable[[str], str] = str) -> str:
    """Say in words why a message was not taken; empty if it was. Shape: `mask` takes secrets out of what it says."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    said = ""
    if isinstance(found, dict):
        said = next((str(found[name]) for name in _WORDS if found.get(name)), "")
    elif kind == "slack":  # it says why in plain words
        said = body.decode("utf-8", "ignore")
    said = mask("".join(c for c in said if c.isprintable()))[:200]
    if not 200 <= status < 300:
        return f"HTTP {status}{f': {said}' if said else ''}"
    wanted = _VERDICTS.get(kind)
    if wanted is None:
        return ""
    if isinstance(found, dict) and any(found.get(name, wanted) == value for name, value in wanted):
        return ""
    return said or "its answer does not say that it was taken"
