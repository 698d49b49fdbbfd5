"""Rows for whoever consents to an age: each as it was at the time that is told, all of them or none."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.requests import Miss, SymbolsRequest
from resender.core.market.streamed_rows import DAY_FIELDS, MARK_FIELDS, MINI_FIELDS
from resender.market.kinds.base import Hit, Wanting
from resender.market.kinds.consented import ConsentedRows, DayTickers, MarkPrices
from resender.market.series import KeptRow
from tests.support.market_fakes import SYMBOLS, T0, World

KINDS: dict[str, type[ConsentedRows]] = {"ticker": DayTickers, "markPrice": MarkPrices}
ALL = SymbolsRequest(Market.UM, (), True)


def value(name: str, symbol: str, at_ms: int) -> Any:
    """Return what the exchange has there at a time; it changes every 100 ms."""
    if name in ("symbol", "pair"):
        return symbol
    if name == "time":
        return at_ms
    if name in ("openTime", "closeTime", "firstId", "lastId", "count", "nextFundingTime"):
        return at_ms // 100
    return f"{at_ms // 100}.00"


class Kept:
    """The kind, some symbols of it subscribed, and the exchange."""

    def __init__(
        self, world: World, *symbols: str, what: str = "ticker", extra: tuple[str, ...] = ()
    ) -> None:
        self.world, self.what = world, what
        self.kind = KINDS[what](world.tools(what))
        self.fields = (DAY_FIELDS if what == "ticker" else MARK_FIELDS)[world.market]
        self.names = (*self.fields, *extra)
        self.all: dict[str, KeptRow] = {}
        self.tradable(*SYMBOLS)
        for symbol in symbols or SYMBOLS:
            self.keep(symbol)

    def tradable(self, *symbols: str) -> None:
        table = self.kind.facts.symbols
        table.tradable, table.is_loaded = dict.fromkeys(symbols), True

    def keep(self, symbol: str) -> None:
        kept = self.kind.make(symbol, self.what, self.world.clock.mono(), is_preload=False)
        self.all[symbol] = self.kind.kept[symbol, self.what] = kept
        self.kind.begin(kept)
        kept.is_live = True
        self.kind.live(kept)

    def drop(self, symbol: str) -> None:
        kept = self.kind.kept.pop((symbol, self.what))
        kept.is_dropped = True
        self.kind.end(kept)

    def row(self, symbol: str, at_ms: int) -> dict[str, Any]:
        return {name: value(name, symbol, at_ms) for name in self.names}

    def send(self, *symbols: str, **values: Any) -> None:
        now = self.world.now_ms
        for symbol in symbols or tuple(self.all):
            event = {key: value(name, symbol, now) for name, key in self.fields.items()}
            self.kind.event(self.all[symbol], event | {"s": symbol, "E": now} | values)

    def ask(self, request: SymbolsRequest = ALL, max_age_ms: int = 2000) -> Hit | Miss:
        found = self.kind.answer(request, packed=False, max_age_ms=max_age_ms)
        if not isinstance(found, Hit | Miss):
            # A few rows are written at once: nobody else gets a turn.
            with pytest.raises(StopIteration) as told:
                found.send(None)  # type: ignore[attr-defined]
            found = told.value.value
        assert isinstance(found, Hit | Miss)
        return found

    def one(self, symbol: str = "BTCUSDT", max_age_ms: int = 2000, form: str = "") -> Hit | Miss:
        return self.ask(SymbolsRequest(self.world.market, (symbol,), False, form), max_age_ms)

    def forward(self, found: Hit | Miss, *symbols: str, made_ms: int | None = None) -> None:
        """Let the exchange answer a miss, about all if no symbols are named."""
        assert isinstance(found, Wanting), found
        rows = [
            self.row(each, made_ms or self.world.now_ms)
            for each in symbols or self.kind.facts.symbols.tradable
        ]
        found.take(orjson.dumps(rows[0] if len(symbols) == 1 else rows))

    def judge(self, found: Hit | Miss, *symbols: str, max_age_ms: int = 2000) -> list[Any]:
        """Assert that a hit is what the exchange showed at now less its age."""
        assert isinstance(found, Hit), found
        assert found.age_ms <= max_age_ms
        rows = orjson.loads(found.body)
        rows = rows if isinstance(rows, list) else [rows]
        assert [row["symbol"] for row in rows] == list(symbols)
        oldest_ms, now_ms = self.world.now_ms - found.age_ms, self.world.now_ms
        moments = (*range(oldest_ms, now_ms, 100), now_ms)
        for row in rows:
            assert oldest_ms <= row.pop("time", now_ms) <= now_ms
            for name, told in row.items():
                shown = [value(name, row["symbol"], at) for at in moments]
                assert told in shown, (name, told, shown)
        return rows


async def test_without_consent_nothing_is_told_and_nothing_begun(world: World) -> None:
    kept = Kept(world)
    kept.send()
    assert kept.one(max_age_ms=0) == Miss("no consent")
    assert kept.ask(max_age_ms=0) == Miss("no consent")
    assert not isinstance(kept.one(max_age_ms=0), Wanting)
    assert world.desk.begun == []


async def test_symbol_nobody_asked_for_before_is_begun_with_all_of_its_list(world: World) -> None:
    kept = Kept(world, "BTCUSDT")
    found = kept.ask(SymbolsRequest(Market.SPOT, ("ETHUSDT", "BTCUSDT", "NKNUSDT"), True))
    assert found.reason == "not held yet"  # type: ignore[union-attr]
    assert [symbol for _, symbol, _ in world.desk.begun] == ["ETHUSDT", "NKNUSDT"]


@pytest.mark.parametrize("what", ["ticker", "markPrice"])
async def test_row_is_told_once_rest_has_shown_its_fields_and_follows_the_stream(
    world: World, what: str
) -> None:
    kept = Kept(world, what=what)
    kept.send()
    missed = kept.one()
    assert missed.reason == "not read yet"  # type: ignore[union-attr]
    kept.forward(missed, "BTCUSDT")
    kept.judge(kept.one(), "BTCUSDT")
    for after_ms in range(1000, 10_000, 1000):
        await world.until(after_ms)
        kept.send()
        await world.until(after_ms + 300)
        found = kept.one()
        kept.judge(found, "BTCUSDT")
        assert isinstance(found, Hit)
        assert found.age_ms == pytest.approx(300, abs=3)
    assert world.door.targets == [], "none of it costs weight"


async def test_never_older_than_consented_to_and_the_answer_of_the_exchange_is_taken(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.one(), "BTCUSDT")
    kept.send()
    await world.until(1500)
    kept.judge(kept.one(max_age_ms=1600), "BTCUSDT")
    missed = kept.one(max_age_ms=1000)
    assert missed.reason == "too old"  # type: ignore[union-attr]
    kept.forward(missed, "BTCUSDT")
    found = kept.one(max_age_ms=1000)
    kept.judge(found, "BTCUSDT")
    assert isinstance(found, Hit)
    assert found.age_ms <= 5


async def test_field_no_stream_carries_ages_from_the_last_answer_on(world: World) -> None:
    kept = Kept(world, what="markPrice", extra=("interestRate",))
    kept.forward(kept.one(), "BTCUSDT")
    for after_ms in (500, 1000, 1500):
        await world.until(after_ms)
        kept.send()
        kept.judge(kept.one(), "BTCUSDT")
    assert kept.one(max_age_ms=1000).reason == "too old"  # type: ignore[union-attr]
    assert kept.kind.proof(kept.all["BTCUSDT"])[1] == "rest"


async def test_age_of_several_is_that_of_the_oldest_and_one_too_old_keeps_all_from_it(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    for after_ms in (500, 1000, 1500):
        await world.until(after_ms)
        kept.send("BTCUSDT", "NKNUSDT")
    found = kept.ask()
    kept.judge(found, *SYMBOLS)
    assert isinstance(found, Hit)
    assert found.age_ms == pytest.approx(1500, abs=3)
    assert kept.ask(max_age_ms=1400).reason == "too old"  # type: ignore[union-attr]
    assert [each.hits for each in kept.all.values()] == [1, 1, 1]
    kept.send("ETHUSDT")
    kept.judge(kept.ask(max_age_ms=100), *SYMBOLS)


async def test_answer_made_before_a_stream_was_lost_ages_on(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.one(), "BTCUSDT")
    kept.send()
    kept.all["BTCUSDT"].is_live = False
    kept.kind.lose(kept.all["BTCUSDT"])
    await world.until(1900)
    kept.judge(kept.one(), "BTCUSDT")
    await world.until(2100)
    assert kept.one().reason == "too old"  # type: ignore[union-attr]


# -- all of them ----------------------------------------------------------------------------------


async def test_all_come_in_the_order_in_which_rest_lists_them(world: World) -> None:
    kept = Kept(world)
    missed = kept.ask()
    assert missed.reason == "all symbols"  # type: ignore[union-attr]
    kept.forward(missed, "NKNUSDT", "BTCUSDT", "ETHUSDT")
    kept.judge(kept.ask(), "NKNUSDT", "BTCUSDT", "ETHUSDT")


async def test_answer_to_an_earlier_call_that_comes_late_changes_no_order(world: World) -> None:
    kept = Kept(world)
    early = kept.ask()
    await world.until(500)
    kept.forward(kept.ask())
    kept.forward(early, "NKNUSDT", "BTCUSDT", "ETHUSDT", made_ms=T0)
    kept.judge(kept.ask(), *SYMBOLS)


async def test_all_are_not_told_unless_each_is_kept(world: World) -> None:
    kept = Kept(world, "BTCUSDT", "ETHUSDT")
    kept.forward(kept.ask())
    assert kept.ask().reason == "all symbols"  # type: ignore[union-attr]
    kept.keep("NKNUSDT")
    kept.forward(kept.ask())
    kept.judge(kept.ask(), *SYMBOLS)
    kept.drop("ETHUSDT")
    assert kept.ask().reason == "all symbols"  # type: ignore[union-attr]


async def test_symbol_that_was_listed_since_is_not_left_out(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    kept.judge(kept.ask(), *SYMBOLS)
    kept.tradable(*SYMBOLS, "FRESHUSDT")
    kept.keep("FRESHUSDT")
    kept.send()
    missed = kept.ask()
    assert missed.reason == "all symbols"  # type: ignore[union-attr]
    kept.forward(missed)
    kept.judge(kept.ask(), *SYMBOLS, "FRESHUSDT")


async def test_symbol_that_was_halted_since_is_not_told_as_if_it_traded(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    kept.judge(kept.ask(), *SYMBOLS)
    kept.tradable("BTCUSDT", "NKNUSDT")
    kept.drop("ETHUSDT")
    assert kept.ask().reason == "all symbols"  # type: ignore[union-attr]


async def test_one_without_a_row_keeps_all_from_it(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    kept.judge(kept.ask(), *SYMBOLS)
    kept.drop("ETHUSDT")
    kept.keep("ETHUSDT")
    assert kept.ask().reason == "not read yet"  # type: ignore[union-attr]


# -- forms ----------------------------------------------------------------------------------------


async def test_short_form_is_told_in_its_fields_and_its_answer_teaches_nothing() -> None:
    world = World(Market.SPOT)
    kept = Kept(world)
    missed = kept.one(form="MINI")
    assert missed == Miss("not read yet")
    assert not isinstance(missed, Wanting), "it has not all the fields"
    kept.forward(kept.one(form="FULL"), "BTCUSDT")
    rows = kept.judge(kept.one(form="MINI"), "BTCUSDT")
    assert tuple(rows[0]) == MINI_FIELDS
    for form in ("", "FULL"):
        assert tuple(kept.judge(kept.one(form=form), "BTCUSDT")[0]) == kept.names
    kept.forward(kept.ask(SymbolsRequest(Market.SPOT, (), True)))
    for form, names in (("MINI", MINI_FIELDS), ("", kept.names), ("MINI", MINI_FIELDS)):
        rows = kept.judge(kept.ask(SymbolsRequest(Market.SPOT, (), True, form)), *SYMBOLS)
        assert {tuple(row) for row in rows} == {tuple(names)}
    await world.end()


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_one_symbol_is_an_object_but_on_coin_m(market: Market) -> None:
    world = World(market)
    kept = Kept(world)
    kept.forward(kept.one(), "BTCUSDT")
    found = kept.one()
    assert isinstance(found, Hit)
    assert (found.body[:1] == b"[") is (market is Market.CM)
    listed = kept.ask(SymbolsRequest(market, ("BTCUSDT",), True))
    assert isinstance(listed, Hit)
    assert listed.body[:1] == b"["
    await world.end()


async def test_stream_that_writes_otherwise_than_rest_is_not_told(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    await world.until(500)
    kept.send("ETHUSDT", c="1.5")
    assert kept.one("ETHUSDT").reason == "other format"  # type: ignore[union-attr]
    assert kept.ask().reason == "other format"  # type: ignore[union-attr]
    kept.judge(kept.one("BTCUSDT"), "BTCUSDT")
    await world.until(600)
    kept.send("ETHUSDT", c=15)
    assert kept.one("ETHUSDT").reason == "other format"  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [{"s": "ETHUSDT"}, {"E": "1"}, {"E": None}, {"E": True}, {"E": 1.5}])
async def test_event_that_cannot_be_used_is_refused(world: World, values: Any) -> None:
    kept = Kept(world)
    with pytest.raises(ValueError, match="another symbol"):
        kept.send("BTCUSDT", **values)


async def test_event_of_a_time_that_cannot_be_makes_no_row_young(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.one(), "BTCUSDT")
    kept.send("BTCUSDT", E=T0 + 3_600_000)
    await world.until(2500)
    assert kept.one().reason == "too old"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"1", b"[1]", b'{"a":1}', b'[{"symbol":1}]', b"[null]", b'{"symbol":["x"]}'],
)
async def test_answer_of_another_shape_is_taken_for_nothing(world: World, body: bytes) -> None:
    kept = Kept(world)
    for missed in (kept.one(), kept.ask()):
        assert isinstance(missed, Wanting)
        missed.take(body)
    assert isinstance(kept.one(), Miss)
    assert isinstance(kept.ask(), Miss)


async def test_before_the_time_is_known_nothing_is_told_or_taken(world: World) -> None:
    kept = Kept(world)
    kept.forward(kept.ask())
    kept.kind.facts.server.is_set = False
    for missed in (kept.one(), kept.ask()):
        assert missed.reason == "starting"  # type: ignore[union-attr]
        kept.forward(missed)
    assert kept.kind.proof(kept.all["BTCUSDT"]) == (None, "")


def test_spot_has_no_mark_prices() -> None:
    assert MarkPrices.words(Market.SPOT) == frozenset()
    assert MarkPrices.paths(Market.SPOT) == {}
    assert DayTickers.words(Market.SPOT) == {"ticker"}


@pytest.mark.parametrize("seed", range(6))
async def test_every_answer_is_true_of_its_time_whatever_comes(world: World, seed: int) -> None:
    dice = random.Random(seed)
    kept = Kept(world, extra=("other",) if seed % 2 else ())
    hits, under_way = 0, list[tuple[Any, int, tuple[str, ...]]]()
    for _ in range(1500):
        await world.until(world.now_ms - T0 + dice.choice((1, 20, 150, 400)))
        kept.send(*dice.sample(SYMBOLS, dice.randrange(1, 4)))
        symbols = tuple(dice.sample(SYMBOLS, dice.choice((0, 1, 2))))
        max_age_ms = dice.choice((100, 500, 3000))
        found = kept.ask(SymbolsRequest(Market.UM, symbols, len(symbols) != 1), max_age_ms)
        if isinstance(found, Hit):
            hits += 1
            kept.judge(found, *(symbols or SYMBOLS), max_age_ms=max_age_ms)
        elif isinstance(found, Wanting):
            under_way.append((found, world.now_ms, symbols))
        if under_way and dice.random() < 0.3:  # answers come in any order
            missed, made_ms, of = under_way.pop(dice.randrange(len(under_way)))
            kept.forward(missed, *of, made_ms=made_ms)
    assert hits > 20
