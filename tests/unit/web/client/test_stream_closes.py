"""`/local/{market}/closes`: what a client may wish for, and how a message gets to it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import INTERVALS, Market
from resender.core.binance.stream_urls import resolve_stream
from resender.errors import BadRequest, RouteError
from resender.fanout import StreamClient
from resender.web.client.stream_closes import WantedCloses, listen_to_closes, read_wanted_closes
from tests.unit.fanout.fakes import World, make_client, sink

TRADED = ("BTCUSDT", "ETHUSDT", "币安人生USDT")


class Symbols:
    """A market's symbols."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.is_loaded = bool(names)

    def __contains__(self, name: str) -> bool:
        return name in self.names


def read(query: str, market: Market = Market.UM, *traded: str, has_cache: bool = True) -> WantedCloses:
    states = {each: SimpleNamespace(symbols=Symbols(*traded)) for each in INTERVALS}
    services: Any = SimpleNamespace(cache=SimpleNamespace(states=states) if has_cache else None)
    return read_wanted_closes(services, resolve_stream(f"/local/{market}/closes?{query}"))


def refusal(query: str, market: Market = Market.UM) -> str:
    with pytest.raises(BadRequest) as caught:
        read(query, market, *TRADED)
    assert len(caught.value.msg) < 300
    return caught.value.msg


# --- what is wanted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("interval=1m", ("1m", None)),
        ("interval=1m&symbols=all", ("1m", None)),
        ("symbols=all&interval=1d", ("1d", None)),
        ('interval=1h&symbols=["BTCUSDT"]', ("1h", ("BTCUSDT",))),
        ('interval=1h&symbols=["ETHUSDT","BTCUSDT"]', ("1h", ("ETHUSDT", "BTCUSDT"))),
        ("interval=1h&symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D", ("1h", ("BTCUSDT", "ETHUSDT"))),
        ("interval=1%6D", ("1m", None)),
        (
            "interval=1m&symbols=%5B%22%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT%22%5D",
            ("1m", ("币安人生USDT",)),
        ),
    ],
)
def test_interval_and_symbols_are_read(query: str, wanted: WantedCloses) -> None:
    assert read(query, Market.UM, *TRADED) == wanted


def test_symbols_sent_as_they_are_in_utf_8_are_read() -> None:
    raw = 'interval=1m&symbols=["币安人生USDT"]'.encode().decode("latin-1")  # as Tornado reads it
    assert read(raw, Market.UM, *TRADED) == ("1m", ("币安人生USDT",))


@pytest.mark.parametrize(
    "query",
    [
        "", "symbols=all", "interval=", "interval=2m", "interval=1M", "interval=1w", "interval=3d", "interval=1s",
        "interval=1M&symbols=all", "interval=1m%20", "interval=%201m", "interval=1m%00", "interval=60000",
        "interval=all",
    ],
)  # fmt: skip
def test_interval_that_is_none_or_closes_off_the_grid_is_refused(query: str) -> None:
    refusal(query)


def test_seconds_are_spots_alone() -> None:
    assert read("interval=1s", Market.SPOT) == ("1s", None)
    for market in (Market.UM, Market.CM):
        text = refusal("interval=1s", market)
        assert text.startswith("`interval` must be one of 1m, 3m,")
        assert text.endswith("12h, 1d.")


@pytest.mark.parametrize(
    "symbols",
    [
        "BTCUSDT", "ALL", "[]", '[""]', '"BTCUSDT"', '["BTCUSDT"', '["BTCUSDT",]', '["BTCUSDT", "ETHUSDT"]', "[1]",
        "[null]", '{"a":1}', '[["BTCUSDT"]]', '["BTCUSDT","BTCUSDT"]', '["btcusdt"]', '["BTC USDT"]', "null", "%00",
        '["BTCUSDT\\u0000"]', '["' + "A" * 51 + '"]', "[" * 5000, '["../x"]', "%FF",
    ],
)  # fmt: skip
def test_symbols_that_are_no_compact_list_are_refused(symbols: str) -> None:
    refusal(f"interval=1m&symbols={symbols}")


@pytest.mark.parametrize("symbol", ["NKNUSDT", "BTCUSD_PERP", "币"])
def test_symbol_that_is_not_traded_is_refused_by_name(symbol: str) -> None:
    assert symbol in refusal(
        f"interval=1m&symbols=%5B%22BTCUSDT%22%2C%22{symbol}%22%5D".encode().decode("latin-1")
    )


def test_symbols_are_believed_while_the_exchange_has_not_told_its_own() -> None:
    assert read('interval=1m&symbols=["NKNUSDT"]') == ("1m", ("NKNUSDT",))


@pytest.mark.parametrize(("count", "is_taken"), [(500, True), (501, False)])
def test_as_many_symbols_may_be_named_as_elsewhere(count: int, is_taken: bool) -> None:
    names = [f"S{number}USDT" for number in range(count)]
    query = f"interval=1m&symbols={orjson.dumps(names).decode()}"
    if is_taken:
        assert read(query) == ("1m", tuple(names))
    else:
        with pytest.raises(BadRequest):
            read(query)


@pytest.mark.parametrize(
    "query",
    [
        "interval=1m&limit=5", "interval=1m&Symbols=all", "interval=1m&interval=1m", "interval=1m&interval=3m",
        "interval=1m&symbols=all&symbols=all", "interval=1m&", "&interval=1m", "interval=1m&x", "interval=1m&=x",
        "interval=1m&symbols=", "interval=1m+", "interval=1m&symbols=%ff",
    ],
)  # fmt: skip
def test_odd_parameters_are_refused(query: str) -> None:
    refusal(query)


def test_unknown_parameter_is_named_and_cut() -> None:
    assert "'limit'" in refusal("interval=1m&limit=5&z=1")
    assert len(refusal(f"interval=1m&{'x' * 60_000}=1")) < 100


def test_without_a_cache_there_are_no_closes() -> None:
    with pytest.raises(RouteError, match="cache is switched off"):
        read("interval=1m", has_cache=False)


@pytest.mark.parametrize("market", ["options", "pm", "x", "UM", ""])
def test_markets_without_candles_have_no_closes(market: str) -> None:
    with pytest.raises(RouteError):
        resolve_stream(f"/local/{market}/closes?interval=1m")


# --- telling ---------------------------------------------------------------------------------------


class FakeFeeds:
    """In the place of `CloseFeeds`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.left = 0

    def listen(self, *asked: Any) -> Callable[[], None]:
        self.asked.append(asked)
        return self.leave

    def leave(self) -> None:
        self.left += 1

    def tell(self, message: bytes) -> None:
        self.asked[-1][-1](message)


class Telling:
    """One client who listens."""

    def __init__(self, **client: Any) -> None:
        self.world = World()
        self.feeds = FakeFeeds()
        self.client: StreamClient = make_client(Market.UM, **client)
        self.world.fanout.add(self.client, ())
        services: Any = SimpleNamespace(closes=self.feeds, fanout=self.world.fanout)
        self.leave = listen_to_closes(services, Market.UM, ("1m", ("BTCUSDT",)), self.client)


async def test_message_is_sent_as_one_text_frame() -> None:
    telling = Telling()
    assert telling.feeds.asked[0][:-1] == (Market.UM, "1m", ("BTCUSDT",))
    long = b'{"x":"%s"}' % (b"y" * 100_000)
    for message in (b'{"a":1}', long):
        telling.feeds.tell(message)
        assert await telling.world.texts(telling.client) == [message]


async def test_leaving_is_handed_through() -> None:
    telling = Telling()
    assert telling.feeds.left == 0
    telling.leave()
    assert telling.feeds.left == 1


async def test_client_that_has_gone_is_told_nothing_and_nothing_breaks() -> None:
    telling = Telling()
    telling.world.fanout.remove(telling.client)
    telling.feeds.tell(b"{}")
    assert await telling.world.texts(telling.client) == []


async def test_client_that_does_not_read_is_closed_and_loses_no_close_silently() -> None:
    telling = Telling(queue_bytes=100)
    sink(telling.client).is_full = True
    for number in range(10):
        telling.feeds.tell(b'{"close":%d}' % number)
        await telling.world.settle()
    assert telling.client.dropped == 0
    assert [code for code, _ in sink(telling.client).closed] == [1008]
    assert telling.world.fanout.stats.closed_slow == 1


async def test_message_larger_than_what_may_wait_ends_a_client_that_is_behind_only() -> None:
    telling = Telling(queue_bytes=100)
    telling.feeds.tell(b"x" * 1000)
    assert await telling.world.texts(telling.client) == [b"x" * 1000], "who reads gets messages of any length"
    sink(telling.client).is_full = True
    for _ in range(2):
        telling.feeds.tell(b"x" * 1000)
        await telling.world.settle()
    assert sink(telling.client).closed
