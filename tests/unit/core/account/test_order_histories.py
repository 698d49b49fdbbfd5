"""Orders of an account against an exchange with every fault of streams and REST: no answer is ever untrue.

`ACCOUNT_HISTORIES=5000` tries so many histories of each kind; the default is quick.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.account.dialects import CM, SPOT, UM, read_event
from resender.core.account.lore import Lore
from resender.core.account.orders import Applied, Orders, read_rows
from resender.core.account.proof import Proof
from tests.support.order_exchange import STYLES, SYMBOLS, Key, OrderExchange

HISTORIES = int(os.environ.get("ACCOUNT_HISTORIES", "20"))
STEPS = 160
DIALECTS = {"spot": SPOT, "um": UM, "cm": CM}
ROOTS = {"spot": "/api/v3/", "um": "/fapi/v1/", "cm": "/dapi/v1/"}
# REST shows nothing that is over for longer; a snapshot asked for 5 s after the stream began nothing of before.
LAG_MS, SETTLED_MS = 60_000, 5000


class Line:
    """A connection: all that happens from its beginning on, in order, each later or sooner."""

    def __init__(self, exchange: OrderExchange) -> None:
        self.next = self.since = exchange.index
        self.way: deque[tuple[int, int]] = deque()
        self.due_ms = 0

    def fetch(self, exchange: OrderExchange) -> None:
        while self.next < exchange.index:
            delay_ms = exchange.random.choice([0, 0, 5, 5, 80, 400, 3000])
            self.due_ms = max(self.due_ms, exchange.changes[self.next][0] + delay_ms)
            self.way.append((self.due_ms, self.next))
            self.next += 1


class Machine:
    """An account that is watched as `resender.account` does it."""

    def __init__(self, exchange: OrderExchange, lore: Lore, *, is_torn: bool) -> None:
        self.exchange, self.random = exchange, exchange.random
        # Whether REST shows some orders later than others, or all as of one moment.
        self.is_torn = is_torn
        self.dialect = lore.dialect
        self.root = ROOTS[exchange.market]
        self.path = self.root + "openOrders"
        self.orders = Orders(self.dialect, lore, keep_ms=600_000)
        self.proof = Proof(10_000.0)
        self.lines: list[Line] = []
        # What the newer of two connections has told: it counts when the older one is over.
        self.held: deque[int] = deque()
        self.rotating = 0
        # The stream's first index, when it began, and how many changes have been told.
        self.begun, self.begun_ms, self.told = 0, 0, 0
        self.reads: list[tuple[float, int, int, str | None, bytes]] = []
        self.counts: Counter[str] = Counter()
        self.truths: dict[tuple[int, str | None], tuple[bytes, ...]] = {}

    @property
    def mono(self) -> float:
        return self.exchange.now_ms / 1000

    # --- what happens ----------------------------------------------------------------------

    def step(self) -> None:
        random, exchange = self.random, self.exchange
        fate = random.random()
        if fate < 0.5:
            exchange.step()
        elif fate < 0.58:
            exchange.now_ms += random.choice([500, 4000, 7000, 70_000])
        elif not self.lines:
            self.open()
        elif fate < 0.60:
            self.lose()
        elif fate < 0.63 and len(self.lines) == 1:
            exchange.now_ms += 1
            self.lines.append(Line(exchange))
            self.rotating = random.randrange(1, 12)
            self.counts["rotations"] += 1
        self.rotate()
        self.hear()
        if random.random() < 0.25:
            self.ask()
        self.take()
        if random.random() < 0.1:
            self.take_one()
        self.orders.forget(exchange.now_ms)
        self.judge()

    def open(self) -> None:
        self.exchange.now_ms += 1
        self.lines = [Line(self.exchange)]
        self.begun = self.told = self.exchange.index
        self.begun_ms = self.exchange.now_ms
        self.proof.opened(self.mono)

    def lose(self) -> None:
        """What is on its way is lost, and what happens until the next stream."""
        self.lines, self.rotating = [], 0
        self.held.clear()
        self.proof.closed("lost")
        self.orders.unsettle()
        self.counts["losses"] += 1

    def rotate(self) -> None:
        """For some time two connections bring everything; what the older one has not brought by its end is lost."""
        if self.rotating:
            self.rotating -= 1
            if not self.rotating and len(self.lines) > 1:
                old, new = self.lines
                old.fetch(self.exchange)
                # It lasts until it has brought what came before the new one's beginning.
                while old.way and old.way[0][1] < new.since:
                    self.apply(old.way.popleft()[1])
                self.lines = [new]
                while self.held:
                    self.apply(self.held.popleft())

    def hear(self) -> None:
        for line in self.random.sample(self.lines, len(self.lines)):
            line.fetch(self.exchange)
            while line.way and line.way[0][0] <= self.exchange.now_ms:
                index = line.way.popleft()[1]
                if line is not self.lines[0]:
                    self.held.append(index)  # it would come out of turn
                    continue
                self.apply(index)
                if self.random.random() < 0.2:
                    self.judge()

    def apply(self, index: int) -> None:
        _, _, said = self.exchange.changes[index]
        applied = self.orders.apply(read_event(self.dialect, said))
        self.counts[applied.value] += 1
        assert index <= self.told, "out of turn"
        self.told = max(self.told, index + 1)
        if applied is Applied.MISFIT:
            self.counts[self.orders.why] += 1
            self.unsure(self.orders.why)

    def unsure(self, why: str) -> None:
        self.proof.restart(why, self.mono)
        self.orders.unsettle()

    def ask(self) -> None:
        """A snapshot is asked for; REST may be behind, and its answer comes later."""
        random, exchange = self.random, self.exchange
        symbol = random.choice([None, None, *SYMBOLS[exchange.market]])
        # From which index on is everything shown; what the stream began after is, when it is old enough.
        is_settled = exchange.now_ms >= max(self.begun_ms, 1000 * self.proof.since_mono) + SETTLED_MS
        least = exchange.index_at(exchange.now_ms - LAG_MS)
        if is_settled:
            begun_ms = round(1000 * self.proof.since_mono)
            least = max(least, exchange.index_at(begun_ms) if self.lines else exchange.index)
        lag = exchange.index_at(exchange.now_ms - random.choice([0, 0, 0, 100, 3000, LAG_MS]))
        at = max(least, lag)
        indexes: dict[Key, int] = dict.fromkeys(exchange.lives, at)
        if self.is_torn:
            indexes = {key: random.choice([exchange.index, max(least, random.randint(at, exchange.index))])
                       for key in exchange.lives}  # fmt: skip
        body = orjson.dumps(exchange.rows(indexes, symbol))
        due_ms = exchange.now_ms + random.choice([0, 0, 10, 2000])
        asked_ms = exchange.now_ms + random.randrange(-20, 20)
        self.reads.append((self.mono, asked_ms, due_ms, symbol, body))

    def take(self) -> None:
        left = []
        for asked, asked_ms, due_ms, symbol, body in self.reads:
            if due_ms > self.exchange.now_ms:
                left.append((asked, asked_ms, due_ms, symbol, body))
            elif self.proof.is_open and asked >= self.proof.since_mono:
                merged = self.orders.merge(self.path, read_rows(body), symbol, asked_ms)
                self.counts["snapshots"] += 1
                assert merged.wrong <= self.allowed_wrong(), merged.wrong
                if merged.differences:
                    self.counts[merged.differences[0]] += 1
                    self.unsure("differs")
                else:
                    self.proof.snapshot(symbol, asked)
                self.judge()
        self.reads = left

    def allowed_wrong(self) -> set[str]:
        return set()

    def take_one(self) -> None:
        """A client reads one order."""
        if self.exchange.lives and self.proof.is_open:
            life = self.random.choice(list(self.exchange.lives.values()))
            self.orders.see(self.root + "order", life.last, self.exchange.now_ms)

    # --- what must be true -----------------------------------------------------------------

    def judge(self) -> None:
        for symbol in (None, *SYMBOLS[self.exchange.market]):
            self.counts["asked"] += 1
            if self.proof.lack(symbol, self.mono) is not None:
                continue
            self.counts["proven"] += 1
            if self.orders.is_doubted(symbol):
                self.counts["doubted"] += 1
                continue
            body = self.orders.listed(self.path, symbol)
            if body is not None:
                self.counts["answered"] += 1
                self.judge_list(body, symbol)
        if self.proof.lack(None, self.mono) is None and self.exchange.lives:
            self.judge_one()

    def judge_list(self, body: bytes, symbol: str | None) -> None:
        rows = orjson.loads(body)
        times = [row["time"] for row in rows]
        assert times == sorted(times)
        told = tuple(sorted(orjson.dumps(row) for row in rows))
        if not self.is_torn:
            moments = range(self.told, self.exchange.index + 1)
            assert any(told == self.truth(index, symbol) for index in moments), self.words(body, symbol)
            return
        # Each order as it was at some moment of its own.
        shown = {(row["symbol"], row["orderId"]): orjson.dumps(row) for row in rows}
        for life in self.exchange.lives.values():
            if symbol in (None, life.symbol):
                moments = range(self.told, self.exchange.index + 1)
                allowed = {
                    None if (row := life.shown(index)) is None else orjson.dumps(row) for index in moments
                }
                assert shown.pop(life.key, None) in allowed, self.words(body, symbol)
        assert not shown

    def truth(self, index: int, symbol: str | None) -> tuple[bytes, ...]:
        place = (index, symbol)
        if place not in self.truths:
            rows = self.exchange.rows(dict.fromkeys(self.exchange.lives, index), symbol)
            self.truths[place] = tuple(sorted(orjson.dumps(row) for row in rows))
        return self.truths[place]

    def judge_one(self) -> None:
        life = self.random.choice(list(self.exchange.lives.values()))
        held = self.orders.find(life.symbol, life.number, None)
        if held is None or self.orders.is_doubted(life.symbol):
            return
        row = held.row(self.root + "order", self.orders.lore)
        if row is not None:
            self.counts["one open" if held.is_open else "one ended"] += 1
            # As it was when the last change was told, or at any time since.
            allowed = [
                orjson.dumps(told)
                for (_, told), following in zip(life.alone, [*life.alone[1:], (1 << 60, {})], strict=True)
                if following[0] > self.told
            ]
            assert row in allowed, (row, allowed)

    def words(self, body: bytes, symbol: str | None) -> str:
        return (
            f"{symbol}: told {body.decode()}\ntrue {self.exchange.body(self.told, symbol).decode()} at {self.told}"
            f"\n to {self.exchange.body(self.exchange.index, symbol).decode()} at {self.exchange.index}"
        )


TOTALS: dict[str, Counter[str]] = {}


def live(style: str, seed: int, *, is_torn: bool) -> Counter[str]:
    random = Random(seed)
    exchange = OrderExchange(style, random)
    lore = Lore(DIALECTS[exchange.market])
    for _ in range(random.randrange(0, 25)):
        exchange.step()
    machine = Machine(exchange, lore, is_torn=is_torn)
    machine.open()
    for _ in range(STEPS):
        machine.step()
    return machine.counts


@pytest.mark.parametrize("is_torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("style", STYLES)
def test_no_answer_is_ever_untrue(style: str, is_torn: bool) -> None:
    total: Counter[str] = Counter()

    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=HISTORIES, database=None)
    def many(seed: int) -> None:
        total.update(live(style, seed, is_torn=is_torn))

    many()
    print(f"{style}: {dict(total)}")
    for name in ("rotations", "losses", "snapshots", "changed", "double", "proven", "answered", "one open"):
        assert total[name] > 0, name


# Histories that once told an untruth: rows ahead of, or behind, events of their own millisecond.
@pytest.mark.parametrize(
    ("style", "seed", "is_torn"),
    [
        ("spot", 6707366, False),
        ("spot", 617322149, False),
        ("spot", 753020898, False),
        ("spot", 887312008, False),
        ("spot", 1417098523, False),
        ("spot", 1583508930, False),
        ("spot", 3378737502, False),
        ("spot", 3665759080, False),
        ("spot", 341667119, True),
        ("spot", 4254323297, True),
        ("um padded", 25104, True),
    ],
)
def test_old_untruths_stay_mended(style: str, seed: int, is_torn: bool) -> None:
    assert live(style, seed, is_torn=is_torn)["asked"] > 0
