"""Ids of book updates: which one when, and when which one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.sandbox.update_ids import UpdateIds

NOW = 1_791_374_430_500


@pytest.mark.parametrize("hz", [0.01, 0.25, 1.0, 3.0, 4.0, 7.3, 30.0, 1000.0])
def test_time_of_an_id_is_the_first_moment_it_is_the_latest(hz):
    ids = UpdateIds(hz, 123, NOW)
    newest = ids.current(NOW)
    for update_id in range(newest - 50, newest + 1):
        moment = ids.time_of(update_id)
        assert ids.current(moment) >= update_id > ids.current(moment - 1)
        assert moment <= NOW


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 9)), max_size=12),
    st.sampled_from([0.0, 0.5, 4.0]),
)
def test_ids_put_in_between_leave_all_others_in_their_place(insertions, hz):
    ids, now = UpdateIds(hz, 7, NOW), NOW
    before = ids.current(now)
    for wait, count in insertions:
        now += wait
        first = ids.current(now) + 1
        last = ids.insert(now, count)
        assert (last, ids.current(now)) == (first + count - 1, last)
        assert {ids.time_of(one) for one in range(first, last + 1)} == {now}
    newest = ids.current(now)
    times = [ids.time_of(one) for one in range(before, newest + 1)]
    assert times == sorted(times)
    for one in range(before + 1, newest + 1):
        assert ids.current(ids.time_of(one)) >= one


def test_held_ids_stand_still_and_go_on_afterwards():
    ids = UpdateIds(4.0, 0, NOW)
    ids.hold(NOW)
    held = ids.current(NOW)
    ids.hold(NOW + 500)
    assert ids.current(NOW + 60_000) == held
    ids.release()
    assert ids.current(NOW + 60_000) == held + 240


def test_a_moment_before_something_was_put_in_knows_nothing_of_it():
    ids = UpdateIds(4.0, 0, NOW)
    earlier = ids.current(NOW - 1)
    ids.insert(NOW, 50)
    assert ids.current(NOW - 1) == earlier
    assert ids.current(NOW) > earlier + 49


def test_restart_jumps_and_is_counted():
    ids = UpdateIds(4.0, 0, NOW)
    before = ids.current(NOW)
    assert ids.restart(NOW, 1000) == before + 1000 == ids.current(NOW)
    assert ids.restarts == 1
    assert ids.current(NOW + 1000) == before + 1004
