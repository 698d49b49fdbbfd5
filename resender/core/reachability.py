"""What the last answer of an upstream says about reaching it, in one word and in one sentence.

Pure; it looks at statuses, never at bodies. No state.
"""

from __future__ import annotations

UNKNOWN = "unknown"
OK = "ok"
UNREACHABLE = "unreachable"

# Source: spot rest-api.md of 2026-07-21, "HTTP Return Codes"; 451 is what restricted locations get.
_KINDS = {403: "firewall", 418: "banned", 429: "limited", 451: "region"}
_TEXTS = {
    UNKNOWN: "No call has been made yet.",
    OK: "It answers.",
    "region": "Binance does not serve this machine's country (451): move the server or use another egress.",
    "banned": "This address is banned (418): it sent too much. The ban ends by itself.",
    "limited": "Over the weight limit (429): calls are refused until the next minute.",
    "firewall": "Refused by Binance's firewall (403): too fast, or this network is not wanted.",
    "fault": "Binance itself has trouble (HTTP {status}).",
    UNREACHABLE: "No connection: check the network, the firewall and DNS.",
    "timeout": "No answer in time.",
}


def kind_of(status: int) -> str:
    """Return the word for an HTTP status that came from an upstream."""
    if status in _KINDS:
        return _KINDS[status]
    return "fault" if status >= 500 else OK


def text_of(kind: str, status: int | None) -> str:
    """Return the sentence for a word."""
    return _TEXTS.get(kind, kind).replace("{status}", str(status))
