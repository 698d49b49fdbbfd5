"""Random events, faults and requests against a model exchange: every hit is the truth."""

from __future__ import annotations

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resender.core.candles import Candle, parse_rows
from resender.core.intervals import next_open
from resender.core.klines import KlineSeries

INTERVAL = "1m"
STEP_MS = 60_000
PUSH_MS = 2000
T0 = 1_790_000_040_000 // STEP_MS * STEP_MS


def row(open_time: int, trades: int, salt: int) -> list:
    price = f"{100 + salt % 7}.{trades:04d}"
    close = next_open(INTERVAL, open_time) - 1
    return [open_time, price, price, price, price, "1.0", close, "1.0", trades, "1.0", "1.0", "0"]


class Machine(RuleBasedStateMachine):
    """The exchange has its own clock; messages travel with delays, are lost, doubled, reordered."""

    @initialize(history=st.integers(0, 6), depth=st.integers(3, 8))
    def begin(self, history: int, depth: int) -> None:
        self.now = T0 + 17
        self.truth: dict[int, list] = {}
        # Every state a candle ever had: a hit may lag behind by what is still in flight.
        for n in range(history, 0, -1):
            t = T0 - n * STEP_MS
            self.truth[t] = row(t, n, n)
        self.flight: list[Candle] = []
        self.series = KlineSeries(INTERVAL, depth)
        self.connected = False
        self.live = False
        self.known_now = 0
        self.reads: list[tuple[list, int, int | None, bool]] = []

    # --- the exchange ----------------------------------------------------------------------

    def current_open(self) -> int:
        return self.now // STEP_MS * STEP_MS

    @rule(ms=st.sampled_from([1, 30, 250, 1000, 2500, 20_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        before = self.current_open()
        self.now += ms
        opened = self.current_open()
        # The exchange sends the final event of a candle that had trades, late or never.
        while before < opened:
            if before in self.truth and self.connected:
                self.push(before, final=True)
            before += STEP_MS

    @rule(trades=st.integers(1, 3))
    def trade(self, trades: int) -> None:
        t = self.current_open()
        count = self.truth.get(t, row(t, 0, 0))[8] + trades
        self.truth[t] = row(t, count, count)
        if self.connected:
            self.push(t, final=False)

    def push(self, t: int, *, final: bool) -> None:
        r = self.truth[t]
        self.flight.append(Candle(t, r[6], orjson.dumps(r), r[8], final))

    # --- the network -----------------------------------------------------------------------

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if not self.flight or not self.live:
            return
        # In order from one socket; out of order only when two overlap.
        index = data.draw(st.integers(0, min(2, len(self.flight) - 1)))
        candle = self.flight.pop(index)
        self.series.apply_event(candle)
        if data.draw(st.booleans()):
            self.series.apply_event(candle)

    @rule()
    def deliver_all(self) -> None:
        if self.live:
            for candle in self.flight:
                self.series.apply_event(candle)
            self.flight.clear()

    @rule()
    def swallow_final(self) -> None:
        self.flight = [candle for candle in self.flight if not candle.is_final]

    @rule()
    def clock_is_learned(self) -> None:
        self.known_now = max(self.known_now, self.now - 3)

    @rule()
    def connect(self) -> None:
        self.connected = self.live = True

    @rule()
    def drop(self) -> None:
        self.connected = self.live = False
        self.flight.clear()
        self.series.lose()

    # --- REST ------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 5))
    def read(self, limit: int) -> None:
        made = self.known_now
        rows = [self.truth[t] for t in sorted(self.truth)]
        epoch = self.series.epoch if self.live else None
        self.reads.append((rows[-limit:], made, epoch, len(rows) < limit))

    @rule(limit=st.integers(1, 8))
    def read_at_once(self, limit: int) -> None:
        """What the cache does when a series is not settled."""
        self.known_now = max(self.known_now, self.now - 3)
        self.read(limit)
        self.take(self.reads.pop())

    @rule(data=st.data())
    def read_arrives(self, data: st.DataObject) -> None:
        if not self.reads:
            return
        self.take(self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1))))

    def take(self, read: tuple[list, int, int | None, bool]) -> None:
        rows, made, epoch, is_whole = read
        self.series.apply_read(parse_rows(rows, INTERVAL, orjson.dumps), made, epoch=epoch, is_whole=is_whole)

    # --- what a client sees ----------------------------------------------------------------

    @invariant()
    def every_hit_is_the_truth(self) -> None:
        if not hasattr(self, "series") or not self.live:
            return
        series = self.series
        need = series.check(self.known_now, self.now + 1, PUSH_MS)
        if need is not None:
            return
        in_flight = {candle.open_time for candle in self.flight}
        for limit in (1, 2, 3, 8):
            span = series.latest(limit)
            if span is None:
                continue
            got = orjson.loads(series.body(span))
            assert len(got) <= limit
            times = [r[0] for r in got]
            assert times == sorted(set(times))
            # Closed for certain: exactly the truth.
            for r in got:
                true = self.truth[r[0]]
                if r[6] < self.now:
                    if r[0] not in in_flight:
                        assert r == true, "a closed candle with old numbers"
                    else:
                        assert r == true, "a closed candle that was never proven"
                elif r[0] not in in_flight:
                    assert r == true, "an open candle with old numbers"
            # No hole between the first and the last row.
            held = [t for t in sorted(self.truth) if times and times[0] <= t <= times[-1]]
            assert times == held, "a hole"
            if times:
                # Nothing newer that has been closed for certain is missing.
                newer = [t for t in self.truth if t > times[-1] and self.truth[t][6] < self.known_now]
                assert not newer, "a closed candle is missing"
            if len(got) < limit:
                # A candle may exist whose first event is still on its way.
                older = [t for t in self.truth if (t not in in_flight if not times else t < times[0])]
                assert not older, "short although older candles exist"


Machine.TestCase.settings = settings(
    max_examples=500, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestKlineSeriesAgainstTheModel = Machine.TestCase
