"""Order books against a made-up exchange with every fault of a stream: what is told is never wrong.

`BOOK_UPDATES=1000000` lets so many level updates come; the default is quick.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from random import Random
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.market import book as book_module
from resender.core.market.book import Book, BookBroken
from resender.core.market.levels import Head
from resender.core.market.partial_book import LEVELS, PartialBook
from tests.support.book_model import ModelBook, ModelSocket

UPDATES = int(os.environ.get("BOOK_UPDATES", "75000"))
SEEDS = 5
LIMITS = (1, 5, 20, 50, 100, 200, 500)
# Chances of each fault at each step.
DROP, REPEAT, SWAP, ROTATE, LOSE, RESTART = 0.01, 0.03, 0.05, 0.01, 0.004, 0.0015
ASK, REVIEW = 0.08, 0.1


class Machine:
    """One symbol's books, driven at random."""

    def __init__(self, market: Market, seed: int) -> None:
        self.random = random = Random(f"{market} {seed}")
        # Thin books are whole in a snapshot, others are not.
        self.model = ModelBook(market, random, depth=random.choice((8, 60, 160)))
        self.head = Head()
        self.head.learn(self.model.rest(self.model.update_id, 5))
        self.book = Book(market, self.head)
        self.partial = PartialBook(market, self.head)
        self.sockets: list[ModelSocket] = list(self.model.sockets(1))
        # Events of each socket on their way, read ones and the limits they were asked for.
        self.ways: dict[ModelSocket, deque[dict[str, Any]]] = {self.sockets[0]: deque()}
        self.reads: list[tuple[int, dict[str, Any] | None, int, int]] = []
        self.epoch = 0
        self.rotating = 0
        self.levels = 0
        self.counts: Counter[str] = Counter()

    # -- what happens -----------------------------------------------------------------------

    def step(self) -> None:
        random = self.random
        if random.random() < 0.7:
            for _ in range(random.choice((1, 1, 1, 2, 6))):
                self.model.update()
        if random.random() < RESTART:
            self.model.restart(is_back=random.random() < 0.5)
            self.counts["restarts"] += 1
        for socket in list(self.sockets):
            if random.random() < 0.6:
                self.cut(socket)
            if random.random() < 0.8:
                while self.ways[socket]:
                    self.deliver(self.ways[socket].popleft())
                    if random.random() < 0.2:
                        break
        if random.random() < 0.5:
            self.partial_frame()
        self.rotate()
        if random.random() < LOSE:
            self.lose()
        self.read()
        self.judge()

    def cut(self, socket: ModelSocket) -> None:
        random, way = self.random, self.ways[socket]
        data = self.model.cut(socket)
        if data is None or random.random() < DROP:
            self.counts["dropped"] += data is not None
            return
        way.append(data)
        if random.random() < REPEAT:
            self.counts["repeated"] += 1
            way.append(data)
        if len(way) > 1 and random.random() < SWAP:
            self.counts["swapped"] += 1
            way[-1], way[-2] = way[-2], way[-1]

    def deliver(self, data: dict[str, Any]) -> None:
        self.levels += len(data["b"]) + len(data["a"])
        self.counts["changes"] += 1
        try:
            self.book.apply(data)
        except BookBroken:
            self.counts["broken"] += 1
        self.judge()

    def partial_frame(self) -> None:
        random = self.random
        if random.random() < 0.1:
            self.partial.seed(self.model.rest(self.model.recent(random.randrange(30)), LEVELS))
        else:
            try:
                self.partial.apply(self.model.frame())
            except ValueError:
                self.partial.lose()  # ids went back

    def rotate(self) -> None:
        """For some time two sockets bring the same, cut elsewhere; then only the new one."""
        random = self.random
        if self.rotating:
            self.rotating -= 1
            if not self.rotating:
                old = self.sockets.pop(0)
                for data in self.ways.pop(old):  # the last of it comes before it ends
                    self.deliver(data)
        elif random.random() < ROTATE:
            self.counts["rotations"] += 1
            (new,) = self.model.sockets(1)
            self.sockets.append(new)
            self.ways[new] = deque()
            self.rotating = random.randrange(1, 25)

    def lose(self) -> None:
        random = self.random
        self.counts["losses"] += 1
        self.epoch += 1
        self.book.lose()
        self.partial.lose()
        for _ in range(random.randrange(8)):
            self.model.update()
        self.sockets = list(self.model.sockets(1))
        self.ways = {self.sockets[0]: deque()}
        self.rotating = 0

    def read(self) -> None:
        """Snapshots are asked for, made by an exchange that may lag, and come late."""
        random = self.random
        if random.random() < ASK and (len(self.reads) < 3 or not self.book.is_synced):
            self.book.recording += 1
            body = None
            limit = random.choice(LIMITS)
            if random.random() < 0.7:
                body = self.snapshot(limit)
            self.reads.append((self.epoch, body, limit, random.randrange(1, 40)))
        left = []
        for epoch, body, limit, steps in self.reads:
            if steps > 0:
                left.append((epoch, body, limit, steps - 1))
                continue
            body = body or self.snapshot(limit)
            if epoch == self.epoch or random.random() < 0.2:  # an answer that others had asked for before
                try:
                    self.counts["taken"] += self.book.snapshot(body, limit)
                except BookBroken:
                    self.counts["broken"] += 1
                self.judge()
            self.book.recording -= 1
            self.book.forget_waiting()
        self.reads = left

    def snapshot(self, limit: int) -> dict[str, Any]:
        lag = self.random.choice((0, 0, 1, 3, 40))
        return self.model.rest(self.model.recent(lag), limit)

    # -- what must be true ------------------------------------------------------------------

    def judge(self) -> None:
        for held in (self.book, self.partial):
            is_known = held.is_synced if isinstance(held, Book) else held.is_valid
            self.counts["known" if is_known else "not known"] += 1
            if not is_known or not self.model.knows(held.update_id):
                self.counts["too old"] += is_known
                continue
            limit = self.random.choice(LIMITS)
            if isinstance(held, PartialBook):
                limit = min(limit, LEVELS)
            elif not held.reaches(limit):
                self.counts["shallow"] += 1
                continue
            self.counts["judged"] += 1
            assert held.body(limit) == self.model.body(held.update_id, limit), (held.update_id, limit)

    def heal(self) -> None:
        """Without faults one snapshot is enough."""
        self.lose()
        for _ in range(3):
            self.model.update()
            data = self.model.cut(self.sockets[0])
            assert data is not None
            self.book.apply(data)
        assert self.book.snapshot(self.model.rest(self.model.update_id, 100), 100)
        for _ in range(20):
            self.model.update()
            data = self.model.cut(self.sockets[0])
            assert data is not None
            assert self.book.apply(data) or data["u"] <= self.book.update_id
        assert self.book.is_synced
        assert self.book.update_id == self.model.update_id
        assert self.book.reaches(20)


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
def test_no_level_is_ever_wrong(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "_LEAST", 120)  # so that levels are let go, too
    monkeypatch.setattr(book_module, "_MAX_OLDER", 20)
    total: Counter[str] = Counter()
    for seed in range(SEEDS):
        machine = Machine(market, seed)
        while machine.levels < UPDATES // (3 * SEEDS):
            machine.step()
        machine.heal()
        total.update(machine.counts)
        total["levels"] += machine.levels
    print(f"{market}: {dict(total)}")
    for name in ("dropped", "repeated", "swapped", "rotations", "losses", "taken", "broken", "shallow"):
        assert total[name] > 0, name
    assert total["judged"] > total["changes"] / 2
    assert total["known"] > total["not known"]
    assert total["too old"] < total["known"] / 20
