"""Whether a browser sent a request on behalf of another site.

Only header values go in; it holds no state.
Source: Fetch Metadata (W3C), the Origin header (RFC 6454), and Tornado 6.6's
`cross_origin_protection`, which Python 3.10 does not get.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
SAFE_METHODS = frozenset({"GET", "HEAD"})


def foreign_origin(origin: str | None, fetch_site: str | None, hosts: Iterable[str]) -> str | None:
    """Tell why a request is of foreign origin, or None if it is not.

    A script sends neither header and passes. A browser sends `Sec-Fetch-Site` (over TLS and on
    loopback) or `Origin` with every method but GET and HEAD, and no page can forge them.

    Shape: `hosts` are the names this server was called by: the Host header, and X-Forwarded-Host
        where a trusted proxy sent it.
    """
    if fetch_site == "same-origin":
        return None
    if fetch_site not in (None, "none"):
        return f"Sec-Fetch-Site is {fetch_site[:40]!r}"
    if origin is None:
        return None
    try:
        parts = urlsplit(origin)
        default = _PORTS.get(parts.scheme, 0)
        wanted = (parts.hostname, parts.port or default)
    except ValueError:
        wanted, default = (None, 0), 0
    if wanted[0] and default and any(_host_port(host, default) == wanted for host in hosts):
        return None
    return f"Origin is {origin[:100]!r}"


def _host_port(host: str, default: int) -> tuple[str | None, int]:
    try:
        parts = urlsplit(f"//{host.strip()}")
        return parts.hostname, parts.port or default
    except ValueError:
        return None, 0
