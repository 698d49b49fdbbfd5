"""Book tickers: first values by REST, prices by the stream, and when a quiet one is believed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.requests import BookTickerRequest, Miss
from resender.errors import EgressExhausted
from resender.market.kinds.base import Hit
from resender.market.kinds.book_ticker import BookTickers
from resender.market.reader import ReadFailed
from resender.market.series import KeptTicker
from tests.support.fixtures import event, raw
from tests.support.market_fakes import T0, World, ticker_event, ticker_row

PATH = "/fapi/v1/ticker/bookTicker"


class Kept:
    """Some tickers of a kind, subscribed."""

    def __init__(self, world: World, *symbols: str, **options: Any) -> None:
        self.world = world
        self.kind = BookTickers(world.tools("bookTicker", **options))
        self.feed = world.feeds.feed(world.market, "bookTicker")
        self.all: dict[str, KeptTicker] = {}
        for symbol in symbols or ("BTCUSDT",):
            kept = self.kind.make(symbol, "bookTicker", world.clock.mono(), is_preload=False)
            self.all[kept.stream] = self.kind.kept[symbol, "bookTicker"] = kept
            self.kind.begin(kept)
            self.feed.subscribe([kept.stream], self)

    @property
    def one(self) -> KeptTicker:
        return next(iter(self.all.values()))

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.all[name], data)

    def live(self) -> None:
        for kept in self.all.values():
            kept.is_live = True
            self.kind.live(kept)
        self.kind.settled_live()

    def lose(self, kept: KeptTicker) -> None:
        kept.is_live = False
        self.kind.lose(kept)

    def send(self, update_id: int, symbol: str = "BTCUSDT", **options: Any) -> None:
        options.setdefault("at_ms", self.world.now_ms)
        self.feed.send(f"{symbol.lower()}@bookTicker", ticker_event(update_id, symbol, **options))

    async def ask(self, *symbols: str, is_list: bool = False) -> Hit | Miss:
        request = BookTickerRequest(Market.UM, symbols or ("BTCUSDT",), is_list)
        found = self.kind.answer(request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found


def bid(hit: Hit | Miss) -> str:
    assert isinstance(hit, Hit), hit
    found: str = orjson.loads(hit.body)["bidPrice"]
    return found


# -- first values ---------------------------------------------------------------------------------


async def test_tickers_that_come_alive_together_are_read_by_one_call(world: World) -> None:
    kept = Kept(world, "BTCUSDT", "ETHUSDT", "NKNUSDT")
    kept.live()
    await world.until(1000)
    assert world.door.targets == [PATH]
    assert {each.state for each in kept.all.values()} == {"live"}


async def test_one_ticker_is_read_alone_because_that_is_cheaper(world: World) -> None:
    kept = Kept(world)
    kept.live()
    await world.until(1000)
    assert world.door.targets == [f"{PATH}?symbol=BTCUSDT"]


async def test_ticker_whose_stream_spoke_first_needs_no_read(world: World) -> None:
    kept = Kept(world)
    kept.live()
    kept.send(7)
    await world.until(1000)
    assert world.door.targets == []
    assert bid(await kept.ask()) == "1.50"


async def test_value_read_before_the_stream_was_lost_sets_nothing(world: World) -> None:
    kept = Kept(world)
    kept.live()
    world.door.held.clear()
    await world.until(500)
    kept.lose(kept.one)
    kept.one.is_live = True
    world.door.held.set()
    await world.settle()
    assert not kept.one.ticker.is_valid
    await world.until(5000)
    assert kept.one.ticker.is_valid, "read again"


async def test_failed_read_of_first_values_is_tried_again_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(world)
    good = world.door.answers[PATH]
    world.door.answers[PATH] = lambda *_: b"<html>"
    kept.live()
    await world.until(30_000)
    assert 3 <= len(world.door.targets) <= 8
    assert "book tickers cannot be read" in caplog.text
    world.door.answers[PATH] = good
    await world.until(60_000)
    assert kept.one.ticker.is_valid


async def test_symbol_the_answer_lacks_keeps_the_others_from_nothing(world: World) -> None:
    kept = Kept(world, "BTCUSDT", "ETHUSDT", "NKNUSDT")
    world.door.symbols.remove("ETHUSDT")
    kept.live()
    await world.until(1000)
    states = {each.symbol: each.state for each in kept.all.values()}
    assert states == {"BTCUSDT": "live", "ETHUSDT": "syncing", "NKNUSDT": "live"}


async def test_symbol_that_cannot_be_read_keeps_no_other_waiting(world: World) -> None:
    kept = Kept(world, "GONEUSDT", "BTCUSDT")
    kept.live()
    await world.until(120_000)
    assert [each.state for each in kept.all.values()] == ["syncing", "live"]


@pytest.mark.parametrize("answer", [b"[1]", b'"x"', b'[{"bidPrice":"1"}]', b"null"])
async def test_answer_of_another_shape_is_a_failed_read(world: World, answer: bytes) -> None:
    kept = Kept(world)
    world.door.answers[PATH] = lambda *_: answer
    with pytest.raises(ReadFailed):
        await kept.kind.read([kept.one])


async def test_value_the_stream_has_overtaken_is_not_put_back(world: World) -> None:
    kept = Kept(world)
    world.door.held.clear()
    kept.live()
    await world.until(300)
    kept.send(7, bid="2.00")
    world.door.held.set()
    await world.settle()
    assert bid(await kept.ask()) == "2.00"


# -- events and answers ---------------------------------------------------------------------------


async def test_recorded_event_is_answered_as_rest_writes_it(world: World) -> None:
    kept = Kept(world)
    kept.live()
    data = event(Market.UM, "ws_book_ticker")
    kept.feed.send(kept.one.stream, data)
    hit = await kept.ask()
    assert isinstance(hit, Hit)
    assert list(orjson.loads(hit.body)) == list(orjson.loads(raw(Market.UM, "http_book_ticker")))
    assert (bid(hit), hit.age_ms, hit.packed) == (data["b"], 0, None)


async def test_event_of_another_symbol_is_refused(world: World) -> None:
    kept = Kept(world)
    with pytest.raises(ValueError, match="another symbol"):
        kept.kind.event(kept.one, ticker_event(7, "ETHUSDT"))


async def test_repeated_event_proves_the_stream_and_an_older_one_does_not(world: World) -> None:
    kept = Kept(world)
    kept.live()
    kept.send(7)
    await world.until(2000)
    kept.send(6)
    assert kept.kind.proof(kept.one) == (2000, "event")
    kept.send(7)
    assert kept.kind.proof(kept.one) == (0, "event")


async def test_age_of_a_list_is_that_of_its_oldest(world: World) -> None:
    kept = Kept(world, "BTCUSDT", "ETHUSDT")
    kept.live()
    kept.send(7)
    await world.until(1500)
    kept.send(8, "ETHUSDT", bid="9.00")
    hit = await kept.ask("BTCUSDT", "ETHUSDT", is_list=True)
    assert isinstance(hit, Hit)
    assert hit.age_ms == pytest.approx(1500, abs=2)
    assert [row["bidPrice"] for row in orjson.loads(hit.body)] == ["1.50", "9.00"]
    assert [each.hits for each in kept.all.values()] == [1, 1]


async def test_all_of_a_list_that_are_not_held_are_begun_at_once(world: World) -> None:
    kept = Kept(world)
    assert await kept.ask("BTCUSDT", "ETHUSDT", "NKNUSDT", is_list=True) == Miss("not held yet")
    assert [symbol for _, symbol, _ in world.desk.begun] == ["ETHUSDT", "NKNUSDT"]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda kept: setattr(kept.one, "is_live", False), "stream not live"),
        (lambda kept: kept.feed.dead.add(kept.one.stream), "stream not live"),
        (lambda kept: setattr(kept.one, "is_mute", True), "stream mute"),
    ],
)
async def test_miss_says_what_is_the_matter(world: World, break_it: Any, reason: str) -> None:
    kept = Kept(world)
    kept.live()
    kept.send(7)
    break_it(kept)
    assert await kept.ask() == Miss(reason)


async def test_lost_stream_takes_the_value_and_its_proof_away(world: World) -> None:
    kept = Kept(world)
    kept.live()
    kept.send(7)
    kept.lose(kept.one)
    assert kept.kind.proof(kept.one) == (None, "")
    assert await kept.ask() == Miss("stream not live")


async def test_call_that_finds_no_value_yet_waits_for_one_read_that_serves_all(world: World) -> None:
    kept = Kept(world)
    kept.one.is_live = True
    found = await asyncio.gather(*(kept.ask() for _ in range(10)))
    assert {bid(each) for each in found} == {"1.50"}
    assert world.door.targets == [f"{PATH}?symbol=BTCUSDT"]


async def test_value_that_cannot_be_read_is_a_miss_and_not_asked_for_again_at_once(world: World) -> None:
    kept = Kept(world)
    kept.one.is_live = True
    world.door.answers[PATH] = lambda *_: EgressExhausted("no weight", retry_after_s=5.0)
    for _ in range(5):
        assert await kept.ask() == Miss("not read yet")
    assert len(world.door.targets) == 1


# -- quiet ones -----------------------------------------------------------------------------------


async def test_quiet_ticker_is_compared_with_rest_before_it_is_due(world: World) -> None:
    kept = Kept(world, quiet_s=10.0)
    kept.live()
    kept.send(7)
    await world.until(7000)
    assert bid(await kept.ask()) == "1.50"
    await world.until(8000)
    assert len(world.door.targets) == 1
    await world.until(12_000)
    hit = await kept.ask()
    assert isinstance(hit, Hit)
    assert hit.age_ms < 6000
    assert kept.kind.proof(kept.one)[1] == "rest"


async def test_ticker_that_is_quiet_too_long_is_not_answered_unread(world: World) -> None:
    kept = Kept(world, quiet_s=10.0)
    kept.live()
    kept.send(7)
    await world.until(11_000)
    world.door.answers[PATH] = lambda *_: b"<html>"
    assert await kept.ask() == Miss("stream quiet")


async def test_ticker_rest_contradicts_is_not_answered_and_its_stream_moved(world: World) -> None:
    kept = Kept(world, quiet_s=10.0)
    kept.live()
    kept.send(7)
    world.door.answers[PATH] = lambda *_: ticker_row("BTCUSDT", T0 + 20_000, bid="9.99")
    await world.until(11_000)
    for after_ms in range(11_000, 30_000, 1000):
        await world.until(after_ms)
        found = await kept.ask()
        assert not isinstance(found, Hit) or bid(found) == "9.99"
    assert world.moved
    assert set(map(id, world.moved)) == {id(kept.one)}


async def test_proof_by_a_read_is_told_as_one(world: World) -> None:
    kept = Kept(world)
    kept.live()
    await world.until(1000)
    age_ms, kind = kept.kind.proof(kept.one)
    assert kind == "rest"
    assert age_ms == pytest.approx(800, abs=2)


async def test_tickers_of_one_call_are_compared_in_one_read_however_long_nobody_wanted_them(
    world: World,
) -> None:
    names = tuple(f"S{number}USDT" for number in range(100))
    world.door.symbols = list(names)
    kept = Kept(world, *names)
    kept.live()
    await world.settle()
    for name in names:
        kept.send(1, name)
    await world.until(70_000)
    kept.all["s0usdt@bookTicker"].event_mono = world.clock.mono() - 7  # compared before it is due
    kept.kind.use(names)
    reads = len(world.door.targets)
    first = kept.kind.answer(BookTickerRequest(Market.UM, (names[0],), False), packed=False)
    assert isinstance(first, Hit)
    await world.settle()  # the read begins before the others are asked for
    found = [await kept.ask(name) for name in names]
    assert all(isinstance(each, Hit) for each in found)
    assert len(world.door.targets) == reads + 1
