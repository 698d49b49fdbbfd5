"""How long a log-in waits: values in, seconds out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resender.core.access.login_throttle import LoginThrottle, NoteBudget, address_key


def fail(throttle: LoginThrottle, ip: str, account: str, now: float, times: int) -> None:
    for _ in range(times):
        assert throttle.begin(ip, account, now) == 0


def test_three_tries_are_free_and_each_further_one_waits_twice_as_long() -> None:
    throttle = LoginThrottle()
    fail(throttle, "10.0.0.1", "root", 0.0, 3)
    now, waits = 0.0, []
    for _ in range(9):
        wait = throttle.begin("10.0.0.1", "root", now)
        waits.append(wait)
        assert throttle.begin("10.0.0.1", "root", now + wait / 2) == wait / 2
        now += wait
        assert throttle.begin("10.0.0.1", "root", now) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_are_forgiven_one_after_each_quiet_while() -> None:
    throttle = LoginThrottle()
    fail(throttle, "10.0.0.1", "root", 0.0, 3)
    assert throttle.begin("10.0.0.1", "root", 0.5) == 0.5
    fail(throttle, "10.0.0.1", "root", 301.0, 1)
    assert throttle.begin("10.0.0.1", "root", 301.0) == 1
    fail(throttle, "10.0.0.1", "root", 301.0 + 4 * 300, 3)


def test_success_forgets_the_address_and_leaves_the_account_to_fade() -> None:
    throttle = LoginThrottle()
    for number in range(3):
        fail(throttle, f"10.0.1.{number}", "root", 0.0, 1)
    fail(throttle, "10.0.0.1", "other", 0.0, 2)
    assert throttle.begin("10.0.0.1", "root", 0.0) == 1
    assert throttle.begin("10.0.0.1", "root", 1.0) == 0
    throttle.succeeded("10.0.0.1", "root")
    fail(throttle, "10.0.0.1", "root", 1.0, 3)
    assert throttle.begin("10.0.9.9", "root", 1.0) == 1


def test_known_address_is_held_by_its_own_failures_only() -> None:
    throttle = LoginThrottle()
    fail(throttle, "10.0.0.1", "root", 0.0, 1)
    throttle.succeeded("10.0.0.1", "Root ")
    for number in range(50):
        throttle.begin(f"10.0.1.{number}", "ROOT", 1.0)
    assert throttle.begin("10.0.0.2", "root", 1.0) > 0
    fail(throttle, "10.0.0.1", "root", 1.0, 3)
    assert throttle.begin("10.0.0.1", "root", 1.0) == 1
    # Known is known for one account.
    for number in range(3):
        throttle.begin(f"10.0.2.{number}", "other", 100.0)
    assert throttle.begin("10.0.0.1", "other", 100.0) > 0


def test_mark_has_a_counter_of_its_own_and_raises_no_other() -> None:
    throttle = LoginThrottle()
    fail(throttle, "10.0.0.1", "root", 0.0, 3)
    for _ in range(3):
        assert throttle.begin("10.0.0.1", "root", 0.0, mark="a") == 0
    assert throttle.begin("10.0.0.1", "root", 0.0, mark="a") == 1
    assert throttle.begin("10.0.0.1", "root", 0.0, mark="b") == 0
    assert throttle.begin("10.0.0.1", "root", 0.0) == 1


def test_wait_for_an_account_counts_from_ones_own_try_whatever_others_do() -> None:
    throttle = LoginThrottle()
    for number in range(250):
        throttle.begin(f"10.1.0.{number}", "root", number * 30.0)
    now = 250 * 30.0
    wait = throttle.begin("10.9.9.9", "root", now)
    assert 0 < wait <= 60
    for number in range(250):
        throttle.begin(f"10.2.0.{number}", "root", now + wait * number / 250)
    assert throttle.begin("10.9.9.9", "root", now + 60) == 0


def test_one_network_of_ipv6_is_one_address() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key("10.0.0.1") == "10.0.0.1"
    assert address_key("unknown" * 50) == ("unknown" * 50)[:64]


def test_memory_is_bounded_whatever_comes() -> None:
    throttle = LoginThrottle(max_keys=100)
    for number in range(5000):
        ip = f"10.{number >> 8 & 255}.{number & 255}.1"
        for account in ("root", f"user{number}"):
            throttle.begin(ip, account, number / 10)
            throttle.begin(ip, account, number / 10, mark=f"m{number}")
        throttle.succeeded(ip, f"user{number}", mark=f"m{number}")
    assert throttle.size <= 400


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            st.sampled_from(["root", "other"]),
            st.floats(0, 200),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_nobody_ever_waits_longer_than_a_minute_after_his_own_last_try(
    tries: list[tuple[str, str, float, bool]],
) -> None:
    throttle, now = LoginThrottle(), 0.0
    for ip, account, pause, succeeds in tries:
        now += pause
        if throttle.begin(ip, account, now) == 0 and succeeds:
            throttle.succeeded(ip, account)
    wait = throttle.begin("10.0.0.1", "root", now)
    assert 0 <= wait <= 60
    if wait:
        assert throttle.begin("10.0.0.1", "root", now + wait) == 0


def test_nobody_is_pushed_out_of_the_line_by_a_network_full_of_addresses() -> None:
    throttle = LoginThrottle()
    for number in range(10):
        throttle.begin(f"198.51.100.{number}", "root", 0.0)
    wait_s = throttle.begin("192.0.2.7", "root", 1.0)
    assert 0 < wait_s <= 60
    # A tunnel broker gives anybody 65,536 networks of 64 bits.
    for number in range(20_000):
        throttle.begin(f"2001:db8:77:{number:x}::1", "root", 2.0)
    assert throttle.begin("192.0.2.7", "root", 1.0 + wait_s) == 0
    assert throttle.size < 30_000


def test_budget_of_notes_fills_again_slowly_and_counts_what_it_left_out() -> None:
    budget = NoteBudget(at_once=2, every_s=10)
    assert [budget.take(0.0) for _ in range(4)] == [0, 0, None, None]
    assert budget.take(9.0) is None
    assert budget.take(10.5) == 3
    assert budget.take(11.0) is None
    assert [budget.take(1000.0) for _ in range(3)] == [1, 0, None]
