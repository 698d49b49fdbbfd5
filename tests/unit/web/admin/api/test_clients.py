"""The page "Stream clients": who is shown, who can be disconnected, and what of it is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.errors import StoreError
from resender.fanout import StreamClient
from tests.support.admin import assert_error
from tests.unit.fanout.fakes import make_client, sink
from tests.unit.fanout.test_report import KEY, Guest
from tests.unit.web.serving import Admin, FakeRepository, administered, make_services, token

WORDS = (1012, "disconnected by the administrator")


class Page:
    """The page's API, with a client of closes and a relay."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.fanout = admin.services.fanout
        self.repository = FakeRepository()
        admin.store.answers["run"] = self.repository.change
        self.client: StreamClient = make_client(Market.UM)
        self.client.path = "/local/um/closes"
        self.fanout.add(self.client, ())
        self.guest = Guest()
        self.guest_id = self.fanout.next_number()
        self.fanout.guests[self.guest_id] = self.guest

    async def end(self, number: object) -> Any:
        return await self.admin.send("DELETE", f"clients/{number}")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with administered(make_services()) as admin:
        yield Page(admin)


async def test_all_clients_are_listed_as_in_the_status(page: Page) -> None:
    found = await page.admin.get("clients")
    assert found == page.admin.services.status.fanout().shown()
    assert [(row["id"], row["kind"]) for row in found["clients"]] == [
        (page.guest_id, "relay"),
        (page.client.number, "closes"),
    ]
    assert found["opened"] == 1


async def test_client_is_told_why_and_the_audit_says_who_did_it(page: Page) -> None:
    reply = await page.end(page.client.number)
    assert reply.status == 200
    assert sink(page.client).closed == [WORDS]
    assert page.client.number not in page.fanout.clients
    (row,) = page.repository.audit
    assert row[2:] == ("clients.disconnect", "10.0.0.1", {"path": "/local/um/closes"}, None)
    assert row[1] == "127.0.0.1"
    assert page.guest.closed == [], "nobody else is"


async def test_guest_is_ended_by_its_own_number(page: Page) -> None:
    assert (await page.end(page.guest_id)).status == 200
    assert page.guest.closed == [WORDS]
    assert sink(page.client).closed == []
    assert page.repository.audit[0][3:5] == ("10.0.0.2", {"path": "/ws-fapi/v1"})


@pytest.mark.parametrize("number", [0, 99, "007", "9" * 15])
async def test_number_nobody_has_is_gone_and_leaves_no_trace(page: Page, number: object) -> None:
    assert_error(await page.end(number), 404, -3, reason="gone")
    assert page.repository.audit == []


@pytest.mark.parametrize("number", ["9" * 16, "-1", "x", "1.0", "", "1%0a", "%D9%A1", "1/2", "1e3", " 1"])
async def test_what_is_no_number_is_no_route(page: Page, number: str) -> None:
    reply = await page.end(number.replace(" ", "%20"))
    assert reply.status in (404, 405)
    assert page.repository.audit == []
    assert sink(page.client).closed == []


async def test_zeros_in_front_name_the_same_client(page: Page) -> None:
    assert (await page.end(f"000{page.client.number}")).status == 200
    assert sink(page.client).closed == [WORDS]


async def test_client_is_disconnected_once(page: Page) -> None:
    assert (await page.end(page.client.number)).status == 200
    assert_error(await page.end(page.client.number), 404, -3, reason="gone")
    assert len(page.repository.audit) == 1


async def test_client_that_leaves_while_that_is_written_down_is_closed_no_second_time(page: Page) -> None:
    def change(work: Any) -> Any:
        page.fanout.remove(page.client)
        page.fanout.guests.pop(page.guest_id, None)
        return page.repository.change(work)

    page.admin.store.answers["run"] = change
    assert (await page.end(page.client.number)).status == 200
    assert sink(page.client).closed == []
    assert_error(await page.end(page.guest_id), 404, -3, reason="gone")


async def test_number_of_one_that_left_goes_to_nobody_else(page: Page) -> None:
    number = page.client.number
    page.fanout.remove(page.client)
    page.fanout.add(other := make_client(), ())
    assert_error(await page.end(number), 404, -3, reason="gone")
    assert sink(other).closed == []


async def test_nobody_is_disconnected_without_a_word_in_the_audit(page: Page) -> None:
    page.admin.store.answers["run"] = StoreError("the disk is full")
    reply = await page.end(page.client.number)
    assert reply.status >= 500
    assert sink(page.client).closed == []


async def test_who_may_only_read_sees_the_clients_and_disconnects_none(page: Page) -> None:
    page.admin.cookies.clear()
    page.admin.logins.login = token("read")
    by_token = ("Authorization", "Bearer good")
    assert len((await page.admin.get("clients", by_token))["clients"]) == 2
    reply = await page.admin.send("DELETE", f"clients/{page.client.number}", None, by_token)
    assert_error(reply, 403, -12)
    assert sink(page.client).closed == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_stranger_is_told_nothing_and_changes_nothing(page: Page, method: str) -> None:
    page.admin.cookies.clear()
    path = "clients" if method == "GET" else f"clients/{page.client.number}"
    assert_error(await page.admin.send(method, path), 401, -11)
    assert sink(page.client).closed == []


async def test_listen_keys_are_never_shown(page: Page) -> None:
    client = make_client()
    page.fanout.add(client, ())
    client.names.update(dict.fromkeys([KEY, f"{KEY}@account"]))
    assert KEY not in str(await page.admin.get("clients"))
