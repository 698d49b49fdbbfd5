"""What one server of admin pages holds: who may reach it, and how often strangers are written down."""

from __future__ import annotations

import pytest

from resender.aio import Clock
from resender.web.admin.shared import AdminSite
from tests.unit.web.serving import make_services


class Time:
    mono = 1000.0


def make(time: Time | None = None, **settings) -> AdminSite:
    services = make_services(**settings)
    if time is not None:
        services.clock = Clock(now_ms=lambda: 0, mono=lambda: time.mono)
    return AdminSite(services)


def test_without_a_list_of_addresses_everybody_may_try_to_log_in() -> None:
    assert make().may_reach("192.0.2.9")


@pytest.mark.parametrize(
    ("ip", "may"),
    [("10.1.2.3", True), ("::1", True), ("11.0.0.1", False), ("2001:db8::1", False), ("unknown", False)],
)
def test_list_of_addresses_keeps_all_others_away(ip: str, may: bool) -> None:
    assert make(admin_whitelist=("10.0.0.0/8", "::1")).may_reach(ip) is may


def test_refusals_of_one_address_are_written_down_once_in_ten_minutes() -> None:
    time = Time()
    site = make(time)
    assert site.is_first_refusal("192.0.2.9")
    assert not site.is_first_refusal("192.0.2.9")
    assert site.is_first_refusal("192.0.2.10")
    time.mono += 599
    assert not site.is_first_refusal("192.0.2.9")
    time.mono += 1
    assert site.is_first_refusal("192.0.2.9")


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    site = make(Time())
    assert site.is_first_refusal("2001:db8::1")
    assert not site.is_first_refusal("2001:db8::2")


def test_memory_of_refusals_is_bounded_and_forgets_the_oldest() -> None:
    site = make(Time())
    for number in range(1001):
        assert site.is_first_refusal(f"10.0.{number // 250}.{number % 250}")
    assert len(site._refusals) == 1000
    assert site.is_first_refusal("10.0.0.0")
    assert not site.is_first_refusal("10.0.4.0")


def test_idle_and_longest_time_of_a_log_in_are_those_of_the_settings() -> None:
    logins = make(admin_idle_minutes=2, admin_session_hours=3).logins
    assert (logins._idle_ms, logins._longest_ms) == (120_000, 3 * 3_600_000)
    assert logins._touch_ms == 30_000, "a short idle time needs finer steps"


def test_pages_have_their_texts_files_and_templates() -> None:
    site = make()
    assert set(site.catalogues) == {"en", "zh"}
    assert site.assets.own
    assert site.templates.load("login.html") is not None
