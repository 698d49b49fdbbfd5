"""Keep secrets out of everything that is written down.

Only texts and dictionaries go through here; it is not a filter for traffic, which passes
untouched. It holds no state.
"""

from __future__ import annotations

import re
from functools import lru_cache

MASK = "***"

_PARAMETERS = re.compile(
    r"((?:^|[?&\s\"'(/;,{])\"?(?:signature|listenKey|listenToken|apiKey|api_key|secret|password|token)\"?"
    r"\s*[=:]\s*\"?)[^&\s\"'),;}]+",
    re.IGNORECASE,
)
_HEADERS = re.compile(
    r"((?:x-mbx-apikey|authorization|cookie|set-cookie|proxy-authorization)['\"]?\s*[:=,]\s*b?['\"]?)[^'\"\r\n]+",
    re.IGNORECASE,
)
# The words that stand for them in our own hints are left.
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.\-]*://)(?!(?:user)?:?(?:password)?@)[^/@\s]+@", re.IGNORECASE)
# In the address of a Telegram bot.
_BOT = re.compile(r"(/bot)[0-9]+:[A-Za-z0-9_-]+")
# A Binance listenKey, API key or secret is 60 or 64 letters and digits.
_LONG_KEY = re.compile(r"\b[A-Za-z0-9]{60,}\b")


@lru_cache(maxsize=1024)
def _redacted_path(path: str) -> str:
    return redact(path)


def path_only(target: str) -> str:
    """Return a request target without its query: the only part that may be logged."""
    return _redacted_path(target.partition("?")[0].partition("#")[0])


def redact(text: str) -> str:
    """Mask keys, signatures, listenKeys, cookies, passwords and URL credentials in a text."""
    text = _USERINFO.sub(r"\1" + MASK + "@", text)
    text = _HEADERS.sub(r"\1" + MASK, text)
    text = _PARAMETERS.sub(r"\1" + MASK, text)
    return _LONG_KEY.sub(MASK, _BOT.sub(r"\1" + MASK, text))
