"""The values the store takes and gives: what they say in words, and which secret they keep."""

from __future__ import annotations

import dataclasses

import pytest

from resender.core.market.preload import parse_rule
from resender.errors import ResenderError
from resender.store import rows
from resender.store.rows import (
    BadNote,
    DuplicateEntry,
    DuplicateRule,
    DuplicateUser,
    LastUser,
    LogRecord,
    LogRow,
    PreloadRow,
    TooManyTokens,
    UnknownEntry,
    UnknownRule,
    UnknownSession,
    UnknownToken,
    UnknownUser,
    UserRow,
    WhitelistEntry,
)

ENTRY = WhitelistEntry(7, "10.0.0.1", "", True, 1, 2, None, 0)
USER = UserRow(3, "bob", "scrypt$secret", True, False, 1, 2, None, None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DuplicateEntry(ENTRY), "10.0.0.1 is in the whitelist already (entry 7)."),
        (UnknownEntry(7), "The whitelist has no entry 7."),
        (
            DuplicateRule(PreloadRow(4, "um", "BTCUSDT", "1m", 1)),
            "um:BTCUSDT@1m is a preload rule already (rule 4).",
        ),
        (UnknownRule(4), "There is no preload rule 4."),
        (DuplicateUser(USER), "There is a user bob already."),
        (UnknownUser("bob"), "There is no user bob."),
        (LastUser("bob"), "bob is the last user who can log in: make or enable another one first."),
        (UnknownSession(5), "There is no session 5."),
        (TooManyTokens("bob", 100), "bob has 100 tokens already: remove one first."),
        (UnknownToken(6), "There is no token 6."),
        (BadNote("note", "It is none."), "It is none."),
    ],
)
def test_refusal_says_in_one_line_what_is_the_matter(error: ResenderError, words: str) -> None:
    assert str(error) == words
    assert isinstance(error, ResenderError)


def test_every_refusal_here_is_an_error_of_the_program() -> None:
    errors = [v for v in vars(rows).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(errors) >= 12
    assert all(issubclass(error, ResenderError) for error in errors)


def test_hash_of_a_password_is_not_in_what_is_printed_of_an_account() -> None:
    assert "secret" not in repr(USER)


def test_row_of_the_log_is_a_record_with_its_id() -> None:
    assert [field.name for field in dataclasses.fields(LogRow)] == ["id", *LogRecord._fields]


def test_preload_row_is_the_rule_it_was_made_of() -> None:
    rule = parse_rule("um", "BTCUSDT,ETHUSDT", "1m,bookTicker")
    row = PreloadRow(1, rule.market.value, rule.symbols_text, rule.what, 5)
    assert row.rule == rule


@pytest.mark.parametrize(
    ("market", "symbols", "what"), [("x", "A", "1m"), ("um", "", "1m"), ("um", "A", "9m")]
)
def test_preload_row_somebody_spoilt_by_hand_is_no_rule(market: str, symbols: str, what: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        _ = PreloadRow(1, market, symbols, what, 5).rule


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENTRY.enabled = False  # type: ignore[misc]
