"""Names of our own for Binance's hosts: `fapi.gw.example` stands for `fapi.binance.com`.

Pure. A label chooses an entry of Binance's names; whatever else a request names is left as it is.
"""

from __future__ import annotations

from resender.core.binance.markets import MARGIN_STREAM_NAME, REST_NAMES, STREAM_NAMES, WS_API_NAMES

# Bulk files of past market data; nothing else of that host is needed.
DOWNLOAD_NAME = "data.binance.vision"
_NAMES = (*REST_NAMES, *STREAM_NAMES, *WS_API_NAMES, MARGIN_STREAM_NAME)
# The first label of each: "fapi", "stream", "ws-api", "data-api", "data" ...
_BY_LABEL = {name.partition(".")[0]: name for name in reversed((*_NAMES, DOWNLOAD_NAME))}


def behind_host(target: str, host: str | None, suffix: str) -> str:
    """Put Binance's name in front of a target that came to a name of our own.

    Shape: ("/fapi/v1/time", "fapi.gw.example:443", "gw.example") gives "/fapi.binance.com/fapi/v1/time"; `host` is
        the Host header, `suffix` the setting, empty = off. Our own paths stay.
    """
    if not suffix or not host or not target.startswith("/") or target.startswith("/local/"):
        return target
    name = _BY_LABEL.get(_label(host, suffix))
    return target if name is None else f"/{name}{target}"


def is_unknown_name(target: str, host: str | None, suffix: str) -> bool:
    """Tell a name below the suffix that stands for nothing, where the path does not say what is wanted either.

    A stream's path is the same for every market: a misspelled name must not bring another market's prices.
    """
    if (
        not suffix
        or not host
        or "." in target[1:].partition("?")[0].partition("/")[0]
        or target.startswith(("/local/", "/ws-"))
    ):
        return False
    label = _label(host, suffix)
    return bool(label) and label not in _BY_LABEL


def _label(host: str, suffix: str) -> str:
    """Return what stands in front of the suffix, empty if it is another domain."""
    label, dot, rest = host.partition(":")[0].lower().rstrip(".").partition(".")
    return label if dot and rest == suffix.lower() else ""


def download_of(target: str) -> str | None:
    """Return the path and query of a bulk file, None if a target wants something else.

    Shape: "/data.binance.vision/data/spot/..." gives "/data/spot/..."; slashes in front are taken as one, as
        `routing.resolve` takes them.
    """
    if not target.startswith("/"):
        return None
    first, slash, rest = target.lstrip("/").partition("/")
    if not slash or first.partition(":")[0].lower() != DOWNLOAD_NAME:
        return None
    return f"/{rest}"
