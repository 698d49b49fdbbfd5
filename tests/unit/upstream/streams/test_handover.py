"""Frames kept back while one connection replaces another: which, in what order, and how many at most."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from resender.upstream.streams import handover as module
from resender.upstream.streams.handover import Handover

A, B = "a@trade", "b@kline_1m"
Frame = tuple[str, Any, bytes]


class Ear:
    """Whoever gets the frames; `verdict` is returned for each or raised."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.verdict: bool | Exception | None = None

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        self.frames.append((name, data, raw))
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


def frame(name: str, number: int) -> Frame:
    return name, None, b"%d" % number


@pytest.fixture
def ear() -> Ear:
    return Ear()


def test_relayed_streams_are_kept_back_and_come_in_order_when_they_are_released(ear: Ear) -> None:
    handover = Handover(ear.on_frame, {A}, is_keeping=True)
    assert handover.on_frame(*frame(A, 1)) is True
    assert handover.on_frame(*frame(B, 2)) is None
    assert handover.on_frame(*frame(A, 3)) is True
    assert ear.frames == [frame(B, 2)]
    assert handover.release()
    assert ear.frames == [frame(B, 2), frame(A, 1), frame(A, 3)]
    handover.on_frame(*frame(A, 4))
    assert ear.frames[-1] == frame(A, 4)
    assert handover.release(), "once released there is nothing more to release"
    assert len(ear.frames) == 4


def test_one_that_is_to_keep_nothing_passes_everything(ear: Ear) -> None:
    handover = Handover(ear.on_frame, {A}, is_keeping=False)
    ear.verdict = False
    assert handover.on_frame(*frame(A, 1)) is False
    assert ear.frames == [frame(A, 1)]
    assert handover.release()


def test_names_are_looked_up_as_they_are_by_then(ear: Ear) -> None:
    names = {A}
    handover = Handover(ear.on_frame, names, is_keeping=True)
    names.add(B)
    handover.on_frame(*frame(B, 1))
    assert ear.frames == []


def test_what_is_forgotten_is_passed_never(ear: Ear) -> None:
    handover = Handover(ear.on_frame, {A}, is_keeping=True)
    handover.on_frame(*frame(A, 1))
    handover.forget()
    handover.on_frame(*frame(A, 2))
    assert handover.release()
    assert ear.frames == [frame(A, 2)]


def test_more_than_can_be_kept_is_told_and_kept_no_more(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10)
    handover = Handover(ear.on_frame, {A}, is_keeping=True)
    handover.on_frame(A, None, b"x" * 10)
    assert not handover.is_full
    handover.on_frame(A, None, b"x")
    assert handover.is_full
    handover.on_frame(A, None, b"x")
    assert handover.is_full
    assert handover._kept == []


@pytest.mark.parametrize(
    "verdict", [False, ValueError("x"), KeyError("x"), TypeError("x"), RuntimeError("a bug")]
)
def test_frame_that_cannot_be_used_is_told_and_keeps_none_of_the_others_back(
    ear: Ear, caplog: pytest.LogCaptureFixture, verdict: bool | Exception
) -> None:
    handover = Handover(ear.on_frame, {A}, is_keeping=True)
    for number in range(3):
        handover.on_frame(*frame(A, number))
    ear.verdict = verdict
    with caplog.at_level(logging.ERROR):
        assert not handover.release()
    assert len(ear.frames) == 3
    assert ("a bug" in caplog.text) == isinstance(verdict, RuntimeError)
