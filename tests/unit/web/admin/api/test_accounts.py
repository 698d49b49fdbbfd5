"""The accounts' API: how accounts are shown, which key is meant, and what of one is told as it changes."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from resender.account import SeenKey
from resender.api_keys import digest_of
from resender.core.binance.markets import Market
from resender.store import DuplicateAccount, DuplicateKey
from resender.store.account_rows import AccountKeyRow, AccountRow
from resender.web.admin.api import accounts as module
from resender.web.admin.api.accounts import _Changes, whole
from tests.support.admin import assert_error
from tests.unit.web.serving import NOW_MS, FakeRepository, FakeStore, administered, make_services

DIGEST = "ab" * 32
KEY = AccountKeyRow(3, DIGEST, "wxyz", None, "linked", 77)
ROW = AccountRow(3, "bot", "um", "key", None, 77, (KEY,))
BODY = {"name": "bot", "market": "um", "mode": "key"}
ORDER = {"symbol": "BTCUSDT", "orderId": 8389765600000000123, "status": "NEW", "time": 5}


class Account:
    """A watched account as far as its state is told."""

    def __init__(self) -> None:
        self.listeners: set[Any] = set()
        self.hits, self.difference_count = 4, 0
        self.misses, self.events, self.unknown_events = Counter(signature=2), Counter(a=1, b=2), Counter()
        self.differences: list[tuple[int, str]] = []
        self.rows = [{**ORDER, "kind": "um"}]

    def state(self) -> dict[str, Any]:
        return {"state": "live", "why": "", "since": 9, "openOrders": len(self.rows)}

    def open_orders(self) -> list[dict[str, Any]]:
        return self.rows

    def ended_orders(self) -> list[dict[str, Any]]:
        return [{"symbol": "A", "orderId": n, "kind": "um"} for n in range(150)]

    def balances(self) -> list[dict[str, Any]]:
        return [{"asset": "USDT"}]

    def positions(self) -> list[dict[str, Any]]:
        return []


def services(account: Account | None = None, rows: FakeRepository | None = None, **answers: Any) -> Any:
    rows = rows or FakeRepository(**answers)
    store = FakeStore(run=lambda work, *args: work(rows, *args), account_change=rows.change)
    made = make_services(store=store)
    seen = {
        (Market.UM, DIGEST[::-1]): SeenKey(Market.UM, DIGEST[::-1], "old1", "10.0.0.1", 5, 1),
        (Market.SPOT, "cd" * 32): SeenKey(Market.SPOT, "cd" * 32, "new2", "10.0.0.2", 6, 8),
    }
    made.secret_box = None
    made.accounts = SimpleNamespace(
        find=lambda number: account,
        callers=SimpleNamespace(addresses=lambda digest, mono: ["10.0.0.9"]),
        seen=seen,
    )
    return made


@pytest.fixture(autouse=True)
def _plain_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read through the fake repository: `run` is handed functions of the real one."""
    fake = SimpleNamespace(
        account_list=lambda rows: rows.account_list(),
        account_get=lambda rows, number: rows.account_get(number),
        empty_wal=lambda rows: rows.empty_wal(),
    )
    monkeypatch.setattr(module, "Repository", fake)


async def test_accounts_are_shown_with_their_state_and_the_keys_seen_newest_first() -> None:
    async with administered(services(Account(), account_list=[ROW])) as one:
        answer = await one.get("accounts")
    (item,) = answer["items"]
    assert (item["id"], item["name"], item["state"], item["open_orders"]) == (3, "bot", "live", 1)
    assert (item["hits"], item["misses"], item["events"]) == (4, {"signature": 2}, 3)
    shown = {"digest": DIGEST, "hint": "wxyz", "source": "linked", "has_public_key": False}
    assert item["keys"] == [shown | {"addresses": ["10.0.0.9"]}]
    assert [(key["market"], key["hint"], key["calls"]) for key in answer["seen"]] == [
        ("spot", "new2", 8),
        ("um", "old1", 1),
    ]


async def test_account_this_process_does_not_watch_says_so() -> None:
    async with administered(services(None, account_list=[ROW], account_get=ROW)) as one:
        (item,) = (await one.get("accounts"))["items"]
        single = await one.get("accounts/3")
        assert_error(await one.send("GET", "accounts/3/events"), 404, -3, reason="account_gone")
    assert (item["state"], item["why"], item["open_orders"]) == ("waiting", "not watched here", 0)
    assert (single["orders"], single["balances"], single["last_differences"]) == ([], [], [])


async def test_account_another_node_watches_has_the_state_that_node_has_told() -> None:
    told = {
        "at_ms": NOW_MS,
        "accounts": {"3": {"state": "live", "why": "", "orders": 7, "since_ms": 5, "at_ms": NOW_MS}},
    }
    made = services(None, account_list=[ROW], state_get=orjson.dumps(told).decode())
    made.cluster = SimpleNamespace()
    async with administered(made) as one:
        (item,) = (await one.get("accounts"))["items"]
    assert (item["state"], item["why"], item["open_orders"], item["since"]) == ("live", "", 7, 5)


def test_everything_of_an_account_has_order_numbers_as_texts_and_some_ended_orders() -> None:
    account = Account()
    account.differences = [(1, "first"), (2, "last")]
    found = whole(cast(Any, account))
    assert found["orders"] == [{**ORDER, "orderId": "8389765600000000123", "kind": "um"}]
    assert len(found["ended"]) == 100
    assert found["last_differences"] == [{"time": 2, "what": "last"}, {"time": 1, "what": "first"}]


@pytest.mark.parametrize("digest", [DIGEST[::-1], "ee" * 32])
async def test_account_is_added_with_a_key_that_was_seen_and_with_no_other(digest: str) -> None:
    rows = FakeRepository(account_add=ROW)
    async with administered(services(None, rows)) as one:
        reply = await one.send("POST", "accounts", BODY | {"digest": digest})
    if digest != DIGEST[::-1]:
        assert_error(reply, 400, -4, field="digest", reason="not_seen")
        assert rows.asked == []
        return
    assert reply.status == 201
    name, values, options = rows.asked[0]
    assert (name, values) == ("account_add", ("bot", "um", "key"))
    assert options == {"digest": digest, "hint": "old1", "public_key": None, "source": "linked"}
    after = {"id": 3, "name": "bot", "market": "um", "mode": "key", "key": "...old1"}
    assert rows.audit == [("root", "127.0.0.1", "account.add", "bot", None, after)]


async def test_key_that_is_given_is_known_by_its_digest_alone() -> None:
    rows = FakeRepository(account_add=ROW)
    key = "k" * 60 + "LAST"
    async with administered(services(None, rows)) as one:
        reply = await one.send("POST", "accounts", BODY | {"key": f" {key} "})
    assert rows.asked[0][2]["digest"] == digest_of(key)
    assert key not in reply.raw.decode() + repr(rows.asked) + repr(rows.audit)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DuplicateAccount(ROW), {"field": "name", "reason": "account_exists", "id": 3}),
        (DuplicateKey(ROW), {"field": "key", "reason": "key_taken", "id": 3, "name": "bot"}),
    ],
)
async def test_what_is_there_already_is_a_conflict_with_that_one(error: Exception, told: Any) -> None:
    async with administered(services(None, account_add=error)) as one:
        assert_error(await one.send("POST", "accounts", BODY), 409, -13, **told)


async def test_removed_account_is_in_the_audit_only_if_it_was_there() -> None:
    for is_there in (True, False):
        rows = FakeRepository(account_get=ROW, account_remove=is_there, empty_wal=None)
        async with administered(services(None, rows)) as one:
            reply = await one.send("DELETE", "accounts/3")
        assert reply.status == (200 if is_there else 404)
        assert [row[2] for row in rows.audit] == ["account.remove"] * is_there
        assert (("empty_wal", (), {}) in rows.asked) is is_there


async def test_key_of_its_own_stays_as_long_as_the_account() -> None:
    own = AccountRow(
        3, "bot", "um", "secret", "sealed", 77, (AccountKeyRow(3, DIGEST, "wxyz", None, "own", 77),)
    )
    rows = FakeRepository(account_get=own)
    async with administered(services(None, rows)) as one:
        assert_error(await one.send("DELETE", f"accounts/3/keys/{DIGEST}"), 409, -13, reason="own_key")
        assert_error(await one.send("DELETE", f"accounts/3/keys/{'0' * 64}"), 404, -3, reason="key_gone")
        assert "sealed" not in (await one.send("GET", "accounts/3")).raw.decode()
    assert rows.audit == []


class Following:
    """What one stream of an account tells."""

    def __init__(self) -> None:
        self.account = Account()
        self.changes = _Changes(cast(Any, self.account))

    def order(self, number: int, **more: Any) -> None:
        row = {"symbol": "BTCUSDT", "orderId": number, "status": "NEW", **more}
        self.changes.hear({"e": "order", "kind": "um", "order": row})

    def take(self, *, least: bool = False) -> tuple[str, Any] | None:
        found = self.changes.take(least=least)
        return None if found is None else (found[0], orjson.loads(found[1]))


def test_stream_begins_with_everything_and_then_says_nothing_without_need() -> None:
    one = Following()
    name, data = one.take() or ("", None)
    assert (name, data["orders"][0]["orderId"]) == ("account", "8389765600000000123")
    assert one.take() is None
    name, data = one.take(least=True) or ("", None)
    assert (name, data["orders"], data["state"]) == ("change", [], "live")
    assert "balances" not in data


def test_orders_that_changed_are_told_once_as_they_are_now() -> None:
    one = Following()
    one.take()
    one.order(1)
    one.order(2)
    one.order(1, status="FILLED")
    name, data = one.take() or ("", None)
    assert name == "change"
    assert [(row["orderId"], row["kind"], row["open"]) for row in data["orders"]] == [
        ("1", "um", False),
        ("2", "um", True),
    ]
    one.changes.hear(
        {"e": "order", "kind": "algo", "order": {"symbol": "A", "algoId": 2, "algoStatus": "NEW"}}
    )
    (row,) = (one.take() or ("", {}))[1]["orders"]
    assert (row["algoId"], row["kind"], row["open"]) == ("2", "algo", True)


def test_money_is_told_when_it_changed_and_differences_when_there_are_more() -> None:
    one = Following()
    one.take()
    one.changes.hear({"e": "balances", "balances": [{"asset": "BTC"}], "positions": []})
    assert (one.take() or ("", {}))[1]["balances"] == [{"asset": "BTC"}]
    one.account.difference_count, one.account.differences = 1, [(5, "a fill is missing")]
    one.changes.hear({"e": "state"})
    assert (one.take() or ("", {}))[1]["last_differences"] == [{"time": 5, "what": "a fill is missing"}]
    one.changes.hear({"e": "state"})
    assert "last_differences" not in (one.take() or ("", {}))[1]


def test_snapshot_or_very_much_at_once_is_told_as_everything() -> None:
    one = Following()
    one.take()
    one.changes.hear({"e": "snapshot"})
    assert (one.take() or ("", None))[0] == "account"
    for number in range(400):
        one.order(number)
    assert (one.take() or ("", None))[0] == "account"
    assert one.take() is None
