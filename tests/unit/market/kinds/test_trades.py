"""Newest trades and last prices: one read joins the stream, ids prove the rest, a witness the quiet."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest

from resender.core.binance.endpoints import AGG_TRADES, PRICES, TRADES
from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.core.market.requests import Miss, parse_symbols, parse_trades
from resender.errors import EgressExhausted
from resender.market.kinds.base import Hit
from resender.market.kinds.trades import AggTrades, Trades
from tests.support.market_fakes import T0, World
from tests.support.trade_fakes import Counter, History

MARKETS = [Market.SPOT, Market.UM, Market.CM]


@pytest.fixture
async def spot() -> Any:
    made = World(Market.SPOT)
    yield made
    await made.end()


def rows_of(found: Hit | Miss) -> Any:
    assert isinstance(found, Hit), found
    return orjson.loads(found.body)


def ids(found: Hit | Miss) -> list[int]:
    return [row.get("a", row.get("id")) for row in rows_of(found)]


def truth(history: History, limit: int = 500) -> Any:
    return orjson.loads(history.rows(limit, history.world.now_ms))


async def ready(counter: Counter) -> None:
    """Let a symbol with a past be held."""
    for history in counter.histories.values():
        history.begin_with(1200)
    counter.live()
    for symbol in counter.histories:
        assert isinstance(await counter.ask(symbol=symbol), Hit)
    await counter.world.until(1500)  # so that another read may be made


# -- what is answered -------------------------------------------------------------------------------


def test_paths_and_words_of_the_markets() -> None:
    for market in MARKETS:
        assert AggTrades.paths(market) == {AGG_TRADES[market]: parse_trades}
        assert AggTrades.words(market) == {"aggTrade"}
    assert Trades.paths(Market.SPOT) == {
        TRADES[Market.SPOT]: parse_trades,
        PRICES[Market.SPOT]: parse_symbols,
    }
    assert Trades.paths(Market.UM) == Trades.paths(Market.CM) == {}
    assert (Trades.words(Market.SPOT), Trades.words(Market.UM)) == ({"trade"}, frozenset())


@pytest.mark.parametrize("market", MARKETS)
async def test_one_read_and_the_stream_answer_every_limit(market: Market) -> None:
    world = World(market)
    counter = Counter(world, AggTrades)
    counter.history.begin_with(1200)
    counter.live()
    counter.trade()
    assert ids(await counter.ask(3)) == [4999, 5000, 5001]
    for _ in range(30):
        counter.trade()
    for limit in (1, 500, 1000):
        hit = await counter.ask(limit)
        assert isinstance(hit, Hit)
        assert hit.body == counter.history.rows(limit, world.now_ms)
        assert (hit.age_ms, hit.packed) == (0, None)
    assert counter.reads == [f"{AGG_TRADES[market]}?symbol=BTCUSDT&limit=1000"]
    assert counter.one.state == "live"
    await world.end()


async def test_single_trades_of_spot_have_the_product_rest_shows(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    for _ in range(20):
        counter.trade()
    assert rows_of(await counter.ask(25)) == truth(counter.history, 25)
    assert len(counter.reads) == 1


async def test_product_that_is_not_certain_is_read_before_it_is_told(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    event = counter.history.trade(price="0.00000001")
    event["q"] = "1.70000000"
    counter.history.trades[-1] = counter.history.trades[-1]._replace(qty="1.70000000")
    counter.tell(event)
    assert counter.one.tail.texts[-1] is None
    assert rows_of(await counter.ask(5)) == truth(counter.history, 5)
    assert len(counter.reads) == 2
    counter.trade(price="0.00000001")
    counter.trade()
    assert rows_of(await counter.ask(5)) == truth(counter.history, 5)
    assert len(counter.reads) == 2, "it is known now"


async def test_price_needs_no_certain_product(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    event = counter.history.trade(price="0.00000001")
    event["q"] = "1.70000000"
    counter.tell(event)
    assert rows_of(await counter.ask_price("BTCUSDT")) == {"symbol": "BTCUSDT", "price": "0.00000001"}
    assert len(counter.reads) == 1


async def test_price_of_one_and_of_a_list(spot: World) -> None:
    counter = Counter(spot, Trades, "BTCUSDT", "ETHUSDT")
    await ready(counter)
    counter.trade("BTCUSDT", price="7.00000000")
    assert rows_of(await counter.ask_price("BTCUSDT")) == {"symbol": "BTCUSDT", "price": "7.00000000"}
    await spot.until(4000)
    counter.trade("ETHUSDT", price="8.00000000")
    hit = await counter.ask_price("ETHUSDT", "BTCUSDT", is_list=True)
    assert isinstance(hit, Hit)
    assert hit.body == (
        b'[{"symbol":"ETHUSDT","price":"8.00000000"},{"symbol":"BTCUSDT","price":"7.00000000"}]'
    )
    assert hit.age_ms == pytest.approx(2500, abs=3), "as old as its oldest"
    assert [kept.hits for kept in counter.all.values()] == [3, 2]
    one = await counter.ask_price("ETHUSDT", is_list=True)
    assert isinstance(one, Hit)
    assert one.body == b'[{"symbol":"ETHUSDT","price":"8.00000000"}]'


async def test_repeats_and_what_a_read_knew_already_are_no_second_row(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    events = [counter.trade(is_told=False) for _ in range(3)]
    counter.one.tail.restart()
    assert ids(await counter.ask(3)) == [5001, 5002, 5003]
    for event in [*events, *events]:
        counter.tell(event)
    counter.trade()
    assert rows_of(await counter.ask(100)) == truth(counter.history, 100)


async def test_repeated_event_makes_nothing_younger(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    event = counter.trade()
    await world.until(5000)
    counter.tell({**event, "E": world.now_ms})
    hit = await counter.ask()
    assert isinstance(hit, Hit)
    assert hit.age_ms == pytest.approx(3500, abs=3)


# -- the first read ---------------------------------------------------------------------------------


async def test_calls_that_find_nothing_yet_wait_for_one_read(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    found = await asyncio.gather(*(counter.ask(limit) for limit in (1, 5, 1000)))
    assert [len(ids(each)) for each in found] == [1, 5, 20]
    assert len(counter.reads) == 1


async def test_preload_is_read_as_soon_as_it_is_live(world: World) -> None:
    counter = Counter(world, AggTrades, is_preload=True)
    counter.history.begin_with(20)
    await world.until(500)
    assert counter.reads == []
    counter.kind.start()
    counter.live()
    await world.until(2500)
    assert len(counter.reads) == 1
    assert counter.one.rows == 20
    assert not any(is_urgent for _, is_urgent in world.door.admitted), "what clients wait for comes first"
    await counter.kind.stop()


async def test_preload_is_read_again_until_it_is_there(world: World) -> None:
    counter = Counter(world, AggTrades, *(f"S{number}USDT" for number in range(30)), is_preload=True)
    for history in counter.histories.values():
        history.begin_with(20)
    world.door.refuse = EgressExhausted("no weight", retry_after_s=5.0)
    counter.kind.start()
    counter.live()
    await world.until(20_000)
    assert not any(kept.rows for kept in counter.all.values())
    world.door.refuse = None
    await world.until(120_000)
    assert all(kept.rows == 20 for kept in counter.all.values())
    assert len(counter.reads) == 30, "each once"
    await counter.kind.stop()


async def test_what_is_kept_on_demand_is_read_by_the_first_call(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.live()
    await world.until(3000)
    assert counter.reads == []


async def test_rest_behind_the_first_event_is_read_again_a_second_later(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.history.lag_ms = 700
    counter.live()
    counter.trade(is_told=False)
    counter.trade()
    for _ in range(3):
        assert await counter.ask() == Miss("not read yet")
    assert len(counter.reads) == 1
    await world.until(1100)
    assert ids(await counter.ask(3)) == [5000, 5001, 5002]


async def test_read_that_shows_less_than_the_stream_told_before_the_first_read_is_not_believed(
    world: World,
) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    await world.until(1000)
    counter.history.lag_ms = 900
    counter.trade()
    counter.trade()
    for after_ms in range(1000, 4000, 100):
        await world.until(after_ms)
        found = await counter.ask(2)
        assert not isinstance(found, Hit) or ids(found) == [5001, 5002]
    assert isinstance(found, Hit)


async def test_read_from_before_the_stream_was_lost_counts_no_more(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    world.door.held.clear()
    asking = asyncio.create_task(counter.ask())
    await world.settle()
    counter.lose(counter.one)
    counter.trade(is_told=False)
    counter.live()
    world.door.held.set()
    assert not isinstance(await asking, Hit)
    await world.until(1100)
    assert ids(await counter.ask(1)) == [5001]


async def test_age_of_a_slow_read_counts_from_when_it_was_made(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    counter.array()
    world.door.held.clear()
    asking = asyncio.create_task(counter.ask())
    await world.until(2000)
    counter.array()
    world.door.held.set()
    hit = await asking
    assert isinstance(hit, Hit)
    assert hit.age_ms == pytest.approx(2000, abs=3)


async def test_read_of_what_is_kept_no_more_is_dropped(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.live()
    world.door.held.clear()
    asking = asyncio.create_task(counter.ask())
    await world.settle()
    counter.one.is_dropped = True
    world.door.held.set()
    await asking
    assert not counter.one.tail.is_synced


async def test_read_that_takes_too_long_is_not_waited_for(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    world.door.held.clear()
    assert await counter.ask() == Miss("not read yet")
    assert world.now_ms - T0 == 3000
    world.door.held.set()
    await world.settle()
    assert isinstance(await counter.ask(), Hit)


async def test_weight_that_is_refused_is_a_miss_and_not_asked_for_at_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    good = world.door.answers[counter.path]
    world.door.answers[counter.path] = lambda *_: EgressExhausted("no weight", retry_after_s=5.0)
    counter.live()
    for _ in range(5):
        assert await counter.ask() == Miss("not read yet")
    assert len(counter.reads) == 1
    assert "BTCUSDT aggTrade cannot be read: no weight" in caplog.text
    world.door.answers[counter.path] = good
    await world.until(1100)
    assert isinstance(await counter.ask(), Hit)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b'{"a":1}',
        b"[1]",
        b'[{"a":"1"}]',
        b'[{"a":1,"p":1}]',
        Fetched(418, {}, b"{}"),
        Fetched(200, {}, b""),
    ],
)
async def test_answer_of_another_shape_holds_nothing_and_breaks_nothing(world: World, answer: Any) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    good = world.door.answers[counter.path]
    world.door.answers[counter.path] = lambda *_: answer
    counter.live()
    assert await counter.ask() == Miss("not read yet")
    assert counter.kind.unfit == ""
    world.door.answers[counter.path] = good
    await world.until(1100)
    assert isinstance(await counter.ask(), Hit)


async def test_row_of_a_trade_whose_numbers_are_none_breaks_nothing(spot: World) -> None:
    counter = Counter(spot, Trades)
    counter.history.begin_with(2)
    broken = truth(counter.history)
    broken[-1]["price"] = 5
    good = spot.door.answers[counter.path]
    spot.door.answers[counter.path] = lambda *_: broken
    counter.live()
    assert await counter.ask() == Miss("not read yet")
    spot.door.answers[counter.path] = good
    await spot.until(1100)
    assert isinstance(await counter.ask(), Hit)


# -- misses -----------------------------------------------------------------------------------------


async def test_what_is_not_held_is_begun(world: World) -> None:
    counter = Counter(world, AggTrades)
    assert await counter.ask(symbol="ETHUSDT") == Miss("not held yet")
    assert world.desk.begun == [(Market.UM, "ETHUSDT", "aggTrade")]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda counter: setattr(counter.one, "is_live", False), "stream not live"),
        (lambda counter: counter.feed.dead.add(counter.one.stream), "stream not live"),
        (lambda counter: setattr(counter.one, "is_mute", True), "stream mute"),
        (lambda counter: setattr(counter.kind, "unfit", "why"), "other format"),
        (lambda counter: setattr(counter.facts.server, "is_set", False), "starting"),
    ],
)
async def test_miss_says_what_is_the_matter(world: World, break_it: Any, reason: str) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade()
    break_it(counter)
    assert await counter.ask() == Miss(reason)
    assert world.desk.reasons == {reason: 1}
    assert len(counter.reads) == 1


async def test_young_symbol_answers_every_limit_with_all_there_is(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(3)
    counter.live()
    assert len(ids(await counter.ask(1000))) == 3
    counter.trade()
    assert len(ids(await counter.ask(1000))) == 4


async def test_symbol_nobody_has_traded_has_no_price(spot: World) -> None:
    counter = Counter(spot, Trades)
    counter.live()
    assert rows_of(await counter.ask_price("BTCUSDT"))["price"] == "0.00000000", "as REST shows it"
    counter.kind.form.learn(truth_of_a_trade())
    await spot.until(1100)
    assert rows_of(await counter.ask()) == []
    counter.trade(is_told=False)
    counter.trade()
    await spot.until(2500)
    assert ids(await counter.ask()) == [5001, 5002]


def truth_of_a_trade() -> dict[str, Any]:
    return {"id": 1, "price": "1.00000000", "qty": "1.00000000", "quoteQty": "1.00000000", "time": 1,
            "isBuyerMaker": True, "isBestMatch": True}  # fmt: skip


async def test_price_of_all_symbols_and_of_another_form_is_forwarded(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    counter.trade()
    assert await counter.ask_price(is_list=True) == Miss("all symbols")
    assert await counter.ask_price("BTCUSDT", form="MINI") == Miss("odd parameter")
    assert spot.desk.begun == []


async def test_list_of_prices_begins_all_of_its_symbols(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    counter.trade()
    wanted = ("ETHUSDT", "BTCUSDT", "NKNUSDT", "BNBUSDT")
    assert await counter.ask_price(*wanted, is_list=True) == Miss("not held yet")
    begun = [symbol for _, symbol, _ in spot.desk.begun]
    assert sorted(begun) == ["BNBUSDT", "ETHUSDT", "NKNUSDT"]
    assert spot.desk.reasons == {"not held yet": 1}


async def test_list_of_prices_reads_those_that_lack_something(spot: World) -> None:
    counter = Counter(spot, Trades, "BTCUSDT", "ETHUSDT", "NKNUSDT")
    await ready(counter)
    for symbol in counter.histories:
        counter.trade(symbol)
    counter.trade("ETHUSDT", is_told=False)
    counter.trade("ETHUSDT", price="9.00000000")
    for symbol in ("ETHUSDT", "NKNUSDT"):
        counter.lose(counter.all[f"{symbol.lower()}@trade"])
    counter.live()
    before = len(counter.reads)
    found = rows_of(await counter.ask_price("BTCUSDT", "ETHUSDT", "NKNUSDT", is_list=True))
    assert [row["symbol"] for row in found] == ["BTCUSDT", "ETHUSDT", "NKNUSDT"]
    assert found[1]["price"] == "9.00000000"
    assert len(counter.reads) == before, "the rows of trades are not needed, which weigh six times as much"
    assert counter.price_reads == ["/api/v3/ticker/price?symbols=%5B%22ETHUSDT%22%2C%22NKNUSDT%22%5D"]


async def test_one_price_is_read_alone_and_a_whole_market_with_all(spot: World) -> None:
    symbols = [f"S{number}USDT" for number in range(202)]
    counter = Counter(spot, Trades, *symbols)
    counter.live()
    await counter.ask_price("S7USDT")
    await counter.ask_price(*symbols, is_list=True)
    assert counter.price_reads == ["/api/v3/ticker/price?symbol=S7USDT", "/api/v3/ticker/price"]


async def test_hole_in_the_ids_takes_no_price_away(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    counter.trade()
    counter.trade(is_told=False)
    counter.trade(price="9.00000000")
    assert rows_of(await counter.ask_price("BTCUSDT"))["price"] == "9.00000000"
    assert counter.price_reads == []


async def test_price_of_rest_that_differs_from_the_last_event_is_not_told(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    counter.trade(price="1.00000000")
    await spot.until(5000)
    counter.trade(is_told=False, price="2.00000000")
    counter.array()
    await spot.until(9000)
    assert isinstance(await counter.ask_price("BTCUSDT"), Miss)
    assert counter.one.unheard_ms
    await spot.until(16_000)
    counter.array()
    assert await counter.ask_price("BTCUSDT") == Miss("stream mute")
    assert spot.moved == [counter.one]


async def test_list_with_one_that_cannot_be_told_is_a_miss_with_its_reason(spot: World) -> None:
    counter = Counter(spot, Trades, "BTCUSDT", "ETHUSDT")
    await ready(counter)
    counter.trade("BTCUSDT")
    counter.lose(counter.all["ethusdt@trade"])
    assert await counter.ask_price("BTCUSDT", "ETHUSDT", is_list=True) == Miss("stream not live")
    assert isinstance(await counter.ask_price("BTCUSDT", is_list=True), Hit)


# -- holes and losses -------------------------------------------------------------------------------


async def test_lost_event_is_read_before_anything_is_told(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade()
    counter.trade(is_told=False)
    counter.trade()
    assert counter.one.state == "syncing"
    assert rows_of(await counter.ask(10)) == truth(counter.history, 10)
    assert (counter.kind.holes, len(counter.reads)) == (1, 2)


async def test_hole_that_cannot_be_read_is_told_as_one(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade(is_told=False)
    counter.trade()
    world.door.answers[counter.path] = lambda *_: EgressExhausted("no weight", retry_after_s=5.0)
    assert await counter.ask() == Miss("gap")


async def test_natural_hole_costs_a_read_and_is_no_fault(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade(skip=1)
    assert ids(await counter.ask(2)) == [5000, 5002]
    counter.trade()
    assert ids(await counter.ask(3)) == [5000, 5002, 5003]
    assert len(counter.reads) == 2


async def test_hole_while_a_short_read_is_under_way_leaves_no_row_out(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await world.until(12_000)
    world.door.held.clear()
    asking = asyncio.create_task(counter.ask(500))  # quiet: it looks whether anything came
    await world.settle()
    assert counter.reads[-1].endswith("limit=50")
    for _ in range(60):
        counter.trade(is_told=False)
    counter.trade()
    world.door.held.set()
    await asking
    for after_ms in (13_100, 14_200):
        await world.until(after_ms)
        found = await counter.ask(500)
        assert not isinstance(found, Hit) or rows_of(found) == truth(counter.history)
    assert isinstance(found, Hit)


async def test_short_read_that_comes_back_after_a_hole_is_followed_by_a_long_one(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await world.until(12_000)
    good = world.door.answers[counter.path]

    def answer(target: str, params: dict[str, str]) -> Any:
        if params["limit"] == "50":  # trades happen while it is answered
            counter.trade(is_told=False)
            counter.trade()
        return good(target, params)

    world.door.answers[counter.path] = answer
    found = await counter.ask(500)
    assert not isinstance(found, Hit) or rows_of(found) == truth(counter.history)
    await world.until(13_100)
    assert rows_of(await counter.ask(500)) == truth(counter.history)
    assert counter.reads[-1].endswith("limit=1000")


async def test_loss_takes_everything_away_and_the_next_read_brings_it_back(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade()
    counter.lose(counter.one)
    assert counter.kind.proof(counter.one) == (None, "")
    assert (await counter.ask(), counter.one.rows) == (Miss("stream not live"), 0)
    counter.trade(is_told=False)
    counter.live()
    assert rows_of(await counter.ask(10)) == truth(counter.history, 10)
    assert len(counter.reads) == 2


async def test_events_of_before_a_loss_prove_nothing_of_a_read_that_trails_behind(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await counter.watched_until(4900)
    await world.until(5000)
    counter.trade()
    counter.array()
    await world.until(5100)
    counter.lose(counter.one)
    counter.history.lag_ms = 900
    counter.live()
    for after_ms in range(5100, 12_000, 100):
        await counter.watched_until(after_ms)
        hit = await counter.ask(1)
        assert not isinstance(hit, Hit) or ids(hit) == [5001] or hit.age_ms >= after_ms - 5900 - 5
    await counter.watched_until(20_000)
    assert ids(await counter.ask(1)) == [5001]


async def test_price_of_before_a_loss_is_not_told_after_it(spot: World) -> None:
    counter = Counter(spot, Trades)
    await ready(counter)
    counter.trade(price="1.00000000")
    counter.lose(counter.one)
    counter.trade(is_told=False, price="2.00000000")
    counter.live()
    answer = spot.door.answers[PRICES[Market.SPOT]]
    spot.door.answers[PRICES[Market.SPOT]] = lambda *_: EgressExhausted("no weight", retry_after_s=5.0)
    assert await counter.ask_price("BTCUSDT") == Miss("not read yet")
    spot.door.answers[PRICES[Market.SPOT]] = answer
    await spot.until(spot.now_ms - T0 + 1100)
    assert rows_of(await counter.ask_price("BTCUSDT"))["price"] == "2.00000000"


async def test_event_of_another_symbol_is_refused(world: World) -> None:
    counter = Counter(world, AggTrades)
    event = counter.history.trade()
    with pytest.raises(ValueError, match="another symbol"):
        counter.kind.event(counter.one, {**event, "s": "ETHUSDT"})


@pytest.mark.parametrize(
    "wrong",
    [{"a": "1"}, {"a": True}, {"E": None}, {"p": 1.5}, {"q": None}, {"m": "x"}],
)
@pytest.mark.parametrize("is_learned", [True, False])
async def test_event_of_another_shape_is_refused(
    world: World, wrong: dict[str, Any], is_learned: bool
) -> None:
    counter = Counter(world, AggTrades)
    if is_learned:
        await ready(counter)
    elif wrong.keys() & {"q", "m"}:
        return  # what rows are made of is not known yet
    event = counter.history.trade()
    with pytest.raises((TypeError, ValueError, KeyError)):
        counter.tell({**event, **wrong})


async def test_event_from_the_future_is_not_built_upon(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.trade()
    event = counter.trade(is_told=False)
    counter.history.lag_ms = 900
    counter.tell({**event, "E": world.now_ms + 60_000})
    assert counter.one.rows == 0
    assert await counter.ask() == Miss("gap"), "REST does not show yet what the stream has told"
    await world.until(3000)
    assert rows_of(await counter.ask(5)) == truth(counter.history, 5)


async def test_row_that_rest_does_not_show_is_taken_back(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    counter.trade()
    counter.trade()
    del counter.history.trades[-2]
    await world.until(12_000)
    for after_ms in (12_000, 13_100, 14_200):
        await world.until(after_ms)
        found = await counter.ask(5)
    assert ids(found) == [4997, 4998, 4999, 5000, 5002]


# -- forms ------------------------------------------------------------------------------------------


async def test_stream_that_lacks_a_key_forwards_all_from_then_on_with_one_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(world, AggTrades, "BTCUSDT", "ETHUSDT")
    await ready(counter)
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
        event = counter.histories[symbol].trade()
        del event["nq"]
        counter.tell(event)
    for symbol in counter.histories:
        assert await counter.ask(symbol=symbol) == Miss("other format")
    warnings = [one for one in caplog.messages if "forwarded from now on" in one]
    assert warnings == ["um: aggTrades are forwarded from now on: REST has 'nq', which the stream has not"]
    reads = len(counter.reads)
    counter.trade()
    await world.until(30_000)
    assert await counter.ask() == Miss("other format")
    assert len(counter.reads) == reads


async def test_reads_of_two_symbols_that_do_not_fit_are_one_warning(
    spot: World, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(spot, Trades, "BTCUSDT", "ETHUSDT")
    spot.door.answers[counter.path] = lambda *_: [{**truth_of_a_trade(), "more": 1}]
    counter.live()
    found = await asyncio.gather(*(counter.ask(symbol=symbol) for symbol in counter.histories))
    assert found == [Miss("other format")] * 2
    assert len([one for one in caplog.messages if "forwarded from now on" in one]) == 1


async def test_rest_that_writes_a_trade_differently_is_forwarded(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    counter.trade()
    changed = counter.history.trades[-1]
    counter.history.trades[-1] = changed._replace(qty=changed.qty + "0")
    await world.until(12_000)
    for _ in range(3):
        assert isinstance(await counter.ask(), Miss), "it may have been still growing"
        counter.tell(counter.history.event(changed._replace(id=changed.id)))
        counter.one.tail.lose()
        counter.tell(counter.history.event(changed))
        await world.until(world.now_ms - T0 + 1100)
    assert await counter.ask() == Miss("other format")
    assert len([one for one in caplog.messages if "forwarded from now on" in one]) == 1


async def test_rows_of_two_forms_forward_the_market(world: World, caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter(world, AggTrades, "BTCUSDT", "ETHUSDT")
    await ready(counter)
    old = truth(counter.histories["ETHUSDT"], 30)
    for row in old:
        del row["nq"]
    good = world.door.answers[counter.path]
    world.door.answers[counter.path] = lambda *_: old
    counter.lose(counter.all["ethusdt@aggTrade"])
    counter.live()
    assert await counter.ask(symbol="ETHUSDT") == Miss("other format")
    world.door.answers[counter.path] = good
    counter.trade("BTCUSDT")
    assert await counter.ask() == Miss("other format")
    assert len([one for one in caplog.messages if "forwarded from now on" in one]) == 1


# -- quiet ones -------------------------------------------------------------------------------------


async def test_quiet_symbol_stays_a_hit_by_the_witness_without_a_read(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    counter.trade()
    for after_ms in range(2000, 120_000, 2500):
        await counter.watched_until(after_ms)
        hit = await counter.ask(1)
        assert isinstance(hit, Hit), (after_ms, hit)
        assert ids(hit) == [5001]
        assert hit.age_ms <= 10_000 if after_ms < 12_000 else hit.age_ms <= 2100
    assert counter.kind.proof(counter.one)[1] == "witness"
    assert len(counter.reads) <= 2, "one at the start, one because nobody vouched for the first seconds"


async def test_age_of_a_quiet_symbol_is_that_of_its_last_proof(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    counter.trade()
    await world.until(9000)
    hit = await counter.ask(1)
    assert isinstance(hit, Hit)
    assert hit.age_ms == pytest.approx(7500, abs=3)
    assert counter.kind.proof(counter.one)[1] == "event"


async def test_quiet_symbol_without_a_witness_is_looked_at(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    counter.trade()
    await world.until(12_000)
    hit = await counter.ask(500)
    assert isinstance(hit, Hit)
    assert hit.age_ms == 0
    assert counter.reads[-1].endswith("limit=50")
    assert counter.kind.proof(counter.one)[1] == "rest"


async def test_stream_that_never_spoke_is_not_believed_without_a_witness(world: World) -> None:
    counter = Counter(world, AggTrades)
    counter.history.begin_with(20)
    counter.live()
    await world.until(4000)  # as long as a witness may take to begin
    assert isinstance(await counter.ask(), Hit)
    await world.until(4900)
    assert isinstance(await counter.ask(), Hit)
    assert len(counter.reads) == 1
    await world.until(5100)
    assert isinstance(await counter.ask(), Hit)
    assert len(counter.reads) == 2
    world.door.answers[counter.path] = lambda *_: EgressExhausted("no weight", retry_after_s=5.0)
    await world.until(6300)
    assert await counter.ask() == Miss("stream not proven")


async def test_trade_the_stream_does_not_bring_is_read(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await counter.watched_until(3500)
    counter.trade()
    await counter.watched_until(6500)
    counter.trade(is_told=False)  # the witness names it at 7000
    await counter.watched_until(9900)
    hit = await counter.ask(1)
    assert not isinstance(hit, Hit) or hit.age_ms >= 6300
    await counter.watched_until(10_100)
    hit = await counter.ask(1)
    assert (ids(hit), len(counter.reads)) == ([5002], 2)
    await counter.watched_until(10_300)
    assert ids(await counter.ask(1)) == [5002]


async def test_mute_stream_is_moved_when_rest_has_known_more_for_long(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await counter.watched_until(3500)
    counter.trade()
    for after_ms in range(4000, 40_000, 500):
        await counter.watched_until(after_ms)
        if after_ms % 1000 == 0:
            counter.trade(is_told=False)
        hit = await counter.ask(1)
        if isinstance(hit, Hit):
            shown = ids(hit)[0]
            since = [one.at_ms for one in counter.history.trades if one.id > shown]
            assert not since or min(since) >= world.now_ms - hit.age_ms - 20
        if world.moved:
            break
    assert world.moved == [counter.one]
    assert world.desk.reasons["stream quiet"] > 0
    assert world.desk.reasons["stream mute"] == 1
    assert len(counter.reads) < 8


async def test_stream_that_speaks_again_is_not_moved(world: World) -> None:
    counter = Counter(world, AggTrades, quiet_s=10.0)
    await ready(counter)
    await counter.watched_until(3500)
    late = [counter.trade(is_told=False) for _ in range(3)]
    await counter.watched_until(7500)
    assert isinstance(await counter.ask(1), Hit)
    assert counter.one.unheard_ms
    for event in late:
        counter.tell(event)
    assert not counter.one.unheard_ms, "what a read knew already shows that the stream works"
    await counter.watched_until(30_000)
    assert ids(await counter.ask(3)) == [5001, 5002, 5003]
    assert world.moved == []


async def test_mute_stream_that_speaks_is_mute_no_longer(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    event = counter.trade()
    counter.one.is_mute = True
    counter.tell(event)
    assert await counter.ask(1) == Miss("stream mute"), "what it said before is nothing new"
    counter.trade()
    assert ids(await counter.ask(1)) == [5002]


@pytest.mark.parametrize("is_watched", [True, False])
async def test_all_mute_ones_of_a_list_are_moved_at_once(spot: World, is_watched: bool) -> None:
    counter = Counter(spot, Trades, "BTCUSDT", "ETHUSDT", "NKNUSDT")
    await ready(counter)
    for kept in counter.all.values():
        kept.unheard_ms = spot.now_ms
    await spot.until(9000)
    if is_watched:
        counter.array()
    for history in counter.histories.values():
        history.trade(price="5.00000000")
    assert await counter.ask_price(*counter.histories, is_list=True) == Miss("stream mute")
    assert spot.moved == list(counter.all.values())


@pytest.mark.parametrize("is_watched", [True, False])
async def test_mute_stream_is_moved_by_a_call_that_comes_seldom(world: World, is_watched: bool) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.one.unheard_ms = world.now_ms
    await world.until(15_000)
    if is_watched:
        counter.array()
    assert await counter.ask() == Miss("stream mute")
    assert world.moved == [counter.one]


async def test_symbols_of_the_witness_that_are_not_kept_are_nobodys(world: World) -> None:
    counter = Counter(world, AggTrades)
    await ready(counter)
    counter.kind.end(counter.one)
    counter.trade(is_told=False)
    counter.array()
    assert counter.one.named_ms == 0
