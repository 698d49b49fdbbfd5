"""Accounts: names that differ only in case are one, and somebody can always log in."""

from __future__ import annotations

import pytest

from resender.store import DuplicateUser, LastUser, Repository, UnknownUser, UserRow
from resender.store.users import FIRST_USER, check_username
from tests.support.moment import Moment

DIGEST = "d" * 64


@pytest.fixture
def root(repository: Repository) -> UserRow:
    return repository.user_add("root", "hash")


def test_name_is_kept_as_given_and_found_in_any_case(repository: Repository) -> None:
    user = repository.user_add(" Alice@Desk ", "hash")
    assert user.username == "Alice@Desk"
    assert repository.user_get("ALICE@desk") == repository.user_get(user.id) == user
    with pytest.raises(DuplicateUser) as caught:
        repository.user_add("alice@desk", "other")
    assert caught.value.user == user


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 65, "名字", "a/b", "<b>"])
def test_name_that_cannot_be_used_is_refused_and_never_found(repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="user name"):
        repository.user_add(name, "hash")
    assert repository.user_get(name) is None
    assert check_username(" root ") == "root"


@pytest.mark.parametrize("user_id", [0, -1, 99, 2**31, 10**18])
def test_account_that_is_gone_is_neither_found_nor_changed(repository: Repository, user_id: int) -> None:
    assert repository.user_get(user_id) is None
    assert not repository.user_remove(user_id)
    with pytest.raises(UnknownUser):
        repository.user_update(user_id, enabled=False)


def test_hash_is_not_shown_by_chance(root: UserRow) -> None:
    assert "hash" not in repr(root).replace("password_hash", "")


# -- the last one ---------------------------------------------------------------------------------


def test_last_account_that_can_log_in_stays(repository: Repository, root: UserRow) -> None:
    other = repository.user_add("other", "hash")
    repository.user_update(other.id, enabled=False)
    with pytest.raises(LastUser):
        repository.user_remove(root.id)
    with pytest.raises(LastUser):
        repository.user_update(root.id, enabled=False)
    assert repository.user_remove(other.id), "one who could not log in anyway"
    assert repository.user_list() == [repository.user_get(root.id)]


def test_refused_change_leaves_everything_as_it_was(repository: Repository, root: UserRow) -> None:
    session = repository.session_add(root.id, DIGEST, "10.0.0.1", "x", 5)
    with pytest.raises(LastUser):
        repository.user_update(root.id, enabled=False, password_hash="new")
    assert repository.user_get(root.id) == root
    assert repository.session_list(root.id) == [session]


# -- what ends a log-in ---------------------------------------------------------------------------


def test_new_password_ends_all_log_ins_but_the_one_that_changed_it(
    repository: Repository, root: UserRow
) -> None:
    kept, _ = (repository.session_add(root.id, char * 64, "10.0.0.1", "x", 5) for char in "ab")
    repository.user_update(root.id, password_hash="new", keep_session_id=kept.id)
    assert repository.session_list(root.id) == [kept]


def test_better_hash_of_the_same_password_ends_nothing(repository: Repository, root: UserRow) -> None:
    repository.session_add(root.id, DIGEST, "10.0.0.1", "x", 5)
    assert repository.user_rehash(root.id, "hash", "better")
    assert not repository.user_rehash(root.id, "hash", "another"), "it has been changed meanwhile"
    assert len(repository.session_list(root.id)) == 1
    found = repository.user_get(root.id)
    assert found is not None
    assert found.password_hash == "better"


def test_disabled_account_loses_its_log_ins_and_its_tokens_rest(
    repository: Repository, root: UserRow
) -> None:
    other = repository.user_add("other", "hash")
    repository.session_add(other.id, DIGEST, "10.0.0.1", "x", 5)
    repository.token_add(other.id, "t", "read", "t" * 64)
    repository.user_update(other.id, enabled=False)
    assert repository.session_find(DIGEST) is None
    assert repository.token_find("t" * 64) is None
    repository.user_update(other.id, enabled=True)
    assert repository.session_find(DIGEST) is None
    assert repository.token_find("t" * 64) is not None


def test_removed_account_takes_its_log_ins_and_tokens_along(repository: Repository, root: UserRow) -> None:
    other = repository.user_add("other", "hash")
    repository.session_add(other.id, DIGEST, "10.0.0.1", "x", 5)
    repository.token_add(other.id, "t", "read", "t" * 64)
    assert repository.user_remove(other.id)
    assert repository.session_list(other.id) == []
    assert repository.token_list() == []
    assert repository.user_add("other", "hash").id > other.id, "a number is not given again"


def test_last_log_in_is_kept(repository: Repository, root: UserRow, moment: Moment) -> None:
    repository.user_note_login(root.id, "x" * 100, moment.ms)
    found = repository.user_get(root.id)
    assert found is not None
    assert (found.last_login_ms, found.last_login_ip) == (moment.ms, "x" * 64)


# -- the first one --------------------------------------------------------------------------------


def test_first_account_is_made_once_ever(repository: Repository) -> None:
    made = repository.user_seed(lambda: ("hash", True))
    assert made is not None
    assert (made.username, made.must_change) == (FIRST_USER, True)
    other = repository.user_add("other", "hash")
    repository.user_remove(made.id)
    assert repository.user_seed(lambda: pytest.fail("not asked")) is None
    assert repository.user_list() == [other]


def test_first_account_is_not_made_beside_one_of_its_name(repository: Repository, root: UserRow) -> None:
    assert repository.user_seed(lambda: pytest.fail("not asked")) is None
    assert repository.user_list() == [root]


def test_first_account_whose_password_cannot_be_made_is_tried_again(repository: Repository) -> None:
    def broken() -> tuple[str, bool]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        repository.user_seed(broken)
    assert repository.user_seed(lambda: ("hash", False)) is not None
