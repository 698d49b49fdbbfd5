"""What each client has used."""

from __future__ import annotations

from resender.core.egress.client_shares import ClientShares


def test_a_client_fits_until_its_share_is_used_and_again_in_the_next_window() -> None:
    clients = ClientShares(0.5)
    assert clients.fits("a", "spot", 50, 1, 50)
    clients.add("a", "spot", 50, 1)
    assert not clients.fits("a", "spot", 1, 1, 50)
    assert clients.fits("a", "futures", 50, 1, 50)
    assert clients.fits("b", "spot", 50, 1, 50)
    assert clients.fits("a", "spot", 50, 2, 50)


def test_status_lists_the_greediest_first_and_forgets_old_windows() -> None:
    clients = ClientShares()
    clients.add("quiet", "spot", 1, 7)
    clients.add("old", "spot", 500, 6)
    clients.add("busy", "spot", 40, 7)
    clients.add("busy", "futures", 2, 7)
    clients.refuse("busy")
    rows = clients.status(7)
    assert [row["ip"] for row in rows] == ["busy", "quiet", "old"]
    assert rows[0] == {"ip": "busy", "calls": 2, "weight_minute": 42, "weight_total": 42, "refused": 1}
    assert rows[2]["weight_minute"] == 0
    assert rows[2]["weight_total"] == 500
    assert all(row["weight_minute"] == 0 for row in clients.status(8))


def test_memory_is_bounded_whatever_addresses_come() -> None:
    clients = ClientShares()
    for number in range(5000):
        clients.add(f"2001:db8::{number:x}", "spot", 1, 1)
    rows = clients.status(7)
    assert len(rows) == 2000
    assert {row["ip"] for row in rows} >= {"2001:db8::1387"}
    for number in range(1000):
        clients.add("one", f"sapi:/sapi/v1/x{number}", 1, 1)
    assert sum(row["calls"] for row in clients.status(1) if row["ip"] == "one") == 1000
