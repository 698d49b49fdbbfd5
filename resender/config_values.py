"""How the value of a setting is read: from Python in settings.py or from text in the environment.

Pure: each function takes a value and returns it as `Config` holds it, or raises ValueError with words
for people. It knows no setting by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from resender.core.access.whitelist import normalise_address, normalise_entry
from resender.core.cluster.node_info import ROLES
from resender.core.cluster.redis_url import parse_redis_url
from resender.core.egress.spec import parse_egress, parse_pins
from resender.core.market.consent import parse_consent
from resender.core.market.preload import parse_preload

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,62})\.)*[a-z0-9][a-z0-9-]{0,62}")
OFF = "off"

Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings, for help texts and documentation."""

    name: str
    default: Any
    help: str
    secret: bool
    parse: Parser


def setting(default: Any, parse: Parser, help: str, *, secret: bool = False) -> Any:
    """Declare one setting: default, how a value is read, one line of help, is it a secret."""
    return field(default=default, metadata={"parse": parse, "help": help, "secret": secret})


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.strip()


def text_of_at_least(chars: int) -> Parser:
    def parse(value: Any) -> str:
        text = read_text(value)
        if text and len(text) < chars:
            raise ValueError(f"must have {chars} characters or more")
        return text

    return parse


def one_of(*words: str) -> Parser:
    known = {word.lower(): word for word in words}

    def parse(value: Any) -> str:
        text = read_text(value).lower()
        if text not in known:
            raise ValueError(f"must be one of {', '.join(words)}")
        return known[text]

    return parse


def integer_between(low: int, high: int) -> Parser:
    def parse(value: Any) -> int:
        if isinstance(value, (bool, float)):
            raise ValueError("must be a whole number")
        try:
            number = int(str(value).strip().replace("_", ""))
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must lie between {low} and {high}")
        return number

    return parse


def seconds_between(low: float, high: float) -> Parser:
    def parse(value: Any) -> float:
        try:
            number = float("x" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise ValueError("must be a number of seconds") from None
        if not low <= number <= high:
            raise ValueError(f"must lie between {low:g} and {high:g} seconds")
        return number

    return parse


def base_url(*schemes: str, can_be_off: bool = False) -> Parser:
    def parse(value: Any) -> str:
        text = read_text(value)
        if can_be_off and text.lower() == OFF:
            return OFF
        hint = f"must be a base URL such as {schemes[-1]}://host or {schemes[-1]}://host:port"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError(hint) from None
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in schemes or not parts.hostname or not plain or parts.path not in ("", "/"):
            raise ValueError(hint)
        if any(c.isspace() or ord(c) > 0x7E for c in text) or port == 0:
            raise ValueError(hint)
        return f"{parts.scheme}://{parts.netloc}"

    return parse


def read_redis_url(value: Any) -> str:
    text = read_text(value)
    if text:
        parse_redis_url(text)
    return text


def read_node_name(value: Any) -> str:
    text = read_text(value)
    if text and not _NODE.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits and . _ : -, a letter or digit first")
    return text


def read_roles(value: Any) -> tuple[str, ...]:
    """Read what a node is for. Shape: in the order of `ROLES`; `all` or nothing is every one."""
    words = [word.lower() for word in read_items(value)]
    unknown = [word for word in words if word not in (*ROLES, "all")]
    if unknown:
        raise ValueError(f"{unknown[0][:40]!r} is no role; there are all, {', '.join(ROLES)}")
    return ROLES if not words or "all" in words else tuple(role for role in ROLES if role in words)


def read_items(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(v, str) for v in value):
        raise ValueError("must be a list of texts, or one text with commas")
    return tuple(item.strip() for item in value if item.strip())


def read_egress(value: Any) -> tuple[str, ...]:
    items = read_items(value)
    parse_egress(items)
    return items


def read_pins(value: Any) -> tuple[str, ...]:
    items = read_items(value)
    parse_pins(items)
    return items


def read_addresses(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normalise_address(item) for item in read_items(value)))


def read_entries(value: Any) -> tuple[str, ...]:
    """Read whitelist entries: addresses, networks and DNS names."""
    return tuple(dict.fromkeys(normalise_entry(item) for item in read_items(value)))


def read_host_suffix(value: Any) -> str:
    text = read_text(value).lower().strip(".")
    if text and not _HOST.fullmatch(text):
        raise ValueError("must be a domain such as gw.example, without a scheme, a port or a path")
    return text


def read_hosts(value: Any) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(item.lower().rstrip(".") for item in read_items(value)))
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host[:60]!r} is no host name; hosts stand here without a port")
    return hosts


def read_fraction(value: Any) -> float:
    try:
        number = float("x" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        raise ValueError("must be a fraction such as 0.5") from None
    if not 0 < number <= 1:
        raise ValueError("must be a fraction above 0 and at most 1")
    return number


def share_between(low: float, high: float) -> Parser:
    def parse(value: Any) -> float:
        try:
            number = float("x" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise ValueError("must be a fraction such as 0.1") from None
        if not low <= number <= high:
            raise ValueError(f"must be a fraction from {low:g} to {high:g}")
        return number

    return parse


def read_flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def read_preload(value: Any) -> str:
    text = read_text(value)
    parse_preload(text)
    return text


def read_consent(value: Any) -> tuple[str, ...]:
    texts = read_items(value)
    parse_consent(texts)
    return texts


def read_workers(value: Any) -> int:
    """Read how many processes serve. Shape: `auto` is one for each core."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return max(
            1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
    return int(integer_between(1, 64)(value))
