"""Accounts, log-ins, tokens and the audit, on every kind of database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from resender.store import (
    DuplicateUser,
    LastUser,
    Repository,
    UnknownSession,
    UnknownUser,
    audit,
    open_repository,
    sessions,
)

pytestmark = pytest.mark.component

HASH = "$argon2id$v=19$m=19456,t=2,p=1$" + "x" * 66


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(database_url: str, clock: Clock):
    with open_repository(database_url, now_ms=clock) as opened:
        yield opened


def digest(number: int) -> str:
    return f"{number:064x}"


# --- accounts ----------------------------------------------------------------------------------


def test_added_user_is_found_by_id_and_by_name_in_any_case(repository: Repository) -> None:
    user = repository.user_add("Anna.B@x-1_", HASH, must_change=True)
    assert (user.username, user.password_hash, user.enabled, user.must_change) == (
        "Anna.B@x-1_",
        HASH,
        True,
        True,
    )
    assert (user.last_login_ms, user.last_login_ip) == (None, None)
    assert user.created_ms == user.updated_ms > 0
    for key in (user.id, "Anna.B@x-1_", "ANNA.b@X-1_", " anna.b@x-1_ "):
        assert repository.user_get(key) == user
    assert repository.user_list() == [user]
    assert type(repository.user_list()[0].enabled) is bool
    assert HASH not in repr(user)


@pytest.mark.parametrize("key", ["anna'--", "nobody", "", "\0", "ännа", 0, -1, 2**31, 10**30])
def test_unknown_user_is_none(repository: Repository, key: str | int) -> None:
    repository.user_add("anna", HASH)
    assert repository.user_get(key) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "a" * 65, "a/b", "名字", "a\n", "a\0", "'"])
def test_name_that_cannot_be_used_is_refused(repository: Repository, name: str) -> None:
    if name.strip() == "a":
        name = "a\nb"
    with pytest.raises(ValueError, match="1 to 64"):
        repository.user_add(name, HASH)
    assert repository.user_list() == []


def test_name_that_differs_only_in_case_is_a_duplicate(repository: Repository) -> None:
    first = repository.user_add("Anna", HASH)
    with pytest.raises(DuplicateUser) as caught:
        repository.user_add("aNNA", HASH)
    assert caught.value.user == first


def test_update_changes_only_what_is_given(repository: Repository) -> None:
    repository.user_add("other", HASH)
    user = repository.user_add("anna", HASH, must_change=True)
    changed = repository.user_update(user.id, password_hash="new", must_change=False)
    assert (changed.password_hash, changed.must_change, changed.enabled) == ("new", False, True)
    assert changed.updated_ms > user.updated_ms
    assert changed.created_ms == user.created_ms
    assert repository.user_update(user.id, enabled=False).enabled is False
    assert repository.user_update(user.id, enabled=True).password_hash == "new"
    with pytest.raises(UnknownUser):
        repository.user_update(4711, enabled=True)


def test_log_in_is_noted(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    repository.user_note_login(user.id, "2001:db8::1", 77)
    found = repository.user_get(user.id)
    assert found is not None
    assert (found.last_login_ms, found.last_login_ip) == (77, "2001:db8::1")


def test_last_user_who_can_log_in_is_neither_removed_nor_disabled(repository: Repository) -> None:
    anna = repository.user_add("anna", HASH)
    ben = repository.user_add("ben", HASH)
    repository.user_update(ben.id, enabled=False)
    for change in (
        lambda: repository.user_remove(anna.id),
        lambda: repository.user_update(anna.id, enabled=False),
    ):
        with pytest.raises(LastUser, match="anna is the last user"):
            change()
    assert repository.user_get(anna.id) == anna
    # Who cannot log in anyway is no loss.
    assert repository.user_remove(ben.id) is True
    assert repository.user_remove(ben.id) is False


def test_two_who_remove_each_other_at_once_leave_one(database_url: str, repository: Repository) -> None:
    for number in range(5):
        pair = [repository.user_add(f"{name}{number}", HASH) for name in ("a", "b")]
        for user in repository.user_list():
            if user.id not in [each.id for each in pair]:
                repository.user_remove(user.id)
        together(
            database_url,
            [lambda r, u=user: refused(LastUser, lambda: r.user_remove(u.id)) for user in pair],
        )
        assert len(repository.user_list()) == 1


def test_account_made_twice_at_once_is_made_once(database_url: str, repository: Repository) -> None:
    for number in range(5):
        outcomes = together(
            database_url,
            [
                lambda r, n=name: refused(DuplicateUser, lambda: r.user_add(n, HASH))
                for name in (f"anna{number}", f"ANNA{number}")
            ],
        )
        assert sorted(outcomes) == [False, True]
    assert len(repository.user_list()) == 5


def refused(kind: type[Exception], work: Callable[[], object]) -> bool:
    try:
        work()
    except kind:
        return True
    return False


def together(url: str, works: list[Callable[[Repository], bool]]) -> list[bool]:
    """Run each work on a connection of its own, all at once."""
    outcomes: list[bool] = []
    barrier = threading.Barrier(len(works))

    def main(work: Callable[[Repository], bool]) -> None:
        with open_repository(url) as own:
            barrier.wait(10)
            outcomes.append(work(own))

    threads = [threading.Thread(target=main, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == len(works), "a thread failed"
    return outcomes


def test_number_of_a_removed_row_is_never_given_again(repository: Repository) -> None:
    repository.user_add("stays", HASH)
    first = repository.user_add("anna", HASH)
    session = repository.session_add(first.id, digest(1), "", "", 1)
    token = repository.token_add(first.id, "t", "read", digest(2))
    repository.user_remove(first.id)
    second = repository.user_add("anna", HASH)
    assert second.id > first.id
    assert repository.session_add(second.id, digest(1), "", "", 1).id > session.id
    assert repository.token_add(second.id, "t", "read", digest(2)).id > token.id
    entry = repository.audit_add("a", "", "x", "")
    repository.models.audit.delete().execute()
    assert repository.audit_add("a", "", "x", "").id > entry.id


# --- first account -----------------------------------------------------------------------------


def test_first_account_is_made_once_even_when_it_was_removed(repository: Repository) -> None:
    root = repository.user_seed(lambda: (HASH, True))
    assert root is not None
    assert (root.username, root.must_change) == ("root", True)
    assert repository.user_seed(never) is None
    repository.user_add("anna", HASH)
    repository.user_remove(root.id)
    assert repository.user_seed(never) is None
    assert [user.username for user in repository.user_list()] == ["anna"]


def test_root_made_by_hand_before_the_first_start_is_kept(repository: Repository) -> None:
    root = repository.user_add("Root", HASH)
    assert repository.user_seed(never) is None
    assert repository.user_list() == [root]


def test_first_account_that_could_not_be_made_is_made_the_next_time(repository: Repository) -> None:
    with pytest.raises(ZeroDivisionError):
        repository.user_seed(lambda: (str(1 / 0), True))
    assert repository.user_seed(lambda: (HASH, False)) is not None


def test_servers_that_start_at_once_make_one_first_account(database_url: str, repository: Repository) -> None:
    def seed(own: Repository) -> bool:
        return own.user_seed(lambda: (HASH, True)) is not None

    assert sorted(together(database_url, [seed] * 3)) == [False, False, True]
    assert len(repository.user_list()) == 1


def never() -> tuple[str, bool]:
    raise AssertionError("no password was to be made")


# --- sessions ----------------------------------------------------------------------------------


def test_session_is_found_with_its_user_until_it_is_removed(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    session = repository.session_add(user.id, digest(1), "203.0.113.5", "Browser/1 中文", 50)
    assert (session.user_id, session.created_ms, session.last_seen_ms) == (user.id, 50, 50)
    assert repository.session_find(digest(1)) == (session, user)
    assert repository.session_find(digest(2)) is None
    assert repository.session_find("' OR 1=1 --") is None
    assert repository.session_list(user.id) == [session]
    assert repository.session_remove(session.id, user_id=user.id + 1) is False
    assert repository.session_remove(session.id, user_id=user.id) is True
    assert repository.session_remove(session.id) is False
    assert repository.session_remove(10**30) is False
    assert repository.session_find(digest(1)) is None


def test_long_or_odd_texts_of_a_browser_are_cut(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    session = repository.session_add(user.id, digest(1), "x" * 99, "🚀" * 999 + "\ud800", 1)
    assert repository.session_list(user.id) == [session]
    assert (len(session.ip), len(session.user_agent)) == (64, 255)
    odd = repository.session_add(user.id, digest(2), "", "a\0b\ud800'\"", 1)
    assert repository.session_list(user.id)[0] == odd


def test_touch_keeps_time_and_address_and_tells_whether_the_session_is_there(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    session = repository.session_add(user.id, digest(1), "10.0.0.1", "", 50)
    for _ in range(2):
        assert repository.session_touch(session.id, 60, "10.0.0.2") is True
    (found,) = repository.session_list(user.id)
    assert (found.last_seen_ms, found.created_ms, found.ip) == (60, 50, "10.0.0.2")
    repository.session_remove(session.id)
    assert repository.session_touch(session.id, 70, "") is False
    assert repository.session_touch(2**40, 70, "") is False


def test_renewed_session_has_another_secret(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    session = repository.session_add(user.id, digest(1), "", "", 50)
    repository.session_renew(session.id, digest(2))
    assert repository.session_find(digest(1)) is None
    assert repository.session_find(digest(2)) == (session, user)
    for unknown in (session.id + 1, 10**30):
        with pytest.raises(UnknownSession):
            repository.session_renew(unknown, digest(3))


def test_new_password_ends_all_sessions_but_the_one_to_keep(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    other = repository.user_add("ben", HASH)
    made = [repository.session_add(user.id, digest(n), "", "", n) for n in range(3)]
    others = repository.session_add(other.id, digest(9), "", "", 9)
    repository.user_update(user.id, must_change=True)
    assert len(repository.session_list(user.id)) == 3
    repository.user_update(user.id, password_hash="new", keep_session_id=made[1].id)
    assert repository.session_list(user.id) == [made[1]]
    repository.user_update(user.id, password_hash="newer")
    assert repository.session_list(user.id) == []
    assert repository.session_list(other.id) == [others]


def test_better_hash_of_the_same_password_ends_no_session(repository: Repository) -> None:
    user = repository.user_add("anna", "old")
    repository.session_add(user.id, digest(1), "", "", 1)
    assert repository.user_rehash(user.id, "old", "better") is True
    assert repository.user_rehash(user.id, "old", "late") is False
    found = repository.user_get("anna")
    assert found is not None
    assert found.password_hash == "better"
    assert len(repository.session_list(user.id)) == 1


def test_log_in_with_a_password_changed_meanwhile_makes_no_session(repository: Repository) -> None:
    user = repository.user_add("anna", "old")
    repository.user_add("ben", HASH)
    repository.session_add(user.id, digest(1), "", "", 1, password_hash="old")
    repository.user_update(user.id, password_hash="new")
    with pytest.raises(UnknownUser):
        repository.session_add(user.id, digest(2), "", "", 1, password_hash="old")
    repository.user_update(user.id, enabled=False)
    for unknown in (user.id, user.id + 99):
        with pytest.raises(UnknownUser):
            repository.session_add(unknown, digest(3), "", "", 1)
    assert repository.session_list(user.id) == []


def test_disabled_user_has_no_session_and_tokens_that_do_not_work(repository: Repository) -> None:
    repository.user_add("ben", HASH)
    user = repository.user_add("anna", HASH)
    session = repository.session_add(user.id, digest(1), "", "", 1)
    token = repository.token_add(user.id, "t", "write", digest(2))
    repository.user_update(user.id, enabled=False, keep_session_id=session.id)
    assert repository.session_find(digest(1)) is None
    assert repository.token_find(digest(2)) is None
    assert repository.token_list(user.id) == [token]
    enabled = repository.user_update(user.id, enabled=True)
    assert repository.session_find(digest(1)) is None
    assert repository.token_find(digest(2)) == (token, enabled)


def test_removed_user_takes_sessions_and_tokens_along(repository: Repository) -> None:
    ben = repository.user_add("ben", HASH)
    user = repository.user_add("anna", HASH)
    for number, each in enumerate((user, ben)):
        repository.session_add(each.id, digest(number), "", "", 1)
        repository.token_add(each.id, "t", "read", digest(number))
    repository.user_remove(user.id)
    assert repository.session_find(digest(0)) is None
    assert [row.username for row in repository.token_list()] == ["ben"]
    assert repository.session_find(digest(1)) is not None


def test_log_out_elsewhere_keeps_this_session(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    made = [repository.session_add(user.id, digest(n), "", "", n) for n in range(4)]
    assert repository.session_remove_others(user.id, made[2].id) == 3
    assert repository.session_list(user.id) == [made[2]]
    assert repository.session_remove_others(user.id, None) == 1


def test_prune_removes_sessions_that_are_idle_or_old(repository: Repository) -> None:
    user = repository.user_add("anna", HASH)
    made = [repository.session_add(user.id, digest(n), "", "", 100 + n) for n in range(4)]
    repository.session_touch(made[0].id, 500, "")
    repository.session_touch(made[3].id, 500, "")
    assert repository.session_prune(idle_before_ms=200, created_before_ms=101) == 3
    assert [row.id for row in repository.session_list(user.id)] == [made[3].id]


def test_too_many_log_ins_push_out_the_one_not_used_for_longest(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 5)
    user = repository.user_add("anna", HASH)
    browser = repository.session_add(user.id, digest(0), "", "", 1)
    for number in range(1, 20):
        repository.session_add(user.id, digest(number), "", "", number)
        repository.session_touch(browser.id, number + 1, "")
    rows = repository.session_list(user.id)
    assert len(rows) == 5
    assert rows[0].id == browser.id
    assert [row.created_ms for row in rows[1:]] == [19, 18, 17, 16]


# --- tokens ------------------------------------------------------------------------------------


def test_token_is_found_until_it_expires_or_is_revoked(repository: Repository, clock: Clock) -> None:
    user = repository.user_add("anna", HASH)
    token = repository.token_add(user.id, " 脚本 ", "read", digest(1), expires_ms=clock.now + 1000)
    assert (token.username, token.name, token.scope, token.last_used_ms) == ("anna", "脚本", "read", None)
    assert repository.token_find(digest(1)) == (token, user)
    for _ in range(2):
        assert repository.token_touch(token.id, 77, "10.0.0.1") is True
    (row,) = repository.token_list()
    assert (row.last_used_ms, row.last_used_ip) == (77, "10.0.0.1")
    clock.now += 1000
    assert repository.token_find(digest(1)) is None
    assert len(repository.token_list(user.id)) == 1
    assert repository.token_remove(token.id, user_id=user.id + 1) is False
    assert repository.token_remove(token.id, user_id=user.id) is True
    assert repository.token_touch(token.id, 78, "") is False
    assert repository.token_list() == []


@pytest.mark.parametrize(
    ("name", "scope", "expires_in", "text"),
    [
        ("", "read", None, "name of 1 to 100"),
        ("x" * 101, "read", None, "name of 1 to 100"),
        ("\ud800", "read", None, "name of 1 to 100"),
        ("t", "admin", None, "read or write"),
        ("t", "", None, "read or write"),
        ("t", "read", 0, "in the future"),
        ("t", "read", 2**60, "in the future"),
    ],
)
def test_token_that_cannot_be_is_refused(
    repository: Repository, clock: Clock, name: str, scope: str, expires_in: int | None, text: str
) -> None:
    user = repository.user_add("anna", HASH)
    expires_ms = None if expires_in is None else clock.now + expires_in
    with pytest.raises(ValueError, match=text):
        repository.token_add(user.id, name, scope, digest(1), expires_ms)
    assert repository.token_list() == []


def test_token_needs_a_user_who_can_log_in_and_not_too_many_before(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TOKENS_MAX", 2)
    repository.user_add("ben", HASH)
    user = repository.user_add("anna", HASH)
    for number in range(2):
        repository.token_add(user.id, "t", "read", digest(number))
    with pytest.raises(ValueError, match="2 tokens already"):
        repository.token_add(user.id, "t", "read", digest(2))
    repository.user_update(user.id, enabled=False)
    for unknown in (user.id, 4711):
        with pytest.raises(UnknownUser):
            repository.token_add(unknown, "t", "read", digest(3))


# --- audit -------------------------------------------------------------------------------------


def test_audit_keeps_what_it_is_told_newest_first(repository: Repository, clock: Clock) -> None:
    first = repository.audit_add("anna", "10.0.0.1", "whitelist.add", "10.0.0.9", None, {"note": "中文 \"'"})
    second = repository.audit_add("ben", "::1", "login", "ben")
    assert repository.audit_list() == [second, first]
    assert first.time_ms < second.time_ms
    assert first.before is None
    assert json.loads(first.after or "") == {"note": "中文 \"'"}
    assert repository.audit_list(actor="ben") == [second]
    assert repository.audit_list(action="whitelist.add") == [first]
    assert repository.audit_list(actor="ben", action="whitelist.add") == []
    assert repository.audit_list(actor="b%\0") == []


def test_audit_pages_go_on_where_the_last_one_ended(repository: Repository) -> None:
    made = [repository.audit_add("anna", "", "x", str(number)) for number in range(25)]
    seen = []
    before = None
    while page := repository.audit_list(before_id=before, limit=10):
        seen += page
        before = page[-1].id
    assert seen == made[::-1]
    assert repository.audit_list(before_id=0) == repository.audit_list(before_id=10**30) == []
    assert len(repository.audit_list(limit=-1)) == 1


def test_hostile_and_endless_texts_cannot_break_the_audit(repository: Repository) -> None:
    odd = "a\0b\ud800 '; DROP TABLE admin_audit; -- <script>"
    row = repository.audit_add(odd, odd, odd * 9, odd * 99, {odd: odd}, {"list": [odd] * 9999})
    assert repository.audit_list() == [row]
    assert (len(row.actor), len(row.action), len(row.subject)) == (len(odd), 64, 255)
    assert isinstance(json.loads(row.before or ""), dict)
    assert list(json.loads(row.after or "")) == ["truncated"]
    big = repository.audit_add("a", "", "x", "", {"emoji": "🚀" * 50_000})
    assert repository.audit_list(limit=1) == [big]


def test_values_that_are_not_json_are_written_as_text(repository: Repository) -> None:
    row = repository.audit_add("a", "", "x", "", {"when": {1}, 5: None})
    assert json.loads(row.before or "") == {"when": "{1}", "5": None}


def test_oldest_entries_go_when_there_are_too_many(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AUDIT_MAX", 10)
    made = [repository.audit_add("a", "", "x", str(number)) for number in range(25)]
    assert repository.audit_list(limit=100) == made[:-11:-1]
