"""What waits for a client that reads slowly: in order, within its limit, nothing lost that counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from resender.core.fanout.backlog import Backlog

STREAMS = ("a@bookTicker", "b@bookTicker", "c@kline_1m")


def everything(backlog: Backlog) -> bytes:
    return backlog.take(1 << 30) if len(backlog) else b""


def test_frames_wait_in_the_order_they_came() -> None:
    backlog = Backlog(100)
    assert all(backlog.add(frame, of) for frame, of in ((b"1", "a"), (b"2", None), (b"3", "a")))
    assert (len(backlog), backlog.size, backlog.dropped) == (3, 3, 0)
    assert everything(backlog) == b"123"
    assert (len(backlog), backlog.size) == (0, 0)


def test_up_to_the_limit_not_even_old_states_are_left_out() -> None:
    backlog = Backlog(4)
    assert all(backlog.add(frame, "a") for frame in (b"1", b"2", b"3", b"4"))
    assert everything(backlog) == b"1234"


def test_beyond_the_limit_only_the_newest_state_of_each_stream_waits_on() -> None:
    backlog = Backlog(5)
    for frame, of in ((b"a", "a"), (b"b", "b"), (b"1", None), (b"A", "a"), (b"2", None), (b"B", "b")):
        assert backlog.add(frame, of)
    assert backlog.dropped == 2
    assert everything(backlog) == b"1A2B"


def test_from_then_on_a_state_takes_the_place_of_its_older_one_at_the_end() -> None:
    backlog = Backlog(3)
    for frame in (b"a", b"b", b"c", b"d"):
        assert backlog.add(frame, "a")
    assert everything(backlog) == b"d"
    for frame, of in ((b"1", "a"), (b"2", "b"), (b"3", None), (b"4", "a"), (b"5", "b"), (b"6", "a")):
        assert backlog.add(frame, of)
    assert everything(backlog) == b"356"


def test_frame_that_must_arrive_and_does_not_fit_is_told() -> None:
    backlog = Backlog(3)
    assert backlog.add(b"12", None)
    assert backlog.add(b"3", "a")
    assert not backlog.add(b"4", None)
    assert not Backlog(3).add(b"1234", None)
    assert not Backlog(3).add(b"1234", "a")


def test_states_stop_being_left_out_once_all_has_been_taken() -> None:
    backlog = Backlog(3)
    for frame in (b"1", b"2", b"3", b"4"):
        backlog.add(frame, "a")
    everything(backlog)
    assert all(backlog.add(frame, "a") for frame in (b"5", b"6", b"7"))
    assert everything(backlog) == b"567"


def test_so_many_frames_are_taken_as_fit_and_at_least_one() -> None:
    backlog = Backlog(100)
    for frame in (b"12345", b"67", b"89", b"0"):
        backlog.add(frame, None)
    assert backlog.take(3) == b"12345"
    assert backlog.take(4) == b"6789"
    assert backlog.take(0) == b"0"
    assert backlog.take(10) == b""


class Machine(RuleBasedStateMachine):
    """A client that takes now and then, against a list of all it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 200
        self.backlog = Backlog(self.limit)
        self.sent: list[tuple[int, str | None]] = []
        self.got: list[int] = []
        self.is_over = False

    @rule(of=st.sampled_from((*STREAMS, None)), size=st.integers(8, 60), count=st.integers(1, 4))
    def add(self, of: str | None, size: int, count: int) -> None:
        for _ in range(count):
            if self.is_over:
                return
            number = len(self.sent)
            self.sent.append((number, of))
            is_kept = self.backlog.add(b"%06d" % number + b"." * (size - 6), of)
            assert is_kept == (self.backlog.size <= self.limit)
            self.is_over = not is_kept

    @rule(max_bytes=st.integers(0, 250))
    def take(self, max_bytes: int) -> None:
        if self.is_over:
            return
        before, waiting = self.backlog.size, len(self.backlog)
        data = self.backlog.take(max_bytes)
        found = [int(part) for part in data.replace(b".", b" ").split()]
        assert len(data) <= max_bytes or len(found) == 1
        assert len(data) == before - self.backlog.size
        assert len(found) == waiting - len(self.backlog)
        assert bool(found) == bool(waiting)
        self.got += found

    @rule()
    def drain(self) -> None:
        if self.is_over:
            return
        while len(self.backlog):
            self.take(100)
        assert self.backlog.size == 0
        got = set(self.got)
        newest = {of: number for number, of in self.sent if of is not None}
        for number, of in self.sent:
            if of is None or newest[of] == number:
                assert number in got
        assert len(self.sent) - len(got) == self.backlog.dropped

    @invariant()
    def what_was_taken_is_in_order_and_was_taken_once(self) -> None:
        assert self.got == sorted(set(self.got))


TestMachine = Machine.TestCase


@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from((*STREAMS, None))), max_size=40),
    st.integers(1, 150),
)
def test_nothing_that_must_arrive_is_ever_left_out(frames: list[tuple[int, str | None]], limit: int) -> None:
    backlog, wanted = Backlog(limit), []
    for number, (size, of) in enumerate(frames):
        frame = b"<%d %s>" % (number, b"." * size)
        is_kept = backlog.add(frame, of)
        if of is None:
            wanted.append(frame)
        if not is_kept:
            break
    found = everything(backlog)
    at = 0
    for frame in wanted:
        at = found.index(frame, at)
