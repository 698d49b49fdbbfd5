"""The frames of questions and answers, whole and in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.cluster.asks import Frames, Question, Reply, read_question, read_reply

NUMBERS = st.integers(0, 0xFFFFFFFF)
QUESTIONS = st.builds(
    Question, NUMBERS, st.text(max_size=60), st.text(max_size=200), st.booleans(), st.integers(0, 10_000_000)
)
HITS = st.builds(
    Reply, NUMBERS, st.just(""), st.binary(max_size=300), st.booleans(),
    NUMBERS, NUMBERS, NUMBERS, st.text(max_size=40),
)  # fmt: skip
MISSES = st.builds(Reply, NUMBERS, st.text(min_size=1, max_size=40))


@given(QUESTIONS)
def test_question_is_read_as_it_was_written(question: Question) -> None:
    assert read_question(question.to_bytes()) == question


@given(HITS | MISSES)
def test_answer_is_read_as_it_was_written(reply: Reply) -> None:
    assert read_reply(b"".join(reply.to_pieces())) == reply


@given(st.lists(HITS | MISSES, max_size=8), st.integers(1, 50))
def test_frames_are_whole_however_they_arrive(replies: list[Reply], size: int) -> None:
    stream = b"".join(piece for reply in replies for piece in reply.to_pieces())
    frames = Frames()
    found = []
    for start in range(0, len(stream), size):
        found += [read_reply(frame) for frame in frames.feed(stream[start : start + size])]
    assert found == replies


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        list(Frames().feed(b"\xff\xff\xff\xff rest"))
    for read in (read_question, read_reply):
        with pytest.raises(ValueError, match=r"unpack|buffer"):
            read(b"\x02\x00\x00\x00ab")
    nothing = bytearray(Reply(1, "x").to_pieces()[0][:-1])
    nothing[-2:] = b"\0\0"
    with pytest.raises(ValueError, match="no reason"):
        read_reply(bytes(nothing))
