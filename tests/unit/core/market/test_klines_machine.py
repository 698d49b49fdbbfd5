"""Random events, faults and requests against a model exchange: every hit is the truth.

The exchange's REST answers lag behind a close by up to a second, final events come at any time
later, whole streams may say nothing, and a witness tells each second what was traded.
"""

from __future__ import annotations

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resender.core.binance.intervals import next_open
from resender.core.market.candles import Candle, parse_rows
from resender.core.market.klines import KlineSeries

INTERVAL = "1m"
STEP_MS = 60_000
PUSH_MS = 2000
T0 = 1_790_000_040_000 // STEP_MS * STEP_MS
# An array names what was traded in the second before it, REST lags by up to another.
WITNESS_LAG_MS = 2000

lags = st.sampled_from([0, 500, 1000])


def row(open_time: int, trades: int, salt: int) -> list:
    price = f"{100 + salt % 7}.{trades:04d}"
    close = next_open(INTERVAL, open_time) - 1
    return [open_time, price, price, price, price, "1.0", close, "1.0", trades, "1.0", "1.0", "0"]


class Machine(RuleBasedStateMachine):
    """The exchange has its own clock; messages travel with delays, are lost, doubled, reordered."""

    @initialize(
        history=st.integers(0, 6),
        depth=st.integers(3, 8),
        phase=st.integers(0, 999),
        is_connected=st.booleans(),
    )
    def begin(self, history: int, depth: int, phase: int, is_connected: bool) -> None:
        self.now = T0 + 17
        # Every state a candle ever had and since when: REST may show an older one.
        self.states: dict[int, list[tuple[int, list]]] = {}
        for n in range(history, 0, -1):
            t = T0 - n * STEP_MS
            self.states[t] = [(t, row(t, n, n))]
        self.flight: list[Candle] = []
        # Final events that take longer than anything that came after them.
        self.late: list[Candle] = []
        self.depth = depth
        self.series = KlineSeries(INTERVAL, depth)
        self.connected = False
        self.live = False
        self.mute = False
        self.known_now = 0
        self.reads: list[tuple[list, int, int | None, bool]] = []
        # Candles of which the stream or REST kept something back while they were open.
        self.kept_back: set[int] = set()
        # The witness: arrays on their way, and what those that came have told.
        self.phase = phase
        self.arrays: list[tuple[int, bool]] = []
        self.is_named = False
        self.since: int | None = None
        self.last = self.named = 0
        if is_connected:
            self.connect()
            self.read_at_once(5, 0)

    @property
    def truth(self) -> dict[int, list]:
        return {t: states[-1][1] for t, states in self.states.items()}

    # --- the exchange ----------------------------------------------------------------------

    def current_open(self) -> int:
        return self.now // STEP_MS * STEP_MS

    @rule(ms=st.sampled_from([1, 30, 250, 500, 1000, 1500, 2500, 20_000, 58_500, 60_000]))
    def time_passes(self, ms: int) -> None:
        before = self.current_open()
        first = (self.now - self.phase) // 1000 * 1000 + self.phase + 1000
        self.now += ms
        if first <= self.now:
            # Of many arrays the first may name the symbol; the last one tells how far they reach.
            self.arrays += [
                (first, self.is_named),
                ((self.now - self.phase) // 1000 * 1000 + self.phase, False),
            ]
            self.is_named = False
        opened = self.current_open()
        # The exchange sends the final event of a candle that had trades, late or never.
        while before < opened:
            if before in self.states:
                self.push(before, final=True)
            before += STEP_MS

    @rule(ms=st.sampled_from([-1200, -400, -1, 0, 1, 400, 900, 1490, 1510, 2600]))
    def next_close_comes(self, ms: int) -> None:
        """Most of what can go wrong happens around a close."""
        moment = self.current_open() + STEP_MS + ms
        if moment > self.now:
            self.time_passes(moment - self.now)

    @rule(
        trade_ms=st.sampled_from([1, 1, 90, 400, 900]),
        after_ms=st.sampled_from([0, 200, 600, 950, 950, 1499, 1504, 2600]),
        lag=st.sampled_from([0, 500, 1000, 1000]),
        final=st.sampled_from(["on its way", "late", "late", "never"]),
        traded_before=st.booleans(),
        told_before=st.booleans(),
        told=st.booleans(),
        is_read=st.sampled_from([True, True, False]),
    )
    def a_close(
        self,
        trade_ms: int,
        after_ms: int,
        lag: int,
        final: str,
        traded_before: bool,
        told_before: bool,
        told: bool,
        is_read: bool,
    ) -> None:
        """A trade shortly before a close, and what is known of it soon after."""
        close = self.current_open() + STEP_MS
        if close - trade_ms <= self.now:
            return
        if traded_before:
            self.trade(2)
        self.time_passes(close - trade_ms - self.now)
        if told_before:
            self.arrays_arrive(len(self.arrays))
        self.trade(1)
        self.time_passes(trade_ms + after_ms)
        if final == "late":
            self.finals_are_late()
        elif final == "never":
            self.swallow_final()
        if told:
            self.arrays_arrive(len(self.arrays))
        if is_read:
            self.read_at_once(3, lag)
        self.settle_quiet()

    @rule(trades=st.integers(1, 3))
    def trade(self, trades: int) -> None:
        t = self.current_open()
        count = self.truth[t][8] + trades if t in self.states else trades
        self.states.setdefault(t, []).append((self.now, row(t, count, count)))
        self.is_named = True
        self.push(t, final=False)

    def push(self, t: int, *, final: bool) -> None:
        if not self.connected or self.mute:
            self.kept_back.add(t)
            return
        r = self.truth[t]
        self.flight.append(Candle(t, r[6], orjson.dumps(r), r[8], final, self.now))

    def shown(self, lag: int) -> list[list]:
        """Return all rows as REST shows them: behind the truth for a while after a close."""
        moment = self.now - lag if self.now - self.current_open() < lag else self.now
        rows = []
        for t in sorted(self.states):
            stood = [r for since, r in self.states[t] if since <= moment]
            if stood:
                rows.append(stood[-1])
            if not stood or stood[-1] != self.truth[t]:
                self.kept_back.add(t)
        return rows

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
    def finals_are_late(self) -> None:
        self.late += [candle for candle in self.flight if candle.is_final]
        self.swallow_final()

    @rule(data=st.data())
    def late_final_arrives(self, data: st.DataObject) -> None:
        if self.late and self.live:
            candle = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
            self.series.apply_event(candle)

    @rule()
    def clock_is_learned(self) -> None:
        self.known_now = max(self.known_now, self.now - 3)

    @rule()
    def connect(self) -> None:
        self.connected = self.live = True

    @rule(is_mute=st.sampled_from([True, False, False]))
    def stream_falls_mute(self, is_mute: bool) -> None:
        self.mute = is_mute

    @rule(is_back=st.sampled_from([True, True, True, False]), lag=lags)
    def drop(self, is_back: bool, lag: int) -> None:
        self.connected = self.live = False
        self.flight.clear()
        self.late.clear()
        self.series.lose()
        if is_back:
            self.connect()
            self.read_at_once(5, lag)

    @rule(is_back=st.sampled_from([True, True, True, False]), lag=lags)
    def restart(self, is_back: bool, lag: int) -> None:
        """The closed rows are saved and come back; nothing else does."""
        self.drop(False, 0)
        self.reads.clear()
        saved = self.series.closed_rows()
        self.series = KlineSeries(INTERVAL, self.depth)
        self.series.restore(*saved)
        if is_back:
            self.connect()
            self.read_at_once(5, lag)

    # --- the witness -----------------------------------------------------------------------

    @rule(count=st.integers(1, 4))
    def arrays_arrive(self, count: int) -> None:
        for made, is_named in self.arrays[:count]:
            if is_named:
                self.named = made
            if self.since is None:
                self.since = made
            self.last = made
        del self.arrays[:count]

    @rule()
    def witness_is_lost(self) -> None:
        self.arrays.clear()
        self.since = None

    @rule()
    def settle_quiet(self) -> None:
        if self.live and self.since is not None:
            self.series.settle_quiet(max(self.since, self.named) + WITNESS_LAG_MS, self.last)

    # --- REST ------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 5), lag=lags)
    def read(self, limit: int, lag: int) -> None:
        rows = self.shown(lag)
        epoch = self.series.epoch if self.live else None
        self.reads.append((rows[-limit:], self.known_now, epoch, len(rows) < limit))

    @rule(limit=st.integers(1, 8), lag=lags)
    def read_at_once(self, limit: int, lag: int) -> None:
        """What the cache does when a series is not settled."""
        self.known_now = max(self.known_now, self.now - 3)
        self.read(limit, lag)
        self.take(self.reads.pop())

    @rule(data=st.data())
    def read_arrives(self, data: st.DataObject) -> None:
        if not self.reads:
            return
        self.take(self.reads.pop(data.draw(st.integers(0, len(self.reads) - 1))))

    def take(self, read: tuple[list, int, int | None, bool]) -> None:
        rows, made, epoch, is_whole = read
        candles = parse_rows(rows, INTERVAL, orjson.dumps, made_ms=made)
        self.series.apply_read(candles, made, epoch=epoch, is_whole=is_whole)

    @rule(limit=st.integers(1, 5), lag=lags)
    def older_rows_are_read(self, limit: int, lag: int) -> None:
        first = self.series.first_open
        if first is not None and self.series.is_synced and not self.series.is_whole:
            rows = [r for r in self.shown(lag) if r[0] < first]
            candles = parse_rows(rows[-limit:], INTERVAL, orjson.dumps, made_ms=self.known_now)
            self.series.prepend(candles, self.known_now, is_whole=len(rows) < limit)

    # --- what a client sees ----------------------------------------------------------------

    @invariant()
    def what_is_closed_is_the_truth(self) -> None:
        """Also what no client may see now: it is what comes out of the files later."""
        if hasattr(self, "series"):
            truth = self.truth
            for r in orjson.loads(b"[" + self.series.closed_rows()[0] + b"]"):
                assert r == truth[r[0]], "a row is held as closed and is wrong"

    @invariant()
    def every_hit_is_the_truth(self) -> None:
        if not hasattr(self, "series") or not self.live:
            return
        series, truth = self.series, self.truth
        need = series.check(self.known_now, self.now + 1, PUSH_MS)
        if need is not None:
            return
        in_flight = {candle.open_time for candle in (*self.flight, *self.late)}
        for limit in (1, 2, 3, 8):
            span = series.latest(limit)
            if span is None:
                continue
            got = orjson.loads(series.body(span))
            assert len(got) <= limit
            times = [r[0] for r in got]
            assert times == sorted(set(times))
            for r in got:
                if r[6] < self.now:
                    assert r == truth[r[0]], "a closed candle with old numbers"
                elif r[0] not in in_flight | self.kept_back:
                    assert r == truth[r[0]], "an open candle with old numbers"
                else:
                    assert r in [state for _, state in self.states[r[0]]], "an open candle that never was"
            # No hole between the first and the last row.
            held = [t for t in sorted(truth) if times and times[0] <= t <= times[-1]]
            assert times == held, "a hole"
            if times:
                # Nothing newer that has been closed for certain is missing.
                newer = [t for t in truth if t > times[-1] and truth[t][6] < self.known_now]
                assert not set(newer) - self.kept_back, "a closed candle is missing"
            if len(got) < limit:
                # A candle may exist whose first event is still on its way.
                unseen = in_flight | self.kept_back
                older = [t for t in truth if (t not in unseen if not times else t < times[0])]
                assert not older, "short although older candles exist"


Machine.TestCase.settings = settings(
    max_examples=500, stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
TestKlineSeriesAgainstTheModel = Machine.TestCase
