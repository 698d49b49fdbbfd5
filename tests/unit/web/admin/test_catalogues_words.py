"""The admin pages have words, in both languages, for everything the gateway can tell them."""

from __future__ import annotations

import json
import re

import pytest

from resender.config import SETTINGS
from resender.core import reachability
from resender.core.account.dialects import OPEN
from resender.core.account.spec import MODES, AccountMarket, Mode
from resender.core.binance.markets import Market
from resender.core.market.costs import DEFAULT_LIMITS
from resender.core.market.requests import MISS_REASONS
from resender.core.market.words import ALL_WORDS, interval_of
from resender.market import PATHS
from resender.places import ROOT
from resender.web.admin.api.series import STATES

TEXTS = {
    language: json.loads((ROOT / f"admin_static/i18n/{language}.json").read_text("utf-8"))
    for language in ("en", "zh")
}
KINDS = (
    "ok",
    "unknown",
    "unreachable",
    "timeout",
    *(reachability.kind_of(s) for s in (403, 418, 429, 451, 500)),
)


#: What can be kept besides candles by interval; sorts of candles once.
KEPT = tuple(dict.fromkeys(word.partition("_")[0] for word in ALL_WORDS if interval_of(word) != word))

#: Where the reasons of refusals are written that the pages put into words.
REFUSING = (
    *sorted((ROOT / "resender/web/admin").rglob("*.py")),
    *(
        ROOT / f"resender/{name}.py"
        for name in (
            "errors",
            "passwords",
            "core/market/preload",
            "core/access/whitelist_text",
            "store/whitelist",
        )
    ),
)


#: Where the reasons are written why an account is not live, or a call of it was sent on.
ACCOUNT_REASONS = tuple(
    ROOT / f"resender/{name}.py"
    for name in (
        "account/accounts",
        "account/watched",
        "account/user_answers",
        "account/user_stream",
        "core/account/calls",
        "core/account/order",
        "core/account/orders",
        "core/account/proof",
    )
)


def account_reasons() -> set[str]:
    """Read out of the program every reason an account may have; of one that names more its beginning."""
    found: set[str] = set()
    for path in ACCOUNT_REASONS:
        text = path.read_text("utf-8")
        called = r"(?:Lacking|closed|unsure|suspect|restart|_Broken|Refused|differences\.append)"
        found |= set(re.findall(rf"""\b{called}\(\s*f?"([^"{{:]+)""", text))
        found |= set(re.findall(r"""\bwhy = f?"([^"{:]+)""", text))
        found |= (
            set(re.findall(r"""^NEEDS_KEY, NEEDS_SUBSCRIPTION = "([^"]+)", "([^"]+)\"""", text, re.M).pop())
            if "NEEDS_KEY," in text
            else set()
        )
        if path.stem in ("calls", "order", "proof"):
            found |= set(re.findall(r"""\breturn "([a-z ]{4,})\"""", text))
    return {reason.strip() for reason in found} - {"removed"}


def refusal_reasons() -> set[str]:
    """Read out of the program every `reason` a refusal may tell."""
    found: set[str] = set()
    for path in REFUSING:
        text = path.read_text("utf-8")
        found |= set(re.findall(r"""\breason = "\w+" if .* else "(\w+)\"""", text))
        found |= set(re.findall(r"""(?:\breason=|"reason": |\breason = )"(\w+)\"""", text))
        found |= set(re.findall(r"""\b(?:WeakPassword|_Problem|BadNote)\(\s*"(\w+)\"""", text))
        found |= set(re.findall(r"""\bBadRule\(\s*"\w+",\s*"(\w+)\"""", text))
        found |= set(re.findall(r"""\bLineError\([^)]*?"(\w+)"\)""", text))
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("settings.help", tuple(SETTINGS)),
        ("live.market", tuple(market.value for market in Market)),
        ("live.pool", (*DEFAULT_LIMITS, "options", "pm")),
        ("dashboard.up", KINDS),
        ("dashboard.state", ("ok", "closed", "banned", "set_aside")),
        ("dashboard.problem", ("region", "waf", "unreachable", "not_whitelisted")),
        ("streams.word", KEPT),
        ("streams.word_help", KEPT),
        ("live.saved", ("shared", *sorted({answered.kind.name for answered in PATHS.values()}))),
        ("streams.state", STATES),
        ("streams.state_help", STATES),
    ],
)
def test_page_has_a_text_for_every_word_of_the_gateway(language, prefix, words):
    assert [word for word in words if f"{prefix}.{word}" not in TEXTS[language]] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_explains_every_reason_of_a_miss(language):
    reasons = MISS_REASONS
    for prefix in ("live.miss", "live.miss_help"):
        assert [reason for reason in reasons if f"{prefix}.{reason}" not in TEXTS[language]] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_has_words_for_every_reason_of_a_refusal(language):
    reasons = refusal_reasons()
    assert {"short", "rule_what", "database", "address", "throttled", "last_user"} <= reasons
    told = {key.removeprefix("error.reason.") for key in TEXTS[language] if key.startswith("error.reason.")}
    assert reasons == told


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_has_words_for_every_reason_of_an_account(language):
    reasons = account_reasons()
    assert {
        "second snapshot needed",
        "subscription needed",
        "a fill is missing",
        "Binance refuses the key",
    } <= reasons
    assert [reason for reason in sorted(reasons) if f"accounts.why.{reason}" not in TEXTS[language]] == []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("live.market", tuple(AccountMarket)),
        ("accounts.mode", tuple(Mode)),
        ("accounts.knows", tuple(Mode)),
        ("accounts.can", tuple(Mode)),
        ("accounts.left", tuple(Mode)),
        ("accounts.state_name", ("waiting", "opening", "syncing", "live")),
        ("accounts.status_name", tuple(sorted(OPEN))),
        ("accounts.source", ("event", "snapshot")),
    ],
)
def test_page_has_words_for_all_an_account_can_be(language, prefix, words):
    assert [word for word in words if f"{prefix}.{word}" not in TEXTS[language]] == []


def test_page_knows_in_which_ways_each_market_can_be_watched():
    script = (ROOT / "admin_static/js/account_words.js").read_text("utf-8")
    told = re.search(r"MODES_OF = (\{.*?\});", script)
    assert told is not None
    found = json.loads(re.sub(r"(\w+):", r'"\1":', told[1]).replace("'", '"'))
    assert found == {market.value: [mode.value for mode in modes] for market, modes in MODES.items()}
