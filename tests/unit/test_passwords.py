"""Passwords: hashes, comparing, making up, judging."""

from __future__ import annotations

import re
import time

import argon2
import pytest

from resender import passwords
from resender.passwords import (
    WeakPassword,
    check_password,
    digest,
    generate_password,
    hash_password,
    needs_rehash,
    verify_password,
)

GOOD = "correct horse 电池"


def test_hash_is_argon2id_and_fits_only_its_password() -> None:
    made = hash_password(GOOD)
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert len(made) <= 255
    assert verify_password(made, GOOD)
    assert not verify_password(made, GOOD + " ")
    assert not verify_password(made, "")


def test_same_password_has_another_hash_each_time() -> None:
    assert hash_password(GOOD) != hash_password(GOOD)


@pytest.mark.parametrize("damaged", [None, "", "plain", "$argon2id$v=19$m=19456,t=2,p=1$x", "$2b$10$abc"])
def test_missing_or_damaged_hash_lets_nobody_in(damaged: str | None) -> None:
    for password in ("", GOOD, "plain"):
        assert not verify_password(damaged, password)


def test_stand_in_hash_costs_what_a_real_one_costs() -> None:
    # The same parameters; the times themselves are compared roughly, a machine may be busy.
    assert not needs_rehash(passwords._NOBODY)
    made = hash_password(GOOD)

    def seconds(password_hash: str | None) -> float:
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            verify_password(password_hash, "wrong password")
            times.append(time.perf_counter() - begin)
        return min(times)  # whatever else the machine does makes it longer

    assert 0.3 < seconds(None) / seconds(made) < 3


def test_letters_typed_in_another_way_are_the_same_password() -> None:
    assert verify_password(hash_password("cafe\u0301 garden"), "caf\u00e9 garden")


def test_text_that_is_no_text_is_only_a_wrong_password() -> None:
    made = hash_password("\ud800 and more letters")
    assert verify_password(made, "\ud800 and more letters")
    assert not verify_password(hash_password(GOOD), "\udfff")
    assert len(digest("\ud800")) == 64


def test_endless_password_is_not_hashed() -> None:
    with pytest.raises(ValueError, match="at most 200"):
        hash_password("x" * 1001)
    longest = "x" * 1000
    made = hash_password(longest)
    assert verify_password(made, longest)
    assert not verify_password(made, longest + "x")


def test_hash_of_other_parameters_is_to_be_made_anew() -> None:
    assert needs_rehash(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))
    assert needs_rehash("damaged")
    assert not needs_rehash(hash_password("x"))


def test_made_up_password_is_long_readable_and_never_the_same() -> None:
    made = {generate_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert re.fullmatch(r"[A-HJ-NP-Za-km-z2-9]{20}", password), password
        check_password(password, "root")


def test_digest_is_sha256_in_hex() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "password", [GOOD, "x7" * 5 + "abc", "安全的密码一二三四五六", "a" * 197 + "bcd", "rootbeer and a lamp"]
)
def test_fair_password_is_accepted(password: str) -> None:
    check_password(password, "root")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "short"),
        ("123456789", "short"),
        ("a" * 198 + "bcd", "long"),
        ("administrator-1", "user_name"),
        ("Administrator!", "user_name"),
        ("administratoradministrator", "user_name"),
        ("1234567890", "common"),
        ("QWERTYUIOP", "common"),
        ("password123", "common"),
        ("aaaaaaaaaaaa", "common"),
        ("ababababababab", "common"),
        ("          ", "common"),
    ],
)
def test_weak_password_is_refused_with_its_reason(password: str, reason: str) -> None:
    with pytest.raises(WeakPassword) as caught:
        check_password(password, "administrator")
    assert caught.value.reason == reason
    assert password == "" or password not in str(caught.value)
