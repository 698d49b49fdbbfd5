"""Clients and the streams they share: who is subscribed, who is told what, and when somebody is let go."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.fanout.frames import text_frame, wrapped
from resender.fanout import hub
from resender.fanout.client import StreamClient
from resender.fanout.hub import RESTART, TOO_SLOW
from tests.unit.fanout.fakes import NOW_MS, World, frames, make_client, sink

TICKER, TICKER2, TRADE, DEPTH, CANDLE = "a@bookTicker", "b@bookTicker", "a@trade", "a@depth", "a@kline_1m"
KEY = "k" * 64


@pytest.fixture
def world() -> World:
    return World(linger_s=10.0)


def say(world: World, client: StreamClient, method: str, *params: Any, message_id: Any = 1) -> list[str]:
    return world.fanout.hear(
        client, orjson.dumps({"method": method, "params": list(params), "id": message_id})
    )


def ticker(number: int) -> bytes:
    return b'{"u":%d,"s":"A"}' % number


def candle(number: int, *, is_closed: bool = False) -> bytes:
    flag, opens = b"true" if is_closed else b"false", number * 60_000
    return b'{"e":"kline","E":%d,"k":{"t":%d,"T":%d,"x":%s}}' % (
        opens + is_closed,
        opens,
        opens + 59_999,
        flag,
    )


# --- shared subscriptions -------------------------------------------------------------------------


async def test_one_upstream_stream_serves_every_client_that_wants_it(world: World) -> None:
    one, two = world.client(TICKER), world.client(TICKER, TICKER2, combined=True)
    assert world.spot.subscribed == [TICKER, TICKER2]
    world.spot.push(TICKER, ticker(1))
    assert await world.texts(one) == [ticker(1)]
    assert await world.texts(two) == [wrapped(TICKER, ticker(1))]
    assert (world.fanout.size, world.fanout.topic_count) == (2, 2)
    assert world.fanout.stats.frames_out == 2


async def test_feed_is_started_once_and_each_path_has_its_own(world: World) -> None:
    world.client(TICKER, "a@aggTrade", market=Market.UM)
    world.client(TICKER2, "b@trade", market=Market.UM)
    await world.settle()
    public, market = (world.feeds.at(Market.UM, path) for path in ("/public", "/market"))
    assert public.subscribed == [TICKER, TICKER2, "b@trade"]
    assert market.subscribed == ["a@aggTrade", "b@trade"]
    assert (public.starts, market.starts) == (1, 1)


async def test_another_market_and_another_role_share_nothing(world: World) -> None:
    world.client(TICKER)
    world.client(TICKER, market=Market.CM)
    world.client(TICKER, role="microsecond")
    assert [key for key, feed in world.feeds.made.items() if feed.subscribed == [TICKER]] == [
        (Market.SPOT, "", ""), (Market.CM, "", ""), (Market.SPOT, "", "microsecond"),
    ]  # fmt: skip


async def test_event_of_two_paths_is_written_once(world: World) -> None:
    client = world.client(TRADE, market=Market.UM)
    for path in ("/public", "/market"):
        world.feeds.at(Market.UM, path).push(TRADE, b'{"e":"trade","t":7}')
    assert await world.texts(client) == [b'{"e":"trade","t":7}']
    assert world.fanout.stats.duplicates == 1


async def test_events_of_one_turn_leave_in_one_write(world: World) -> None:
    client = world.client(TICKER, TICKER2)
    seconds: list[float] = []
    world.fanout.on_written = seconds.append
    world.spot.push(TICKER, ticker(1))
    world.spot.push(TICKER2, ticker(2))
    world.mono += 0.25
    await world.settle()
    assert sink(client).written == [frames(ticker(1), ticker(2))]
    assert seconds == [0.25]


async def test_many_clients_are_written_in_several_turns(world: World) -> None:
    clients = [world.client(TICKER) for _ in range(150)]
    world.spot.push(TICKER, ticker(1))
    await asyncio.sleep(0)
    assert sum(bool(sink(client).written) for client in clients) == hub._FLUSH_AT_ONCE
    world.spot.push(TICKER, ticker(2))
    await world.settle()
    assert all(sink(client).texts() == [ticker(1), ticker(2)] for client in clients)


async def test_frame_built_otherwise_is_read_and_written_anew(world: World) -> None:
    client = world.client(TICKER)
    source = world.spot.names[TICKER]
    source.on_frame(TICKER, None, b'{"data": {"u": 1, "b":"0.10"}, "stream": "a@bookTicker"}')
    source.on_frame(TICKER, {"u": 2}, b'{"data": {"u": 2}, "stream": "a@bookTicker"}')
    source.on_frame("nobody@trade", None, b"x")
    assert await world.texts(client) == [b'{"u":1,"b":"0.10"}', b'{"u":2}']
    with pytest.raises(ValueError):
        source.on_frame(TICKER, None, b"no json")


# --- linger ---------------------------------------------------------------------------------------


async def test_stream_is_kept_for_a_while_after_its_last_listener(world: World) -> None:
    client = world.client(TICKER, TICKER2)
    world.fanout.remove(client)
    world.wait(9.9)
    assert world.spot.unsubscribed == []
    back = world.client(TICKER)
    assert world.spot.subscribed == [TICKER, TICKER2], "it was still there"
    world.spot.live(TICKER)
    world.wait(0.2)
    assert world.spot.unsubscribed == [TICKER2]
    world.wait(20)
    assert world.spot.unsubscribed == [TICKER2]
    assert world.fanout.topic_count == 1
    assert list(back.names) == [TICKER]


async def test_stream_that_was_given_up_can_be_wanted_again(world: World) -> None:
    world.fanout.remove(world.client(TICKER))
    world.wait(10)
    assert world.fanout.topic_count == 0
    client = world.client(TICKER)
    world.spot.push(TICKER, ticker(1))
    assert await world.texts(client) == [ticker(1)]


async def test_stream_stays_while_one_of_its_listeners_does(world: World) -> None:
    one, two = world.client(TICKER), world.client(TICKER, deflated=True)
    world.fanout.remove(one)
    world.wait(30)
    assert world.spot.unsubscribed == []
    say(world, two, "UNSUBSCRIBE", TICKER)
    world.wait(10)
    assert world.spot.unsubscribed == [TICKER]


# --- messages -------------------------------------------------------------------------------------


async def test_replies_have_the_id_of_their_message(world: World) -> None:
    client = world.client()
    say(world, client, "SUBSCRIBE", TICKER, "nonsense", message_id="x")
    say(world, client, "LIST_SUBSCRIPTIONS", message_id=2)
    say(world, client, "UNSUBSCRIBE", "nonsense", "never there", message_id=3)
    say(world, client, "LIST_SUBSCRIPTIONS", message_id=None)
    say(world, client, "GET_PROPERTY", "combined", message_id=5)
    world.fanout.hear(client, b"{")
    assert (await world.texts(client))[:5] == [
        b'{"result":null,"id":"x"}',
        b'{"result":["a@bookTicker","nonsense"],"id":2}',
        b'{"result":null,"id":3}',
        b'{"result":["a@bookTicker"],"id":null}',
        b'{"result":false,"id":5}',
    ]


async def test_name_that_is_no_stream_goes_nowhere(world: World) -> None:
    client = world.client("0", "7", "nonsense", "BTCUSDT@trade")
    assert list(client.names) == ["nonsense", "BTCUSDT@trade"], "numbers are ccxt's, and no names"
    assert world.feeds.made == {}
    assert world.fanout.topic_count == 0
    world.fanout.remove(client)


async def test_new_names_of_a_message_are_told_to_the_caller(world: World) -> None:
    client = world.client(TICKER)
    assert say(world, client, "SUBSCRIBE", TICKER, TICKER2, KEY, KEY) == [TICKER2, KEY]
    assert say(world, client, "SUBSCRIBE", KEY) == []
    assert say(world, client, "UNSUBSCRIBE", KEY) == []
    assert world.fanout.hear(client, b"{") == []


async def test_form_changes_for_all_streams_of_a_connection_behind_what_came_before(world: World) -> None:
    client = world.client(TICKER, TICKER2)
    world.spot.push(TICKER, ticker(1))
    say(world, client, "SET_PROPERTY", "combined", True, message_id=9)
    world.spot.push(TICKER, ticker(2))
    world.spot.push(TICKER2, ticker(3))
    assert await world.texts(client) == [
        ticker(1), b'{"result":null,"id":9}', wrapped(TICKER, ticker(2)), wrapped(TICKER2, ticker(3)),
    ]  # fmt: skip
    say(world, client, "SET_PROPERTY", "combined", False)
    say(world, client, "UNSUBSCRIBE", TICKER)
    world.spot.push(TICKER, ticker(4))
    world.spot.push(TICKER2, ticker(5))
    assert (await world.texts(client))[2:] == [ticker(5)]


async def test_client_with_a_name_twice_gets_each_event_once(world: World) -> None:
    client = world.client(TICKER, TICKER)
    say(world, client, "SUBSCRIBE", TICKER, TICKER)
    world.spot.push(TICKER, ticker(1))
    assert await world.texts(client) == [b'{"result":null,"id":1}', ticker(1)]
    say(world, client, "UNSUBSCRIBE", TICKER, TICKER)
    world.spot.push(TICKER, ticker(2))
    assert await world.texts(client) == [b'{"result":null,"id":1}']


# --- limits ---------------------------------------------------------------------------------------


async def test_too_many_streams_end_the_connection_as_binance_does(world: World) -> None:
    client = world.client(TICKER, max_streams=2)
    say(world, client, "SUBSCRIBE", TICKER, TICKER2)
    assert await world.texts(client) == [b'{"result":null,"id":1}']
    say(world, client, "SUBSCRIBE", "nonsense")
    assert sink(client).texts() == [b'{"error":{"code":4,"msg":"Too many subscriptions"}}']
    assert sink(client).closed == [(1008, "Too many subscriptions")]
    assert world.fanout.clients == {}
    await world.settle()


async def test_too_many_streams_in_the_url_take_none(world: World) -> None:
    client = world.client(TICKER, TICKER2, max_streams=1)
    assert client.is_closed
    assert sink(client).closed == [(1008, "Too many subscriptions")]
    assert world.spot.subscribed == []


async def test_all_clients_together_hold_so_many_upstream_streams(world: World) -> None:
    small = World(max_streams=2)
    small.client(TICKER, TICKER2)
    more = small.client(TRADE)
    assert sink(more).closed
    shared = small.client(TICKER, TICKER2, "no stream", "neither")
    assert not shared.is_closed
    await small.settle()


async def test_guests_count_as_clients(world: World) -> None:
    small = World(max_clients=2)
    small.client()
    assert small.fanout.has_room
    closed: list[tuple[int, str]] = []
    guest: Any = SimpleNamespace(close=lambda code, reason: closed.append((code, reason)))
    small.fanout.guests[small.fanout.next_number()] = guest
    assert not small.fanout.has_room
    await small.fanout.stop()
    assert closed == [(RESTART, "the gateway stops")]


# --- losses and gaps ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_closed"),
    [(TRADE, True), (DEPTH, True), (TICKER, False), (CANDLE, False), ("!ticker@arr", False)],
)  # fmt: skip
async def test_loss_ends_those_who_need_every_event_and_nobody_else(
    world: World, name: str, is_closed: bool
) -> None:
    client, other = world.client(name), world.client(TICKER2)
    world.spot.live(name)
    world.spot.lose(name, "unknown@trade")
    assert sink(client).closed == ([(RESTART, "upstream lost")] if is_closed else [])
    assert not other.is_closed
    assert world.fanout.stats.closed_lost == is_closed


async def test_client_of_several_lost_streams_is_ended_once(world: World) -> None:
    client = world.client(TRADE, DEPTH, TICKER)
    world.spot.lose(TRADE, DEPTH, TICKER)
    assert len(sink(client).closed) == 1
    assert world.fanout.stats.closed_lost == 1
    assert world.fanout.clients == {}


async def test_what_came_before_the_loss_is_written_before_the_end(world: World) -> None:
    client = world.client(TRADE)
    world.spot.push(TRADE, b'{"t":1}')
    world.spot.lose(TRADE)
    assert sink(client).texts() == [b'{"t":1}']
    await world.settle()


async def test_state_that_stays_away_ends_its_clients_after_half_a_minute(world: World) -> None:
    client = world.client(TICKER)
    world.spot.live(TICKER)
    world.wait(31)
    assert not client.is_closed
    world.spot.lose(TICKER)
    client.last_sign = world.mono
    world.wait(29)
    assert not client.is_closed
    world.wait(2)
    assert sink(client).closed == [(RESTART, "upstream not reachable")]


async def test_state_that_comes_back_soon_goes_on(world: World) -> None:
    client = world.client(TICKER)
    world.spot.live(TICKER)
    world.spot.push(TICKER, ticker(9))
    world.spot.lose(TICKER)
    world.wait(20)
    world.spot.live(TICKER)
    world.spot.push(TICKER, ticker(5))
    client.last_sign = world.mono
    world.wait(20)
    assert await world.texts(client) == [ticker(9), ticker(5)], "ids may start over behind a loss"
    assert not client.is_closed


async def test_stream_that_never_becomes_live_ends_who_waits_for_it(world: World) -> None:
    client = world.client(TICKER)
    world.wait(31)
    assert sink(client).closed == [(RESTART, "upstream not reachable")]


async def test_hole_in_a_book_ends_its_clients_before_they_see_what_is_behind_it(world: World) -> None:
    one, two, other = world.client(DEPTH), world.client(DEPTH, deflated=True), world.client(TICKER)
    world.spot.push(DEPTH, b'{"U":1,"u":2}')
    world.spot.push(DEPTH, b'{"U":4,"u":5}')
    for client in (one, two):
        assert sink(client).texts() == [b'{"U":1,"u":2}']
        assert sink(client).closed == [(RESTART, f"upstream lost events of {DEPTH}")]
    assert not other.is_closed
    assert (world.fanout.stats.gaps, world.fanout.stats.closed_lost) == (1, 2)
    late = world.client(DEPTH)
    world.spot.push(DEPTH, b'{"U":6,"u":7}')
    assert await world.texts(late) == [b'{"U":6,"u":7}']


async def test_candle_that_closed_unseen_ends_its_clients(world: World) -> None:
    client = world.client(CANDLE)
    world.spot.push(CANDLE, candle(1))
    world.spot.lose(CANDLE)
    assert not client.is_closed
    world.spot.push(CANDLE, candle(2))
    assert sink(client).closed == [(RESTART, f"upstream lost events of {CANDLE}")]


# --- slow clients ---------------------------------------------------------------------------------


async def test_slow_client_gets_the_newest_state_of_each_stream(world: World) -> None:
    slow, quick = world.client(TICKER, TICKER2, queue_bytes=100), world.client(TICKER)
    sink(slow).is_full = True
    for number in range(1, 30):
        for name in (TICKER, TICKER2):
            world.spot.push(name, ticker(number))
        await world.settle()
    assert len(sink(quick).texts()) == 29
    assert sink(slow).texts() == [ticker(1)] * 2
    sink(slow).is_full = False
    slow.drained()
    assert sink(slow).texts()[-2:] == [ticker(29)] * 2
    assert slow.dropped > 0
    assert not slow.is_closed
    world.fanout.remove(slow)
    assert world.fanout.stats.dropped == slow.dropped


async def test_client_too_slow_for_a_sequence_is_ended_and_nobody_else(world: World) -> None:
    slow, quick = world.client(TRADE, queue_bytes=50), world.client(TRADE)
    sink(slow).is_full = True
    for number in range(20):
        world.spot.push(TRADE, b'{"t":%d}' % number)
        await world.settle()
    assert len(sink(quick).texts()) == 20
    assert sink(slow).texts() == [b'{"t":0}'], "what is behind a hole is not sent"
    assert [code for code, _ in sink(slow).closed] == [TOO_SLOW]
    assert world.fanout.stats.closed_slow == 1


async def test_replies_too_are_limited_for_who_does_not_read(world: World) -> None:
    client = world.client(TICKER, queue_bytes=500)
    sink(client).is_full = True
    world.spot.push(TICKER, ticker(1))
    await world.settle()
    for number in range(100):
        if not client.is_closed:
            say(world, client, "LIST_SUBSCRIPTIONS", message_id=number)
    assert [code for code, _ in sink(client).closed] == [TOO_SLOW]


async def test_closed_candle_is_never_left_out_for_a_newer_one(world: World) -> None:
    client = world.client(CANDLE, queue_bytes=200)
    sink(client).is_full = True
    world.spot.push(CANDLE, candle(1))
    await world.settle()
    world.spot.push(CANDLE, candle(1, is_closed=True))
    for number in range(2, 20):
        world.spot.push(CANDLE, candle(number))
    sink(client).is_full = False
    client.drained()
    found = await world.texts(client)
    assert found[0] == candle(1)
    assert candle(1, is_closed=True) in found
    assert found[-1] == candle(19)


# --- the newest event -----------------------------------------------------------------------------


async def test_who_comes_late_is_shown_the_newest_event_behind_the_reply(world: World) -> None:
    world.client(TICKER, TRADE)
    for name, payload in ((TICKER, ticker(1)), (TICKER, ticker(2)), (TRADE, b'{"t":1}')):
        world.spot.push(name, payload)
    assert await world.texts(world.client(TICKER, TICKER, TRADE)) == [ticker(2)]
    world.spot.live(TICKER, TRADE)
    late = world.client(combined=True)
    say(world, late, "SUBSCRIBE", TICKER, TRADE, TICKER2)
    assert await world.texts(late) == [b'{"result":null,"id":1}', wrapped(TICKER, ticker(2))]


async def test_reply_waits_until_no_event_can_be_missed_any_more(world: World) -> None:
    client = world.client()
    say(world, client, "SUBSCRIBE", TRADE, DEPTH, TICKER)
    assert await world.texts(client) == []
    world.spot.live(TRADE, TICKER)
    assert await world.texts(client) == []
    world.spot.live(DEPTH)
    assert await world.texts(client) == [b'{"result":null,"id":1}']
    say(world, client, "SUBSCRIBE", TICKER2)  # a state misses nothing
    assert await world.texts(client) == [b'{"result":null,"id":1}']
    away = world.client()
    say(world, away, "SUBSCRIBE", "c@trade")
    say(world, away, "UNSUBSCRIBE", "c@trade")
    assert await world.texts(away) == [b'{"result":null,"id":1}'] * 2, "it waits for nothing any more"
    gone = world.client()
    say(world, gone, "SUBSCRIBE", "b@trade")
    world.fanout.remove(gone)
    world.spot.live("b@trade")
    assert await world.texts(gone) == []


async def test_client_that_cannot_be_ended_keeps_no_other_from_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [world.client(TRADE) for _ in range(3 * hub._END_AT_ONCE)]

    def fail(code: int, reason: str) -> None:
        raise RuntimeError("sink")

    monkeypatch.setattr(sink(clients[1]), "close", fail)
    world.spot.live(TRADE)
    world.spot.lose(TRADE)
    await world.settle()
    ended = [client for client in clients if sink(client).closed]
    assert len(ended) == len(clients) - 1
    late = world.client(TRADE)
    world.spot.lose(TRADE)
    await world.settle()
    assert sink(late).closed


async def test_streams_that_only_linger_make_room(world: World) -> None:
    most = world.fanout.options.max_streams
    client = world.client(*(f"a{n}@trade" for n in range(min(most, 1000))))
    world.fanout.unsubscribe(client, list(client.names))
    assert world.fanout.topic_count
    other = world.client(*(f"b{n}@trade" for n in range(min(most, 1000))))
    assert not other.is_closed


async def test_who_has_a_stream_already_is_not_shown_its_newest_event_again(world: World) -> None:
    client = world.client(CANDLE)
    world.spot.push(CANDLE, candle(1, is_closed=True))
    assert len(await world.texts(client)) == 1
    say(world, client, "SUBSCRIBE", CANDLE)
    assert await world.texts(client) == [b'{"result":null,"id":1}'], "a candle closes once"


async def test_newest_event_is_forgotten_with_a_loss_and_can_be_switched_off(world: World) -> None:
    world.client(TICKER)
    world.spot.push(TICKER, ticker(1))
    world.spot.lose(TICKER)
    assert await world.texts(world.client(TICKER)) == []
    quiet = World(sends_last=False)
    quiet.client(TICKER)
    quiet.spot.push(TICKER, ticker(1))
    assert await quiet.texts(quiet.client(TICKER)) == []


# --- signs of life --------------------------------------------------------------------------------


async def test_every_client_is_pinged_and_who_shows_no_sign_of_life_is_ended(world: World) -> None:
    living, dead = world.client(), world.client()
    world.wait(19)
    await world.settle()
    assert sink(living).written == []
    for _ in range(2):
        world.wait(20)
        living.last_sign = world.mono
    await world.settle()
    ping = b"\x89\x0d%d" % NOW_MS
    assert sink(living).data == sink(dead).data == ping * 2
    world.wait(22)
    assert sink(dead).closed == [(TOO_SLOW, "no sign of life for a minute")]
    assert not living.is_closed
    await world.settle()


async def test_clients_are_looked_after_again_and_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.fanout.start()
    sleeps: list[float] = []
    swept = asyncio.Event()

    def sweep(now: float) -> None:
        sleeps.append(now)
        if len(sleeps) == 2:
            swept.set()
        raise RuntimeError("a bug")

    world.fanout._sweep = sweep  # type: ignore[method-assign]
    await asyncio.wait_for(swept.wait(), 5)
    await world.tasks.cancel()
    assert caplog.text.count("looking after the clients of streams failed") == 2


# --- the end --------------------------------------------------------------------------------------


async def test_stop_tells_everybody_to_come_back(world: World) -> None:
    clients = [world.client(TICKER), world.client()]
    world.spot.push(TICKER, ticker(1))
    await world.fanout.stop()
    assert all(sink(client).closed == [(RESTART, "the gateway stops")] for client in clients)
    assert sink(clients[0]).texts() == [ticker(1)]
    await world.fanout.stop()
    assert world.fanout.size == 0
    await world.settle()


async def test_nothing_is_sent_to_a_client_that_is_gone(world: World) -> None:
    client = world.client(TICKER)
    world.spot.push(TICKER, ticker(1))
    world.fanout.remove(client)
    world.fanout.close(client, RESTART, "too late")
    world.fanout.push(client, text_frame(b"x"))
    world.spot.push(TICKER, ticker(2))
    await world.settle()
    assert (sink(client).written, sink(client).closed) == ([], [])


async def test_client_whose_end_fails_in_the_middle_of_a_round_hurts_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = world.client(TICKER), world.client(TICKER)
    sink(bad).error = RuntimeError("a bug")
    world.spot.push(TICKER, ticker(1))
    assert await world.texts(good) == [ticker(1)]
    assert sink(bad).closed == [(RESTART, "internal error")]
    assert "a bug" in caplog.text


async def test_clients_that_end_while_an_event_is_published_disturb_no_other(world: World) -> None:
    """A sink may end several clients at once, as one of them is too slow."""
    slow = [world.client(TRADE, queue_bytes=10) for _ in range(3)]
    quick = world.client(TRADE)
    for client in slow:
        sink(client).is_full = True
    world.spot.push(TRADE, b'{"t":1}')
    await world.settle()
    for number in (2, 3, 4):
        world.spot.push(TRADE, b'{"t":%d}' % number)
    assert all(client.is_closed for client in slow)
    assert len(await world.texts(quick)) == 4
    assert list(world.fanout.clients) == [quick.number]


async def test_numbers_of_clients_are_never_given_twice(world: World) -> None:
    one = world.client()
    world.fanout.remove(one)
    two = make_client()
    world.fanout.add(two, ())
    assert (one.number, two.number) == (1, 2)
    assert two.since_ms == NOW_MS
