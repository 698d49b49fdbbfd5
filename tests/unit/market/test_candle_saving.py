"""Warm restart: which series are saved and when, and what comes back of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import orjson
import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.market.candles import parse_event, parse_rows
from resender.core.market.klines import KlineSeries
from resender.market.candle_files import CandleFiles, SeriesSnapshot
from resender.market.candle_saving import CandleSaving
from resender.market.series import KeptKlines
from tests.support.market_fakes import MINUTE, T0, kline_event, row


class Counting(CandleFiles):
    """Files that count what is saved, and may be on a full disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.saved: list[list[str]] = []
        self.error: OSError | None = None

    def save(self, snapshots: Iterable[SeriesSnapshot]) -> int:
        snapshots = list(snapshots)
        if self.error is not None:
            raise self.error
        self.saved.append([each.symbol for each in snapshots])
        return super().save(snapshots)


def entry(symbol: str = "BTCUSDT", count: int = 3) -> KeptKlines:
    kept = KeptKlines(Market.UM, symbol, "s", 0.0, interval="1m", series=KlineSeries("1m", 60))
    if count:
        rows = [row(T0 - n * MINUTE, 5) for n in range(count - 1, -1, -1)]
        candles = parse_rows(rows, "1m", orjson.dumps, made_ms=T0 + 5000)
        kept.series.apply_read(candles, T0 + 5000, epoch=kept.series.epoch)
    return kept


@pytest.fixture
def files(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "candles" / "here")


def saving(files: CandleFiles, tasks: Tasks | None = None, every_s: float = 300.0) -> CandleSaving:
    owner = Tasks() if tasks is None else tasks  # without a task it is false
    return CandleSaving(files, save_every_s=every_s, clock=Clock(now_ms=lambda: T0), tasks=owner)


async def restored(one: CandleSaving, tasks: Tasks, kept: KeptKlines) -> list[KeptKlines]:
    done: list[KeptKlines] = []
    one.restore(kept, done.append)
    assert kept.is_reading, "until then it is not read by REST"
    await tasks.join(10)
    return done


async def test_closed_rows_come_back_and_the_open_one_does_not(files: Counting) -> None:
    tasks = Tasks()
    one, kept = saving(files, tasks), entry()
    one.start(lambda: [kept])
    await one.stop()
    fresh = entry(count=0)
    assert await restored(one, tasks, fresh) == [fresh]
    assert fresh.series.closed_rows() == kept.series.closed_rows()
    assert fresh.series.last_open == T0 - MINUTE
    assert not fresh.is_reading
    assert one.restored == 1


async def test_what_has_not_changed_is_not_saved_again(files: Counting) -> None:
    one, kept, other = saving(files), entry(), entry("ETHUSDT")
    one.start(lambda: [kept, other])
    await one.save()
    await one.save()
    kept.series.apply_event(parse_event(kline_event(T0, T0 + MINUTE + 20, final=True))[2])
    await one.save()
    await one.stop()
    assert files.saved == [["BTCUSDT", "ETHUSDT"], ["BTCUSDT"]]


async def test_series_without_a_closed_row_is_not_saved(files: Counting) -> None:
    one = saving(files)
    one.start(lambda: [entry(count=0), entry(count=1)])
    await one.stop()
    assert files.saved == []


async def test_many_series_are_saved_in_parts(files: Counting) -> None:
    one = saving(files)
    every = [entry(f"S{number}USDT") for number in range(120)]
    one.start(lambda: every)
    await one.stop()
    assert [len(part) for part in files.saved] == [10] * 12


async def test_full_disk_is_logged_and_tried_again(files: Counting, caplog: pytest.LogCaptureFixture) -> None:
    one, kept = saving(files), entry()
    one.start(lambda: [kept])
    files.error = OSError(28, "No space left on device")
    await one.save()
    assert [record.getMessage() for record in caplog.records] == [
        "candles cannot be saved: No space left on device"
    ]
    files.error = None
    await one.stop()
    assert files.saved == [["BTCUSDT"]]


async def test_series_that_was_read_meanwhile_is_left_as_it_is(files: Counting) -> None:
    tasks = Tasks()
    one = saving(files, tasks)
    one.start(lambda: [entry(count=5)])
    await one.stop()
    kept = entry(count=2)
    before = kept.series.closed_rows()
    assert await restored(one, tasks, kept) == [kept]
    assert kept.series.closed_rows() == before
    assert one.restored == 0


async def test_file_that_cannot_be_read_leaves_the_series_to_rest(
    files: Counting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*key: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "load_one", broken)
    tasks = Tasks()
    one, kept = saving(files, tasks), entry(count=0)
    assert await restored(one, tasks, kept) == [kept]
    assert not kept.is_reading
    assert "cannot be read: Input/output error" in caplog.text


async def test_restored_rows_are_not_saved_anew(files: Counting) -> None:
    tasks = Tasks()
    one, kept = saving(files, tasks), entry()
    one.start(lambda: [kept])
    await one.stop()
    again, fresh = saving(files, tasks), entry(count=0)
    again.start(lambda: [fresh])
    await restored(again, tasks, fresh)
    await again.stop()
    assert len(files.saved) == 1


async def test_files_no_run_has_saved_for_a_week_go(files: Counting) -> None:
    old, young = files.folder.parent / "elsewhere" / "old", files.folder.parent / "elsewhere" / "young"
    old.parent.mkdir(parents=True)
    for path, days in ((old, 8), (young, 6)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    one = saving(files)
    one.start(list)
    await one.stop()
    assert not old.exists()
    assert young.exists()


async def test_series_are_saved_every_few_minutes(files: Counting) -> None:
    tasks = Tasks()
    one, kept = saving(files, tasks, every_s=300.0), entry()
    one.start(lambda: [kept])
    await asyncio.sleep(299)
    assert files.saved == []
    await asyncio.sleep(2)
    assert files.saved == [["BTCUSDT"]]
    await one.stop()


# -- while candles close ------------------------------------------------------------------------


class Pause:
    """What can wait has to, until a time."""

    def __init__(self, s: float) -> None:
        self.until_s = asyncio.get_running_loop().time() + s

    def __call__(self) -> float:
        return max(0.0, self.until_s - asyncio.get_running_loop().time())


async def test_saving_waits_until_no_candle_closes(files: Counting) -> None:
    one, loop = saving(files), asyncio.get_running_loop()
    pause, begun_s = Pause(7), loop.time()
    one.start(lambda: [entry()], pause)
    await one.save()
    assert loop.time() - begun_s == pytest.approx(7)
    assert len(files.saved) == 1
    await one.save()
    assert loop.time() - begun_s == pytest.approx(7), "then it waits no more"
    await one.stop()


async def test_pause_that_grows_longer_is_waited_for_to_its_end(files: Counting) -> None:
    one, loop = saving(files), asyncio.get_running_loop()
    begun_s, pauses = loop.time(), [5.0, 2.0, 0.0]
    one.start(lambda: [entry()], lambda: pauses.pop(0))
    await one.save()
    assert loop.time() - begun_s == pytest.approx(7)
    assert len(files.saved) == 1


async def test_saving_that_has_begun_waits_between_its_parts(files: Counting) -> None:
    one, loop = saving(files), asyncio.get_running_loop()
    every, begun_s = [entry(f"S{number}USDT") for number in range(25)], loop.time()
    saved_s: list[float] = []

    def pause_s() -> float:
        saved_s.append(loop.time() - begun_s)
        if len(files.saved) != 1 or saved_s[-1] >= 6:
            return 0.0
        every[15].series.apply_event(parse_event(kline_event(T0, T0 + MINUTE + 20, final=True))[2])
        return 6.0

    one.start(lambda: every, pause_s)
    await one.save()
    assert [len(part) for part in files.saved] == [10, 10, 5]
    assert saved_s == pytest.approx([0, 0, 6, 6])
    await one.save()
    assert len(files.saved) == 3, "what came while it waited was saved, too"


async def test_last_saving_waits_for_no_candle(files: Counting) -> None:
    tasks = Tasks()
    one, loop = saving(files, tasks, every_s=100.0), asyncio.get_running_loop()
    one.start(lambda: [entry()], lambda: 1000.0)
    begun_s = loop.time()
    await asyncio.sleep(150)
    assert files.saved == [], "it has been waiting for fifty seconds"
    await one.stop()
    assert files.saved == [["BTCUSDT"]]
    assert loop.time() - begun_s == pytest.approx(150)
    assert len(tasks) == 0
