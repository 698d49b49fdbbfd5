"""Book tickers of a whole market: every row REST would list, in its order, or a miss."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.requests import BookTickerRequest, Miss
from resender.market.kinds.base import Hit
from resender.market.kinds.book_ticker import _SLICE, BookTickers
from resender.market.series import KeptTicker
from tests.support.market_fakes import World, ticker_event, ticker_row

PATH = "/fapi/v1/ticker/bookTicker"
LISTED = ("NKNUSDT", "HALTUSDT", "BTCUSDT", "ETHUSDT")
TRADED = ("BTCUSDT", "ETHUSDT", "NKNUSDT")


class Whole:
    """A market of which a rule keeps each ticker that is traded; REST lists a halted one, too."""

    def __init__(
        self, world: World, listed: tuple[str, ...] = LISTED, traded: tuple[str, ...] = TRADED
    ) -> None:
        self.world = world
        self.kind = BookTickers(world.tools("bookTicker", quiet_s=10.0))
        self.feed = world.feeds.feed(world.market, "bookTicker")
        self.count = 0
        world.door.symbols = list(listed)
        world.door.answers[PATH] = self._rest
        self.bids: dict[str, str] = {}
        self.trade(*traded)

    def _rest(self, target: str, params: dict[str, str]) -> Any:
        now = self.world.now_ms
        rows = [ticker_row(name, now, self.bids.get(name, "1.50")) for name in self.world.door.symbols]
        return next(row for row in rows if row["symbol"] == params["symbol"]) if "symbol" in params else rows

    def trade(self, *symbols: str) -> None:
        """From now on these are traded, and a rule keeps them."""
        table = self.kind.facts.symbols
        table.tradable, table.is_loaded = dict.fromkeys(symbols), True
        for name, _ in list(self.kind.kept):
            if name not in symbols:
                self.kind.end(self.kind.kept.pop((name, "bookTicker")))
        for name in symbols:
            if (name, "bookTicker") not in self.kind.kept:
                kept = self.kind.make(name, "bookTicker", self.world.clock.mono(), is_preload=True)
                self.kind.kept[name, "bookTicker"] = kept
                self.kind.begin(kept)
                self.feed.subscribe([kept.stream], self)
                kept.is_live = True
                self.kind.live(kept)

    def one(self, name: str) -> KeptTicker:
        return self.kind.kept[name, "bookTicker"]

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.one(data["s"]), data)

    def send(self, *names: str, bid: str = "1.50") -> None:
        for name in names or tuple(self.kind.facts.symbols.tradable):
            self.count += 1
            self.bids[name] = bid
            event = ticker_event(self.count, name, self.world.now_ms, bid)
            self.feed.send(f"{name.lower()}@bookTicker", event)

    async def ask(self) -> Hit | Miss:
        found = self.kind.answer(BookTickerRequest(Market.UM, (), True), packed=False)
        return await found if isinstance(found, Awaitable) else found

    async def rows(self) -> dict[str, str]:
        found = await self.ask()
        assert isinstance(found, Hit), found
        return {row["symbol"]: row["bidPrice"] for row in orjson.loads(found.body)}

    def reads(self) -> int:
        return len(self.world.door.asked(PATH))


@pytest.fixture
async def whole(world: World) -> Whole:
    made = Whole(world)
    made.send()
    return made


async def test_all_are_told_in_the_order_of_rest_with_the_halted_ones(whole: Whole) -> None:
    assert list(await whole.rows()) == list(LISTED)
    assert whole.reads() == 1, "one read tells the order"
    whole.send("ETHUSDT", bid="7.00")
    rows = await whole.rows()
    assert (list(rows), rows["ETHUSDT"]) == (list(LISTED), "7.00")
    assert whole.reads() == 1


async def test_those_who_ask_at_once_share_the_read(whole: Whole) -> None:
    found = await asyncio.gather(*(whole.ask() for _ in range(10)))
    assert all(isinstance(each, Hit) for each in found)
    assert whole.reads() == 1


async def test_without_a_rule_for_each_of_them_nothing_is_read_or_told(whole: Whole) -> None:
    del whole.kind.kept["ETHUSDT", "bookTicker"]
    assert await whole.ask() == Miss("all symbols")
    whole.kind.kept.clear()
    assert await whole.ask() == Miss("all symbols")
    assert whole.reads() == 0


async def test_halted_rows_are_as_young_as_their_last_read(whole: Whole, world: World) -> None:
    await whole.rows()
    await world.until(3000)
    whole.send()
    found = await whole.ask()
    assert isinstance(found, Hit)
    assert found.age_ms == pytest.approx(3000, abs=5), "however young the others are"
    assert whole.reads() == 1
    whole.bids["HALTUSDT"] = "9.00"
    await world.until(7000)
    whole.send()
    assert (await whole.rows())["HALTUSDT"] == "9.00"
    assert whole.reads() == 2


async def test_halted_rows_that_cannot_be_read_again_are_told_no_longer(whole: Whole, world: World) -> None:
    await whole.rows()
    world.door.answers[PATH] = lambda *_: b"<html>"
    for after_ms in range(1000, 15_000, 1000):
        await world.until(after_ms)
        whole.send()
        found = await whole.ask()
        assert isinstance(found, Hit) is (after_ms <= 10_000), after_ms
        assert not isinstance(found, Hit) or found.age_ms <= 10_000


async def test_symbol_that_was_listed_since_is_not_left_out(whole: Whole, world: World) -> None:
    await whole.rows()
    world.door.symbols.insert(1, "FRESHUSDT")
    whole.trade(*TRADED, "FRESHUSDT")
    whole.send()
    assert await whole.ask() == Miss("all symbols")
    await world.until(6500)
    whole.send()
    assert list(await whole.rows()) == ["NKNUSDT", "FRESHUSDT", "HALTUSDT", "BTCUSDT", "ETHUSDT"]


async def test_symbol_that_was_listed_since_is_not_left_out_where_none_is_halted(world: World) -> None:
    whole = Whole(world, TRADED)
    whole.send()
    assert list(await whole.rows()) == list(TRADED)
    world.door.symbols.append("FRESHUSDT")
    whole.trade(*TRADED, "FRESHUSDT")
    whole.send()
    assert await whole.ask() == Miss("all symbols")
    await world.until(6500)
    whole.send()
    assert list(await whole.rows()) == [*TRADED, "FRESHUSDT"], "it does not stay so for good"


async def test_symbol_that_was_halted_since_is_read_again(world: World) -> None:
    whole = Whole(world, TRADED)
    whole.send()
    await whole.rows()
    whole.trade("BTCUSDT", "NKNUSDT")
    assert await whole.ask() == Miss("all symbols")
    await world.until(6500)
    whole.send()
    assert list(await whole.rows()) == list(TRADED)


async def test_symbol_rest_shows_no_more_is_told_no_more(whole: Whole, world: World) -> None:
    await whole.rows()
    world.door.symbols.remove("NKNUSDT")
    whole.trade("BTCUSDT", "ETHUSDT")
    await world.until(6500)
    whole.send()
    assert list(await whole.rows()) == ["HALTUSDT", "BTCUSDT", "ETHUSDT"]


async def test_halted_one_that_trades_again_is_told_out_of_its_stream(whole: Whole, world: World) -> None:
    await whole.rows()
    whole.trade(*TRADED, "HALTUSDT")
    assert isinstance(await whole.ask(), Miss), "it has no value yet, and what REST showed is old"
    await world.until(6500)
    whole.send()
    whole.send("HALTUSDT", bid="3.00")
    assert (await whole.rows())["HALTUSDT"] == "3.00"


async def test_quiet_one_is_compared_with_rest_before_all_are_told(whole: Whole, world: World) -> None:
    await whole.rows()
    await world.until(11_000)
    whole.send("BTCUSDT", "NKNUSDT")
    reads = whole.reads()
    found = await whole.ask()
    assert isinstance(found, Hit)
    assert found.age_ms <= 10_000
    assert whole.reads() > reads


async def test_quiet_one_rest_contradicts_keeps_all_from_it(whole: Whole, world: World) -> None:
    await whole.rows()
    await world.until(11_000)
    whole.send("BTCUSDT", "NKNUSDT")
    whole.bids["ETHUSDT"] = "5.00"  # its stream says nothing of it
    found = await whole.ask()
    if isinstance(found, Hit):
        assert b"5.00" in found.body, "as REST shows it, or not at all"


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda one, feed: setattr(one, "is_live", False), "stream not live"),
        (lambda one, feed: feed.dead.add(one.stream), "stream not live"),
        (lambda one, feed: setattr(one, "is_mute", True), "stream mute"),
        (lambda one, feed: one.ticker.lose(), "not read yet"),
    ],
)
async def test_one_that_is_lost_keeps_all_from_it(whole: Whole, break_it: Any, reason: str) -> None:
    await whole.rows()
    break_it(whole.one("ETHUSDT"), whole.feed)
    assert await whole.ask() == Miss(reason)


async def test_market_that_is_read_anew_while_it_is_put_together_is_not_told_by_halves(world: World) -> None:
    names = tuple(f"S{number}USDT" for number in range(_SLICE * 2))
    whole = Whole(world, names, names)
    whole.send()
    await whole.rows()
    asking = asyncio.create_task(whole.ask())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.door.symbols.insert(0, "HALTUSDT")
    body = orjson.dumps(whole._rest(PATH, {}))
    whole.kind._note_all({row["symbol"]: row for row in orjson.loads(body)}, world.clock.mono())
    assert await asking == Miss("all symbols")


async def test_other_calls_get_their_turn_while_all_are_put_together(world: World) -> None:
    names = tuple(f"S{number}USDT" for number in range(_SLICE * 4))
    whole = Whole(world, names, names)
    whole.send()
    await whole.rows()
    asking = asyncio.create_task(whole.ask())
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 4
    assert isinstance(asking.result(), Hit)
