"""The texts of `EGRESS` and `EGRESS_PINS`: which egresses there are, which keys are bound to one.

Pure parsing; nothing is opened or resolved. It holds no state.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from resender.core.binance.markets import Market

DEFAULT = "default"
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,39})=(.+)", re.DOTALL)
_SHARED = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROXY_SCHEMES = ("http", "socks5", "socks4")
_RESENDER_SCHEMES = {"resender": "http", "resenders": "https"}
_PIN_PREFIX = re.compile(r"[A-Za-z0-9]{8,128}")
_PIN_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class EgressSpec:
    """One egress.

    Shape: `kind` is "default" (the machine's route), "address" (`address` is the local source),
        "proxy" (`scheme`, `host`, `port`, `username`, `password`) or "resender" (`scheme` is http
        or https, `host`, `port`). `markets` None means all. Entries of several nodes with the
        same `shared` are one address for Binance. Only `name` is shown to anybody.
    """

    name: str
    kind: str
    address: str = ""
    scheme: str = ""
    host: str = ""
    port: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    markets: frozenset[Market] | None = None
    shared: str = ""

    def serves(self, market: Market) -> bool:
        return self.markets is None or market in self.markets

    @property
    def has_streams(self) -> bool:
        """Another Binance Resender forwards REST only."""
        return self.kind != "resender"


DEFAULT_ROUTE = EgressSpec(DEFAULT, "default")


def place_of(node: str, egress: str, shared: str = "") -> str:
    """Return what stands for an egress in the whole installation. Shape: `node` is empty where there is one node."""
    return shared or (f"{node}/{egress}" if node else egress)


def rank_of(digest: bytes, place: str) -> bytes:
    """Return by what places are ordered for a key: the least comes first."""
    return hashlib.sha256(digest + place.encode()).digest()


def parse_egress(items: Iterable[str]) -> tuple[EgressSpec, ...]:
    """Read the entries of `EGRESS`; no entry means the machine's default route.

    Shape: `[name=]way[;markets=um+cm][;shared=word]`, where way is an IP address, `http://`, `socks5://` or
        `socks4://` with host and port, `resender://host:port`, `resenders://host:port` (TLS) or
        the word `default`. An unnamed entry is named by its address, a proxy by `host:port`. A
        proxy is shared by all nodes that name it; `shared` says so of others, such as a route behind one NAT.
    Raises: ValueError naming what is wrong; it never repeats a password.
    """
    specs = [_parse_one(item, number) for number, item in enumerate(items, 1)]
    names: set[str] = set()
    for spec in specs:
        if spec.name in names:
            raise ValueError(f"two entries are named {spec.name!r}; give them names of their own")
        names.add(spec.name)
    return tuple(specs) or (DEFAULT_ROUTE,)


def _parse_one(item: str, number: int) -> EgressSpec:
    where = f"entry {number}"
    egress, *options = (part.strip() for part in item.split(";"))
    name = ""
    found = _NAME.fullmatch(egress)
    if found is not None:
        name, egress = found.group(1), found.group(2).strip()
    markets, shared = _parse_options(options, where)
    if egress == DEFAULT:
        return EgressSpec(name or DEFAULT, "default", markets=markets, shared=shared)
    if "://" in egress:
        spec = _parse_url(egress, name, markets, where)
        if spec.kind == "proxy":
            shared = shared or f"proxy {spec.host}:{spec.port}"
        return replace(spec, shared=shared)
    try:
        address = ipaddress.ip_address(
            egress[1:-1] if egress.startswith("[") and egress.endswith("]") else egress
        )
    except ValueError:
        raise ValueError(
            f"{where} is neither an IP address, nor http://, socks5:// or resender:// with host and port, "
            "nor `default`"
        ) from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{where}: {address} cannot be a source address")
    return EgressSpec(name or str(address), "address", address=str(address), markets=markets, shared=shared)


def _parse_options(options: Sequence[str], where: str) -> tuple[frozenset[Market] | None, str]:
    markets: frozenset[Market] | None = None
    shared = ""
    for option in options:
        key, _, value = option.partition("=")
        if key.strip() == "shared" and not shared:
            shared = value.strip()
            if not _SHARED.fullmatch(shared):
                raise ValueError(f"{where}: `shared=` needs a word of letters, digits and . - _")
            continue
        if key.strip() != "markets" or markets is not None:
            raise ValueError(
                f"{where}: after ';' only one `markets=` and one `shared=` may stand, as in `;markets=um+cm`"
            )
        try:
            markets = frozenset(Market(word.strip()) for word in value.split("+"))
        except ValueError:
            words = ", ".join(market.value for market in Market)
            raise ValueError(f"{where}: markets are {words}, joined by '+'") from None
    return markets, shared


def _parse_url(egress: str, name: str, markets: frozenset[Market] | None, where: str) -> EgressSpec:
    try:
        parts = urlsplit(egress)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{where} is not a usable URL") from None
    if parts.scheme not in _PROXY_SCHEMES and parts.scheme not in _RESENDER_SCHEMES:
        raise ValueError(
            f"{where}: {parts.scheme}:// is not known; there are http, socks5, socks4 and resender"
        )
    if not host or not port or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{where} needs a host and a port and nothing behind them")
    if any(c.isspace() or ord(c) > 0x7E or ord(c) < 0x21 for c in egress):
        raise ValueError(f"{where} holds characters a URL cannot hold")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if parts.scheme in _RESENDER_SCHEMES:
        if parts.username or parts.password:
            raise ValueError(f"{where}: another Binance Resender knows no user name; it has a whitelist")
        scheme = _RESENDER_SCHEMES[parts.scheme]
        return EgressSpec(name or shown, "resender", scheme=scheme, host=host, port=port, markets=markets)
    if not (unquote(parts.username or "") + unquote(parts.password or "")).isascii():
        raise ValueError(f"{where}: user name and password of a proxy must be ASCII")
    return EgressSpec(
        name or shown,
        "proxy",
        scheme=parts.scheme,
        host=host,
        port=port,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        markets=markets,
    )


@dataclass(frozen=True, slots=True)
class Pins:
    """API keys bound to an egress.

    Shape: `prefixes` pairs of (beginning of the key, name), longest first; `digests` SHA-256 hex
        of a whole key to name.
    """

    prefixes: tuple[tuple[str, str], ...] = ()
    digests: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.prefixes or self.digests)

    def find(self, key: str) -> str | None:
        """Return the name a key is bound to."""
        if self.digests:
            name = self.digests.get(hashlib.sha256(key.encode("utf-8", "replace")).hexdigest())
            if name is not None:
                return name
        for prefix, name in self.prefixes:
            if key.startswith(prefix):
                return name
        return None

    def at(self, node: str) -> Pins:
        """Return them as a node of this name has them: its own egresses by their names alone."""
        return Pins(
            tuple((prefix, name.removeprefix(f"{node}/")) for prefix, name in self.prefixes),
            {digest: name.removeprefix(f"{node}/") for digest, name in self.digests.items()},
        )

    def names(self) -> set[str]:
        return {name for _, name in self.prefixes} | set(self.digests.values())


def parse_pins(items: Iterable[str]) -> Pins:
    """Read the entries of `EGRESS_PINS`.

    Shape: `<first 8 or more characters of the key>=<name>` or `sha256:<64 hex digits>=<name>`.
    Raises: ValueError by the number of the entry; a key is never repeated in it.
    """
    prefixes: dict[str, str] = {}
    digests: dict[str, str] = {}
    for number, item in enumerate(items, 1):
        key, mark, name = (part.strip() for part in item.partition("="))
        digest = _PIN_DIGEST.fullmatch(key)
        if not mark or not name:
            raise ValueError(f"entry {number} needs the form <key>=<name of an egress>")
        if digest is not None:
            known, table = digest.group(1).lower(), digests
        elif _PIN_PREFIX.fullmatch(key):
            known, table = key, prefixes
        else:
            raise ValueError(
                f"entry {number}: the key is given by its first 8 or more letters and digits, "
                "or as sha256:<64 hex digits>"
            )
        if table.setdefault(known, name) != name:
            raise ValueError(f"entry {number}: the same key is bound to two egresses")
    ordered = sorted(prefixes.items(), key=lambda pair: -len(pair[0]))
    return Pins(tuple(ordered), digests)
