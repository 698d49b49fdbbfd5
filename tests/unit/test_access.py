"""Who may call: the whitelist in force, and what is said of those that are not in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from resender.access import Access
from resender.aio import Clock


@dataclass(frozen=True)
class Row:
    id: int
    address: str
    enabled: bool = True


class Time:
    mono = 100.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def access(time: Time) -> Access:
    return Access(["10.0.0.1"], Clock(now_ms=lambda: 0, mono=lambda: time.mono))


def test_nobody_may_call_before_a_whitelist_is_in_force(access: Access) -> None:
    assert access.whitelist.match("127.0.0.1") is None


def test_new_whitelist_replaces_the_old_one_whole(access: Access) -> None:
    access.set_whitelist([Row(1, "192.0.2.1"), Row(2, "198.51.100.0/24")])
    assert access.whitelist.match("198.51.100.9") == 2
    access.set_whitelist([Row(1, "192.0.2.1"), Row(3, "198.51.100.0/24", enabled=False)])
    assert access.whitelist.match("192.0.2.1") == 1
    assert access.whitelist.match("198.51.100.9") is None


def test_empty_whitelist_is_said_with_the_command_that_helps(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    access.set_whitelist([])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "nobody may call" in record.getMessage()
    assert "whitelist add ADDRESS" in record.getMessage()


def test_entries_that_cannot_be_read_are_left_out_and_counted(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    access.set_whitelist([Row(1, "by hand"), Row(2, "192.0.2.1")])
    assert access.whitelist.match("192.0.2.1") == 2
    assert [record.getMessage() for record in caplog.records] == [
        "1 whitelist entries cannot be read and are left out"
    ]


def test_only_a_trusted_proxy_speaks_for_another_address(access: Access) -> None:
    assert access.proxies.client_ip("10.0.0.1", ["192.0.2.5"], []) == "192.0.2.5"
    assert access.proxies.client_ip("10.0.0.2", ["192.0.2.5"], []) == "10.0.0.2"


def test_stranger_is_written_down_once_a_second(
    access: Access, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        access.note_stranger("192.0.2.5", "refused 192.0.2.5: not in the whitelist")
    time.mono += 1
    access.note_stranger("192.0.2.5", "refused 192.0.2.5: not in the whitelist")
    lines = [record.getMessage() for record in caplog.records if record.name == "resender.access"]
    assert lines == [
        "refused 192.0.2.5: not in the whitelist",
        "refused 192.0.2.5: not in the whitelist (2 more like this since the last such line)",
    ]


def test_refusal_and_failed_log_in_of_one_address_are_two_lines(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    access.note_stranger("192.0.2.5", "refused 192.0.2.5: not in the whitelist")
    access.note_stranger("192.0.2.5", "failed log-in from 192.0.2.5")
    assert len(caplog.records) == 2


def test_many_strangers_at_once_do_not_fill_the_log(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(200):
        access.note_stranger(f"198.51.100.{number}", "refused")
    assert len(caplog.records) == 20
