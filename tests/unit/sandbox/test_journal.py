"""What openOrders showed at any moment, from the changes alone."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from resender.sandbox.journal import Journal, Row


def row(key, version=0, symbol="A"):
    return Row(key * 10, key, symbol, f"{key}.{version}".encode())


def test_rows_stand_by_the_time_they_were_made_whatever_changed_last():
    journal = Journal()
    for key, version in ((2, 0), (1, 0), (3, 0), (1, 1)):
        journal.note(version, ("A", key), row(key, version))
    assert journal.now() == b"[1.1,2.0,3.0]"


def test_only_changes_make_a_state():
    journal = Journal()
    journal.note(1, ("A", 1), None)
    journal.note(2, ("A", 1), row(1))
    journal.note(3, ("A", 1), row(1))
    journal.note(4, ("A", 1), None)
    assert journal.history() == [(0, b"[]"), (2, b"[1.0]"), (4, b"[]")]


def test_symbol_has_its_own_history():
    journal = Journal()
    journal.note(1, ("A", 1), row(1))
    journal.note(2, ("B", 1), row(1, 0, "B"))
    assert journal.history("B") == [(0, b"[]"), (2, b"[1.0]")]
    assert (journal.now("A"), journal.now("C")) == (b"[1.0]", b"[]")


changes = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(-1, 4)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(changes, st.integers(1, 80))
def test_history_is_what_a_plain_replay_gives_however_little_is_kept(steps, kept):
    journal, rows, now, states = Journal(kept), {}, 100, []
    for pause, key, version in steps:
        now += pause
        made = None if version < 0 else row(key, version)
        journal.note(now, ("A", key), made)
        if made is None:
            rows.pop(key, None)
        else:
            rows[key] = made
        states.append((now, b"[" + b",".join(one.data for one in sorted(rows.values())) + b"]"))
    last = states[-1][1] if states else b"[]"
    history = journal.history()
    assert journal.now() == history[-1][1] == journal.at(now) == last
    assert all(one[1] != other[1] for one, other in pairwise(history))
    assert {data for _, data in history[1:]} <= {data for _, data in states}
    if len(steps) <= kept:
        assert {data for _, data in states} <= {data for _, data in history}
        for moment in range(99, now + 2):
            seen = [data for when, data in states if when <= moment]
            assert journal.at(moment) == (seen[-1] if seen else b"[]")
