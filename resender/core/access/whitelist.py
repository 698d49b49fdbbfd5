"""Who may call: matching an address against the whitelist, and finding out a client's address.

It does no I/O and reads no database: the store hands it entries, the web layer hands it
header values. `Whitelist` is immutable; whoever holds it replaces it whole on a change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_KNOWN_MAX = 4096
_NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})
# As long as the column it is stored in.
_NAME_MAX = 64
# Source: RFC 1123 section 2.1; the last label of a name is never a number.
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)+(?![0-9]+\Z)[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])")


class Entry(Protocol):
    """What `Whitelist` needs of an entry."""

    @property
    def id(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def enabled(self) -> bool: ...


def parse_ip(text: str) -> IPAddress:
    """Parse one address; an IPv4-mapped IPv6 address becomes its IPv4 address, a zone is dropped.

    Raises: ValueError if it is none.
    """
    if "%" in text:
        text = text.partition("%")[0]
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> IPNetwork:
    """Parse an address or a CIDR network.

    Shape: an address is a network of one (`/32`, `/128`); `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
    Raises: ValueError with a text for the user, also when host bits are set.
    """
    cleaned = text.strip()
    if not cleaned:
        raise ValueError("The address is empty.")
    try:
        network = ipaddress.ip_network(cleaned, strict=True)
    except ValueError as error:
        if "/" in cleaned and "has host bits set" in str(error):
            proper = ipaddress.ip_network(cleaned, strict=False)
            raise ValueError(
                f"{cleaned!r} names a host inside a network. Write {proper} for the whole network, "
                f"or {cleaned.partition('/')[0]} for this one address."
            ) from None
        raise ValueError(
            f"{cleaned[:60]!r} is not an IPv4 or IPv6 address or network "
            "(examples: 203.0.113.5, 203.0.113.0/24, 2001:db8::/32)."
        ) from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            raise ValueError(f"{cleaned!r} has a zone; write the address without it.")
        if network.prefixlen >= 96 and network.subnet_of(_MAPPED):
            mapped = network.network_address.ipv4_mapped
            return ipaddress.IPv4Network(f"{mapped}/{network.prefixlen - 96}")
    return network


def normalise_address(text: str) -> str:
    """Return the one spelling under which an entry is stored.

    Shape: "203.0.113.5" for an address, "203.0.113.0/24" for a network.
    Raises: ValueError with a text for the user.
    """
    network = parse_network(text)
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def normalise_entry(text: str) -> str:
    """Return the one spelling under which a whitelist entry is stored: an address, a network or a DNS name.

    Shape: a name has a dot and no number as its last part: "203.0.113.500" is no name but a mistake.
    Raises: ValueError with a text for the user.
    """
    name = text.strip().rstrip(".").lower()
    if is_name(name):
        return name
    try:
        return normalise_address(text)
    except ValueError as error:
        if any(c.isalpha() and c not in "abcdefABCDEF" for c in name) and ":" not in name and "/" not in name:
            raise ValueError(
                f"{text.strip()[:60]!r} is not an IPv4 or IPv6 address or network, and no DNS name with a dot, of "
                f"{_NAME_MAX} characters at most."
            ) from None
        raise error from None


def is_name(text: str) -> bool:
    """Tell whether a stored entry is a DNS name."""
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None


class _Networks:
    """Networks of one IP version, found by one dict look-up for each prefix length in use."""

    __slots__ = ("bits", "tables")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        # (shift, {network number >> shift: entry id}), longest prefix first.
        self.tables: list[tuple[int, dict[int, int]]] = []

    def build(self, by_prefix: dict[int, dict[int, int]]) -> None:
        self.tables = [(self.bits - length, by_prefix[length]) for length in sorted(by_prefix, reverse=True)]

    def find(self, number: int) -> int | None:
        for shift, table in self.tables:
            entry_id = table.get(number >> shift)
            if entry_id is not None:
                return entry_id
        return None


class Whitelist:
    """The addresses and networks that may use the gateway. An empty one lets nobody in.

    Shape: `resolved` gives the addresses of entries that are DNS names; one that is not in it lets nobody in.
    """

    __slots__ = ("_known", "_v4", "_v6", "size", "unreadable")

    def __init__(
        self, entries: Iterable[Entry] = (), resolved: Mapping[str, Sequence[str]] = _NOTHING
    ) -> None:
        tables: dict[int, dict[int, dict[int, int]]] = {4: {}, 6: {}}
        self.size = 0
        self.unreadable = 0
        for entry in entries:
            if not entry.enabled:
                continue
            named = is_name(entry.address)
            try:
                networks = [
                    parse_network(a) for a in (resolved.get(entry.address, ()) if named else (entry.address,))
                ]
            except ValueError:  # nobody of ours wrote that row; it lets nobody in
                self.unreadable += 1
                continue
            for network in networks:
                number = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
                of_length = tables[network.version].setdefault(network.prefixlen, {})
                if named:
                    of_length.setdefault(number, entry.id)  # an entry of its own goes before
                else:
                    of_length[number] = entry.id
            self.size += 1
        self._v4 = _Networks(32)
        self._v4.build(tables[4])
        self._v6 = _Networks(128)
        self._v6.build(tables[6])
        # Text of an address -> entry id; parsing is most of the cost of a check.
        self._known: dict[str, int | None] = {}

    def match(self, ip: str) -> int | None:
        """Return the id of the entry that lets `ip` in (the narrowest network), or None."""
        known = self._known
        try:
            return known[ip]
        except KeyError:
            pass
        try:
            address = parse_ip(ip)
        except ValueError:
            return None
        networks = self._v4 if address.version == 4 else self._v6
        entry_id = networks.find(int(address))
        if len(known) >= _KNOWN_MAX:
            known.clear()
        known[ip] = entry_id
        return entry_id


_WITH_PORT = re.compile(
    r"([0-9.]+)(?::[0-9]{1,5})?|\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\](?::[0-9]{1,5})?|([0-9A-Fa-f]*:[0-9A-Fa-f:.]*)"
)


def _forwarded_ip(text: str) -> IPAddress | None:
    """Read one element of X-Forwarded-For: exactly an address, in brackets or not, perhaps with a port."""
    text = text.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        return None
    try:
        return parse_ip(found.group(1) or found.group(2) or found.group(3))
    except ValueError:
        return None


class TrustedProxies:
    """The reverse proxies whose word about a client's address is believed."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(parse_network(text) for text in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)

    def client_ip(self, peer: str, forwarded_for: Sequence[str], real_ip: Sequence[str]) -> str:
        """Find the client's address.

        The socket's peer is the client, unless it is a trusted proxy: then the X-Forwarded-For
        lines, read as one list from right to left, give the first address that is not a trusted
        proxy; where that header is absent, X-Real-IP does.

        Shape: `forwarded_for` and `real_ip` are the header's lines as received. The result is an
            address, or "unknown" when a trusted proxy names none that can be read (which no
            whitelist entry matches).
        """
        try:
            peer_address = parse_ip(peer)
        except ValueError:
            return "unknown"
        if peer_address not in self:
            return str(peer_address)
        if forwarded_for:
            address: IPAddress | None = peer_address
            for element in reversed(",".join(forwarded_for).split(",")):
                address = _forwarded_ip(element)
                if address is None:
                    return "unknown"
                if address not in self:
                    break
            return str(address)
        if real_ip:
            # Several lines contradict each other: one of them is not the proxy's own.
            address = _forwarded_ip(real_ip[0]) if len(real_ip) == 1 else None
            return str(address) if address is not None else "unknown"
        return str(peer_address)
