"""One stream's events as frames: each form once, to whom they go, and what may take whose place."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import Market
from resender.core.binance.stream_kinds import stream_kind
from resender.core.fanout.frames import deflated_frame, text_frame, wrapped
from resender.core.fanout.order import Verdict
from resender.fanout.client import StreamClient
from resender.fanout.topics import Topic
from tests.unit.fanout.fakes import make_client

EVENT = b'{"u":1,"x":false,"long enough":"%s"}' % (b"a" * 100)
CLOSED = b'{"e":"kline","E":1,"k":{"t":0,"T":59999,"x":true}}'


def make_topic(name: str = "a@bookTicker", market: Market = Market.SPOT) -> Topic:
    kind = stream_kind(market, name)
    assert kind is not None
    return Topic(name, kind, 100.0)


def listening(topic: Topic, *, blocked: bool = False, **options: bool) -> StreamClient:
    client = make_client(queue_bytes=500, **options)  # type: ignore[arg-type]
    client.is_blocked = blocked
    topic.listeners[client.variant][client] = None
    return client


def test_each_client_gets_the_form_it_wants_and_clients_of_one_form_the_same_bytes() -> None:
    topic = make_topic()
    raw, raw2 = listening(topic), listening(topic)
    combined = listening(topic, combined=True)
    deflated = listening(topic, deflated=True)
    both = listening(topic, combined=True, deflated=True)
    woken: list[StreamClient] = []
    assert topic.publish(EVENT, woken, []) == 5
    message = wrapped("a@bookTicker", EVENT)
    assert raw.pending == [text_frame(EVENT)]
    assert combined.pending == [text_frame(message)]
    assert deflated.pending == [deflated_frame(EVENT)]
    assert both.pending == [deflated_frame(message)]
    assert raw.pending[0] is raw2.pending[0]
    assert set(woken) == set(topic.clients) == {raw, raw2, combined, deflated, both}
    assert topic.frames == 1


def test_client_with_something_to_write_already_is_not_woken_again() -> None:
    topic = make_topic()
    client = listening(topic)
    woken: list[StreamClient] = []
    topic.publish(EVENT, woken, [])
    topic.publish(EVENT, woken, [])
    assert woken == [client]
    assert len(client.pending) == 2


def test_event_without_listeners_is_kept_for_who_comes() -> None:
    topic = make_topic()
    assert topic.publish(EVENT, [], []) == 0
    assert topic.last == EVENT


@pytest.mark.parametrize(
    ("name", "payload", "is_last", "is_replaced"),
    [
        ("a@bookTicker", EVENT, True, True),
        ("a@depth5", EVENT, True, True),
        ("a@kline_1m", EVENT, True, True),
        ("a@kline_1m", CLOSED, False, False),
        ("a@trade", EVENT, False, False),
        ("a@depth", EVENT, False, False),
        ("!ticker@arr", EVENT, False, False),
    ],
)
def test_what_is_kept_as_the_newest_and_what_takes_the_place_of_older_ones(
    name: str, payload: bytes, is_last: bool, is_replaced: bool
) -> None:
    topic = make_topic(name)
    client = listening(topic, blocked=True)
    overfull: list[StreamClient] = []
    for _ in range(20):
        topic.publish(payload, [], overfull)
    assert bool(topic.last) == is_last
    assert (client.dropped > 0) == is_replaced
    assert (client in overfull) == (not is_replaced)
    assert client.pending == []


def test_loss_forgets_the_newest_event_and_starts_the_order_over() -> None:
    topic = make_topic()
    assert topic.lost_since == 100.0, "it is not live before it says so"
    topic.publish(EVENT, [], [])
    assert topic.sequence.judge(b'{"u":7}') is Verdict.NEW
    topic.lost(130.0)
    assert (topic.last, topic.lost_since) == (b"", 130.0)
    assert topic.sequence.judge(b'{"u":3}') is Verdict.NEW
