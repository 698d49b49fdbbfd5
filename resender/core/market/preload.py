"""Which candles, tickers, books and trades the cache keeps ready: rules, their text and what they match.

It neither subscribes nor stores: the cache does the one, `resender.store.preload` the other. Pure;
no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.words import ALL_WORDS, WORDS, read_word, shown_words

# Source: the legal range spot's error -1100 names since 2025-12, ^[\w\-._&&[^a-z]]{1,50}$.
SYMBOL_MAX = 50
SYMBOLS_MAX = 10_000
_WILDCARDS = "*?"
_PUNCTUATION = "_-."
_MARKETS = {market.value: market for market in INTERVALS}
_SHOWN = 80


class BadRule(ValueError):
    """A rule that cannot be read; the text is one sentence for the user.

    Shape: `field` is market, symbols or what. `data` is for programs: `reason` and what the text names.
    """

    def __init__(self, field: str, reason: str, text: str, **data: object) -> None:
        super().__init__(text)
        self.field = field
        self.data: dict[str, object] = {"reason": reason, **data}


@dataclass(frozen=True, slots=True)
class PreloadRule:
    """What to keep of the symbols of one market; made by `parse_rule`, which checks it.

    Shape: `symbols` are upper-case names or globs with * and ?, in the order written; `streams` are words of
        `WORDS`, at least one, in its order.
    """

    market: Market
    symbols: tuple[str, ...]
    streams: tuple[str, ...]

    @property
    def symbols_text(self) -> str:
        """The symbols as `parse_rule` reads them: `BTCUSDT,ETH*`."""
        return ",".join(self.symbols)

    @property
    def what(self) -> str:
        """What is kept, as `parse_rule` reads it: `1m,1h,bookTicker`."""
        return ",".join(self.streams)

    def __str__(self) -> str:
        return f"{self.market}:{self.symbols_text}@{self.what}"


def parse_rule(market_text: str, symbols_text: str, what_text: str) -> PreloadRule:
    """Read one rule, given in its three parts.

    Shape: `um`, `btcusdt,*USDC`, `1m,bookTicker`. The case of the market, of symbols and of words such as
        bookTicker does not matter, that of intervals does. Empty parts and repetitions are dropped.
    Raises: BadRule, a ValueError with one sentence for the user.
    """
    where = f"preload rule {_shown(f'{market_text}:{symbols_text}@{what_text}')}"
    market = _MARKETS.get(market_text.strip().lower())
    if market is None:
        raise BadRule(
            "market",
            "rule_market",
            f"{where}: there is no market {_shown(market_text.strip())} to preload; "
            f"allowed are {', '.join(_MARKETS)}.",
        )
    streams = _parse_what(where, market, what_text)
    return PreloadRule(market, _parse_symbols(where, symbols_text), streams)


def parse_preload(text: str) -> tuple[PreloadRule, ...]:
    """Read the setting PRELOAD.

    Shape: `spot:BTCUSDT,ETHUSDT@1m,1h,bookTicker;um:*USDT@1m`; empty text means no rules.
    Raises: ValueError with one sentence for the user, naming the first rule that is wrong.
    """
    rules: dict[PreloadRule, None] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        market, colon, rest = part.partition(":")
        symbols, at, what = rest.partition("@")
        if not colon or not at:
            raise ValueError(
                f"preload rule {_shown(part.strip())}: it is not written as market:symbols@what, "
                "such as um:*USDT@1m,bookTicker."
            )
        rules[parse_rule(market.strip(), symbols.strip(), what.strip())] = None
    return tuple(rules)


def matches(rule: PreloadRule, symbols: Iterable[str]) -> list[str]:
    """List those of `symbols` that the rule means, in the order given."""
    names = {name for name in rule.symbols if not _is_glob(name)}
    globs = [name for name in rule.symbols if _is_glob(name)]
    return [
        symbol for symbol in symbols if symbol in names or any(fnmatchcase(symbol, each) for each in globs)
    ]


def wanted(
    rules: Iterable[PreloadRule], tradable: Mapping[Market, Sequence[str]]
) -> list[tuple[Market, str, str]]:
    """List what is to be kept, each thing once, in the order of the rules.

    Shape: (market, symbol, word). A market that `tradable` lacks has no symbols.
    """
    found: dict[tuple[Market, str, str], None] = {}
    for rule in rules:
        for symbol in matches(rule, tradable.get(rule.market, ())):
            for stream in rule.streams:
                found[rule.market, symbol, stream] = None
    return list(found)


def _parse_symbols(where: str, text: str) -> tuple[str, ...]:
    symbols = tuple(dict.fromkeys(_parts(text.upper())))
    if not symbols:
        raise BadRule(
            "symbols",
            "rule_symbols",
            f"{where}: it names no symbol; allowed are names and globs such as BTCUSDT or *USDT.",
        )
    for symbol in symbols:
        wrong = [c for c in symbol if not (c.isalnum() or c in _PUNCTUATION or c in _WILDCARDS)]
        if wrong:
            raise BadRule(
                "symbols",
                "rule_character",
                f"{where}: symbol {_shown(symbol)} has the character {wrong[0]!r}; allowed are letters, "
                "digits, '_', '-', '.', the wildcards * and ?, and commas between symbols.",
                character=wrong[0],
            )
        if len(symbol) > SYMBOL_MAX:
            raise BadRule(
                "symbols",
                "rule_symbol_long",
                f"{where}: symbol {_shown(symbol)} has {len(symbol)} characters; "
                f"allowed are at most {SYMBOL_MAX}.",
                most=SYMBOL_MAX,
            )
    size = len(",".join(symbols))
    if size > SYMBOLS_MAX:
        raise BadRule(
            "symbols",
            "rule_long",
            f"{where}: its symbols are {size} characters long; allowed are {SYMBOLS_MAX}, "
            "so use wildcards or several rules.",
            most=SYMBOLS_MAX,
        )
    return symbols


def _parse_what(where: str, market: Market, text: str) -> tuple[str, ...]:
    words, intervals = WORDS[market], INTERVALS[market]
    chosen = [read_word(word) for word in _parts(text)]
    others = shown_words(market)
    for word in chosen:
        if word in words:
            continue
        if word in ALL_WORDS and word not in INTERVALS[Market.SPOT]:
            raise BadRule(
                "what", "rule_word", f"{where}: {market} has no {word}; allowed besides intervals are {others}.",
                word=word,
            )  # fmt: skip
        raise BadRule(
            "what",
            "rule_interval",
            f"{where}: {market} has no interval {_shown(word)}; allowed are {', '.join(intervals)} "
            f"(m is a minute, M a month), {others}.",
            interval=word[:_SHOWN],
        )
    if not chosen:
        raise BadRule(
            "what",
            "rule_what",
            f"{where}: it does not say what to keep; allowed are {', '.join(intervals)}; {others}.",
        )
    return tuple(each for each in words if each in chosen)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_glob(symbol: str) -> bool:
    return any(c in symbol for c in _WILDCARDS)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
