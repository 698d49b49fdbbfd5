from __future__ import annotations

from resender.core.access.refused import MAX_ADDRESSES, RecentRefused


def test_refused_address_is_counted_with_first_and_last_time_and_path() -> None:
    refused = RecentRefused()
    refused.note("203.0.113.1", "/api/v3/order?signature=secret", 100)
    refused.note("203.0.113.2", "/a", 150)
    refused.note("203.0.113.1", "/b", 200)
    first, second = refused.items()
    assert (first.address, first.count, first.first_ms, first.last_ms, first.path) == (
        "203.0.113.1", 2, 100, 200, "/b",
    )  # fmt: skip
    assert second.address == "203.0.113.2"


def test_query_of_a_refused_call_is_not_kept() -> None:
    refused = RecentRefused()
    refused.note("203.0.113.1", "/api/v3/order?signature=secret", 100)
    assert refused.items()[0].path == "/api/v3/order"


def test_flood_of_addresses_stays_bounded_and_keeps_the_latest() -> None:
    refused = RecentRefused()
    for number in range(100_000):
        refused.note(f"2001:db8::{number:x}", "/" + "x" * 5000, number)
    assert len(refused) == MAX_ADDRESSES
    assert refused.total == 100_000
    assert refused.items()[0].last_ms == 99_999
    assert refused.items()[-1].last_ms == 100_000 - MAX_ADDRESSES
    assert max(len(row.path) for row in refused.items()) <= 200


def test_address_seen_again_outlives_newer_ones() -> None:
    refused = RecentRefused(size=2)
    refused.note("a", "/", 1)
    refused.note("b", "/", 2)
    refused.note("a", "/", 3)
    refused.note("c", "/", 4)
    assert [row.address for row in refused.items()] == ["c", "a"]


def test_junk_for_an_address_is_counted_but_not_listed() -> None:
    refused = RecentRefused()
    refused.note("x" * 65, "/", 1)
    refused.note("", "/", 1)
    assert (len(refused), refused.total) == (0, 2)


def test_one_address_or_all_can_be_taken_off_the_list() -> None:
    refused = RecentRefused()
    refused.note("a", "/", 1)
    refused.note("b", "/", 2)
    assert refused.forget("a")
    assert not refused.forget("a")
    assert [row.address for row in refused.items()] == ["b"]
    refused.clear()
    assert refused.items() == []
