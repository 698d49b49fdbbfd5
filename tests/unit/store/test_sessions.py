"""Log-ins and tokens: what is found by its digest, how many there may be, and when they are over."""

from __future__ import annotations

import pytest

from resender.store import Repository, TooManyTokens, UnknownSession, UnknownUser, UserRow
from resender.store.sessions import SESSIONS_MAX, TOKEN_NAME_MAX, TOKENS_MAX
from tests.support.moment import Moment


@pytest.fixture
def root(repository: Repository) -> UserRow:
    return repository.user_add("root", "hash")


def digest(number: int) -> str:
    return f"{number:064d}"


# -- sessions -------------------------------------------------------------------------------------


def test_session_is_found_by_its_digest_with_its_account(repository: Repository, root: UserRow) -> None:
    session = repository.session_add(root.id, digest(1), "10.0.0.1", "curl", 5)
    assert repository.session_find(digest(1)) == (session, root)
    assert repository.session_find(digest(2)) is None


def test_long_texts_of_a_browser_are_cut(repository: Repository, root: UserRow) -> None:
    session = repository.session_add(root.id, digest(1), "1" * 100, "a\ud800" * 300, 5)
    found = repository.session_find(digest(1))
    assert found is not None
    assert found[0] == session
    assert (len(session.ip), len(session.user_agent)) == (64, 255)


@pytest.mark.parametrize("case", ["gone", "disabled", "password"])
def test_log_in_of_an_account_that_has_changed_meanwhile_is_refused(
    repository: Repository, root: UserRow, case: str
) -> None:
    other = repository.user_add("other", "hash")
    if case == "gone":
        repository.user_remove(other.id)
    elif case == "disabled":
        repository.user_update(other.id, enabled=False)
    else:
        repository.user_update(other.id, password_hash="new")
    with pytest.raises(UnknownUser):
        repository.session_add(other.id, digest(1), "10.0.0.1", "x", 5, password_hash="hash")
    assert repository.session_list(other.id) == []


def test_too_many_log_ins_push_out_what_was_not_used_longest(repository: Repository, root: UserRow) -> None:
    other = repository.user_add("other", "hash")
    untouched = repository.session_add(other.id, digest(9999), "10.0.0.1", "x", 1)
    made = [
        repository.session_add(root.id, digest(n), "10.0.0.1", "x", 1000 + n) for n in range(SESSIONS_MAX)
    ]
    repository.session_touch(made[0].id, 5000, "10.0.0.1")
    repository.session_add(root.id, digest(500), "10.0.0.1", "x", 6000)
    left = {session.id for session in repository.session_list(root.id)}
    assert len(left) == SESSIONS_MAX
    assert made[0].id in left
    assert made[1].id not in left
    assert repository.session_list(other.id) == [untouched]


def test_use_is_kept_and_of_one_that_is_gone_told(repository: Repository, root: UserRow) -> None:
    session = repository.session_add(root.id, digest(1), "10.0.0.1", "x", 5)
    assert repository.session_touch(session.id, 9, "10.0.0.2")
    assert repository.session_touch(session.id, 9, "10.0.0.2"), "also when nothing is different"
    (found,) = repository.session_list(root.id)
    assert (found.last_seen_ms, found.ip, found.created_ms) == (9, "10.0.0.2", 5)
    assert not any(repository.session_touch(gone, 9, "x") for gone in (0, -1, 99, 2**40))


def test_renewed_session_has_another_secret_and_the_old_one_is_worth_nothing(
    repository: Repository, root: UserRow
) -> None:
    session = repository.session_add(root.id, digest(1), "10.0.0.1", "x", 5)
    repository.session_renew(session.id, digest(2))
    assert repository.session_find(digest(1)) is None
    assert repository.session_find(digest(2)) == (session, root)
    for gone in (99, 2**40):
        with pytest.raises(UnknownSession):
            repository.session_renew(gone, digest(3))


def test_session_is_ended_by_its_owner_only(repository: Repository, root: UserRow) -> None:
    other = repository.user_add("other", "hash")
    first, second = (repository.session_add(root.id, digest(n), "10.0.0.1", "x", n) for n in (1, 2))
    assert not repository.session_remove(first.id, other.id)
    assert repository.session_remove(first.id, root.id)
    assert not repository.session_remove(2**40)
    assert repository.session_remove_others(root.id, second.id) == 0
    assert repository.session_remove_others(root.id, None) == 1


def test_sessions_not_used_or_not_made_since_are_removed(repository: Repository, root: UserRow) -> None:
    idle = repository.session_add(root.id, digest(1), "10.0.0.1", "x", 100)
    old = repository.session_add(root.id, digest(2), "10.0.0.1", "x", 10)
    good = repository.session_add(root.id, digest(3), "10.0.0.1", "x", 100)
    for session in (old, good):
        repository.session_touch(session.id, 300, "10.0.0.1")
    assert repository.session_prune(200, 50) == 2
    assert [session.id for session in repository.session_list(root.id)] == [good.id]
    assert idle.id != good.id


# -- tokens ---------------------------------------------------------------------------------------


def test_token_is_found_until_it_expires(repository: Repository, root: UserRow, moment: Moment) -> None:
    token = repository.token_add(root.id, " bot ", "write", digest(1), moment.ms + 10)
    assert (token.name, token.username, token.scope) == ("bot", "root", "write")
    assert repository.token_find(digest(1)) == (token, root)
    moment.ms += 10
    assert repository.token_find(digest(1)) is None
    assert repository.token_list(root.id) == [token], "it is shown, so that one sees why"


@pytest.mark.parametrize(
    ("name", "scope", "expires_ms"),
    [
        ("", "read", None),
        (" ", "read", None),
        ("x" * (TOKEN_NAME_MAX + 1), "read", None),
        ("\ud800", "read", None),
        ("t", "admin", None),
        ("t", "", None),
        ("t", "read", 5),
        ("t", "read", 2**53 + 1),
    ],
)
def test_token_that_cannot_be_used_is_not_made(
    repository: Repository, root: UserRow, name: str, scope: str, expires_ms: int | None
) -> None:
    with pytest.raises(ValueError, match=r"token|scope"):
        repository.token_add(root.id, name, scope, digest(1), expires_ms)
    assert repository.token_list() == []


def test_account_has_so_many_tokens_at_most(repository: Repository, root: UserRow) -> None:
    for number in range(TOKENS_MAX):
        repository.token_add(root.id, "t", "read", digest(number))
    with pytest.raises(TooManyTokens):
        repository.token_add(root.id, "t", "read", digest(999))
    other = repository.user_add("other", "hash")
    assert repository.token_add(other.id, "t", "read", digest(999))


def test_token_of_an_account_that_is_gone_is_not_made(repository: Repository) -> None:
    with pytest.raises(UnknownUser):
        repository.token_add(99, "t", "read", digest(1))


def test_token_is_touched_listed_and_revoked_by_its_owner(repository: Repository, root: UserRow) -> None:
    other = repository.user_add("other", "hash")
    token = repository.token_add(root.id, "t", "read", digest(1))
    assert repository.token_touch(token.id, 7, "10.0.0.1")
    assert not repository.token_touch(99, 7, "10.0.0.1")
    (found,) = repository.token_list(root.id)
    assert (found.last_used_ms, found.last_used_ip) == (7, "10.0.0.1")
    assert repository.token_list(other.id) == []
    assert not repository.token_remove(token.id, other.id)
    assert repository.token_remove(token.id, root.id)
    assert repository.token_find(digest(1)) is None
