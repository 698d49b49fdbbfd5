"""Order books for a ladder: the best levels as Binance wrote them, once and as they change."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.market.book import Book
from resender.core.market.levels import Head
from resender.core.market.partial_book import PartialBook
from resender.market.series import KeptBook
from resender.web.admin.api import books
from tests.support.client import parse
from tests.support.running import wait_until
from tests.unit.web.serving import administered, make_services, reading

BIDS = [[f"{100 - n}.10", f"{n + 1}.000"] for n in range(30)]
ASKS = [[f"{101 + n}.00", f"{n + 1}.500"] for n in range(30)]


def partial(update_id: int = 7) -> KeptBook:
    book = PartialBook(Market.SPOT, Head())
    book.apply({"lastUpdateId": update_id, "bids": BIDS[:20], "asks": ASKS[:20]})
    return KeptBook(Market.SPOT, "BTCUSDT", "btcusdt@depth20@100ms", 90.0, is_live=True, book=book)


def whole() -> KeptBook:
    book = Book(Market.SPOT, Head())
    book.snapshot({"lastUpdateId": 9, "bids": BIDS, "asks": ASKS}, 30)
    return KeptBook(Market.SPOT, "BTCUSDT", "btcusdt@depth@100ms", 90.0, is_live=True, book=book)


def services(*entries: KeptBook) -> Any:
    spot = SimpleNamespace(market=Market.SPOT, entries=lambda: entries, proof=lambda one: (40, "event"))
    return make_services(cache=SimpleNamespace(states={Market.SPOT: spot}, backfills={}))


@pytest.mark.parametrize(("kept", "update_id"), [(partial(), 7), (whole(), 9)], ids=["partial", "whole"])
async def test_best_levels_are_told_as_they_were_written(kept: KeptBook, update_id: int) -> None:
    async with administered(services(kept)) as one:
        found = await one.get(f"book?market=spot&symbol=btcusdt&interval={kept.what}")
    assert found == {
        "state": "live", "age_ms": 40, "proof": "event", "update_id": update_id,
        "bids": BIDS[:20], "asks": ASKS[:20],
    }  # fmt: skip


async def test_book_that_is_looked_at_counts_as_asked_for() -> None:
    kept = whole()
    async with administered(services(kept)) as one:
        await one.get("book?market=spot&symbol=BTCUSDT&interval=depth")
    assert kept.used_mono == 100.0


async def test_book_that_is_not_known_has_no_levels() -> None:
    kept = partial()
    kept.book.lose()
    async with administered(services(kept)) as one:
        found = await one.get("book?market=spot&symbol=BTCUSDT&interval=depth20")
    assert (found["state"], found["update_id"], found["bids"], found["asks"]) == ("syncing", None, [], [])


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("symbol=BTCUSDT&interval=depth", 400, "market"),
        ("market=spot&interval=depth", 400, "symbol"),
        ("market=spot&symbol=BTCUSDT", 400, "interval"),
        ("market=spot&symbol=BTCUSDT&interval=1m", 400, "interval"),
        ("market=spot&symbol=BTCUSDT&interval=depth", 404, None),
        ("market=spot&symbol=NOPE&interval=depth20", 404, None),
    ],
)
async def test_ladder_of_what_is_not_held_is_refused(query: str, status: int, field: str | None) -> None:
    async with administered(services(partial())) as one:
        for path in ("book", "book/events"):
            reply = await one.send("GET", f"{path}?{query}")
            assert reply.status == status
            assert reply.json()["data"].get("field") == field


async def test_book_is_told_as_it_changes_until_it_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "_LOOK_S", 0.01)
    monkeypatch.setattr(books, "_LEAST_EVERY", 10**6)
    kept = partial()
    path = "/admin/api/book/events?market=spot&symbol=BTCUSDT&interval=depth20"
    async with administered(services(kept)) as one, reading(one.port, path) as reader:
        raw = await reader.readuntil(b"event: book")
        assert one.live.streams_open == 1
        kept.book.apply({"lastUpdateId": 8, "bids": BIDS[1:3], "asks": ASKS[1:3]})
        raw += await reader.readuntil(b"event: book")
        kept.book.lose()
        raw += await reader.readuntil(b"event: book")
        kept.is_dropped = True
        raw += await reader.read()
        await wait_until(lambda: one.live.streams_open == 0)
    parts = [part.split(b"\ndata: ") for part in parse(raw).body.split(b"\n\n") if part.startswith(b"event")]
    told = [json.loads(data) for name, data in parts if name == b"event: book"]
    assert [each["update_id"] for each in told] == [7, 8, None]
    assert told[1]["bids"] == BIDS[1:3]
    assert json.loads(parts[-1][1]) == {"reason": "dropped"}


async def test_quiet_book_is_told_again_so_that_its_age_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "_LOOK_S", 0.01)
    path = "/admin/api/book/events?market=spot&symbol=BTCUSDT&interval=depth20"
    async with administered(services(partial())) as one, reading(one.port, path) as reader:
        for _ in range(3):
            await reader.readuntil(b"event: book")
