"""Candles saved for the next start."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.market.klines import KlineSeries
from resender.market import candle_files as files
from resender.market.candle_files import SUFFIX, CandleFiles, SeriesSnapshot, file_stem

ROOT = Path(__file__).parents[3]
START_MS = 1_790_000_000_000


def row(open_time: int, close: str = "1.5") -> bytes:
    return (
        f'[{open_time},"1.0","2.00","0.5","{close}","12.500",{open_time + 59_999},"18.75000000",77,'
        '"6.1","9.15","0"]'
    ).encode()


def series(
    symbol: str = "BTCUSDT", count: int = 5, *, first: int = START_MS, **changes: Any
) -> SeriesSnapshot:
    times = array("q", range(first, first + count * 60_000, 60_000))
    snapshot = SeriesSnapshot(
        Market.UM, symbol, "1m", b",".join(map(row, times)), times, ((1, 2), (START_MS, START_MS + 5)), 7
    )
    return dataclasses.replace(snapshot, **changes)


def changed(snapshot: SeriesSnapshot) -> SeriesSnapshot:
    """Add a row."""
    times = array("q", [*snapshot.open_times, snapshot.open_times[-1] + 60_000])
    rows = snapshot.rows + b"," + row(times[-1])
    return dataclasses.replace(snapshot, open_times=times, rows=rows, saved_ms=snapshot.saved_ms + 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "candles"


@pytest.fixture
def store(folder: Path) -> CandleFiles:
    return CandleFiles(folder)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    found: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    lines = Lines(logging.WARNING)
    files.logger.addHandler(lines)
    yield found
    files.logger.removeHandler(lines)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def load(folder: Path) -> list[SeriesSnapshot]:
    return list(CandleFiles(folder).load())


# --- what comes back ---------------------------------------------------------------------------


def test_saved_series_come_back_as_they_were(folder: Path, store: CandleFiles) -> None:
    saved = [
        series("BTCUSDT", 1500),
        series("BTCUSDT", interval="1M"),
        series("BTCUSDT", market=Market.SPOT, interval="1s"),
        series("ETHUSD_PERP", market=Market.CM, holes=()),
        series("币安人生USDT"),
        series("EMPTY", 0, holes=()),
    ]
    assert store.save(saved) == len(saved)
    found = {snapshot.key: snapshot for snapshot in load(folder)}
    assert found == {snapshot.key: snapshot for snapshot in saved}
    assert all(isinstance(snapshot.open_times, array) for snapshot in found.values())
    for snapshot in saved:
        assert CandleFiles(folder).load_one(*snapshot.key) == snapshot


def test_loaded_rows_fill_a_series_again(folder: Path, store: CandleFiles) -> None:
    snapshot = series(count=100)
    store.save([snapshot])
    (loaded,) = load(folder)
    restored = KlineSeries("1m", 1500)
    restored.restore(loaded.rows, loaded.open_times)
    assert restored.closed_rows() == (snapshot.rows, snapshot.open_times)


def test_recorded_rows_of_the_exchange_come_back_unchanged(folder: Path, recorded: Path) -> None:
    rows = json.loads((recorded / "rest_spot_klines_BTCUSDT_1m_2021-10-22.json").read_text())
    compact = json.dumps(rows, separators=(",", ":")).encode()[1:-1]
    times = [each[0] for each in rows]
    CandleFiles(folder).save([series(market=Market.SPOT, rows=compact, open_times=times)])
    (loaded,) = load(folder)
    assert (loaded.rows, list(loaded.open_times)) == (compact, times)


@settings(max_examples=30)
@given(
    times=st.lists(st.integers(0, 10**15), unique=True, max_size=20).map(sorted),
    numbers=st.lists(st.decimals(allow_nan=False, allow_infinity=False).map(str), min_size=1, max_size=9),
    holes=st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)), max_size=3).map(tuple),
    saved_ms=st.integers(0, 10**15),
)
def test_any_rows_come_back(
    times: list[int],
    numbers: list[str],
    holes: tuple[tuple[int, int], ...],
    saved_ms: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    texts = (numbers * 9)[:9]
    rows = [[t, *texts[:5], t + 1, texts[5], t % 1000, *texts[6:]] for t in times]
    text = json.dumps(rows, separators=(",", ":")).encode()[1:-1]
    snapshot = series(rows=text, open_times=array("q", times), holes=holes, saved_ms=saved_ms)
    folder = tmp_path_factory.mktemp("candles")
    CandleFiles(folder).save([snapshot])
    assert load(folder) == [snapshot]


def test_folder_that_is_not_there_holds_nothing(
    folder: Path, store: CandleFiles, warnings: list[str]
) -> None:
    assert list(store.load()) == []
    assert store.load_one(Market.UM, "BTCUSDT", "1m") is None
    store.remove([(Market.UM, "BTCUSDT", "1m")])
    assert store.remove_others([]) == 0
    assert not folder.exists()
    assert warnings == []


def test_nothing_to_save_is_no_error(folder: Path, store: CandleFiles) -> None:
    assert store.save([]) == 0
    assert load(folder) == []


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "stem"),
    [
        ((Market.UM, "BTCUSDT", "1m"), "um.BTCUSDT.1m"),
        ((Market.UM, "BTCUSDT", "1M"), "um.BTCUSDT.1%4D"),
        ((Market.CM, "BTCUSD_PERP", "1w"), "cm.BTCUSD_PERP.1w"),
        ((Market.UM, "币USDT", "1m"), "um.%E5%B8%81USDT.1m"),
        ((Market.SPOT, "../../etc/passwd", "1m"), "spot.%2E%2E%2F%2E%2E%2F%65%74%63%2F%70%61%73%73%77%64.1m"),
        ((Market.SPOT, "A", "../1m"), "spot.A.%2E%2E%2F1m"),
        ((Market.SPOT, "", ""), "spot.."),
        ((Market.SPOT, "A%2F\0 \\:", "1m"), "spot.A%252F%00%20%5C%3A.1m"),
    ],
)
def test_name_of_a_file_is_plain(key: tuple[Market, str, str], stem: str) -> None:
    assert file_stem(*key) == stem


KEYS = st.tuples(
    st.sampled_from(list(Market)),
    st.text(st.characters(), max_size=80) | st.text("aA./\\%~_", max_size=8),
    st.sampled_from(["1m", "1M", "1%4D", "..", "/"]),
)


@given(KEYS, KEYS)
def test_names_differ_in_more_than_case_and_stay_in_the_folder(
    one: tuple[Market, str, str], other: tuple[Market, str, str]
) -> None:
    first, second = file_stem(*one), file_stem(*other)
    assert (first.lower() == second.lower()) == (one == other)
    assert re.fullmatch(r"[a-z]+\.[A-Z0-9_%a-z.~]*", first)
    assert len(first) + len(".candles.tmp") <= 255
    assert Path("/x", first).parent == Path("/x")


@pytest.mark.parametrize(
    "symbol", ["../../../outside", "a/b", "..", "\0", "\ud800", "币" * 50, "x" * 5000, "CON"]
)
def test_series_of_any_name_is_saved_inside_the_folder(
    folder: Path, store: CandleFiles, symbol: str, tmp_path: Path
) -> None:
    snapshot = series(symbol)
    store.save([snapshot])
    assert load(folder) == [snapshot]
    assert store.load_one(*snapshot.key) == snapshot
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == list(folder.iterdir())
    store.remove([snapshot.key])
    assert names(folder) == []


# --- what is written ---------------------------------------------------------------------------


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_only_changed_series_are_written(folder: Path, store: CandleFiles) -> None:
    btc, eth = series("BTCUSDT"), series("ETHUSDT")
    store.save([btc, eth])
    before = stamps(folder)
    assert store.save([btc, dataclasses.replace(eth, saved_ms=999)]) == 0
    assert stamps(folder) == before
    assert store.save([changed(btc), eth]) == 1
    assert stamps(folder)["um.ETHUSDT.1m.candles"] == before["um.ETHUSDT.1m.candles"]
    assert {each.symbol: len(each.open_times) for each in load(folder)} == {"BTCUSDT": 6, "ETHUSDT": 5}


@pytest.mark.parametrize("change", ["rows", "holes", "first row"])
def test_change_that_keeps_the_last_open_time_is_written(
    folder: Path, store: CandleFiles, change: str
) -> None:
    old = series()
    store.save([old])
    new = {
        "rows": dataclasses.replace(old, rows=b",".join(row(t, "1.6") for t in old.open_times)),
        "holes": dataclasses.replace(old, holes=()),
        "first row": series(count=4, first=START_MS + 60_000),
    }[change]
    assert store.save([new]) == 1
    assert load(folder) == [new]


def test_loaded_series_are_not_written_again_unless_changed(folder: Path, store: CandleFiles) -> None:
    btc, eth = series("BTCUSDT"), series("ETHUSDT")
    store.save([btc, eth])
    restarted = CandleFiles(folder)
    loaded = list(restarted.load())
    assert restarted.save([changed(loaded[0]), loaded[1]]) == 1
    again = CandleFiles(folder)
    assert again.load_one(*eth.key) is not None
    assert again.save([eth]) == 0


def test_file_removed_by_somebody_is_written_again(folder: Path, store: CandleFiles) -> None:
    store.save([series()])
    (folder / "um.BTCUSDT.1m.candles").unlink()
    folder.rmdir()
    assert store.save([series()]) == 1
    assert load(folder) == [series()]


def test_removed_series_are_gone_and_can_be_saved_again(folder: Path, store: CandleFiles) -> None:
    btc, eth = series("BTCUSDT"), series("ETHUSDT")
    store.save([btc, eth])
    store.remove(iter([btc.key, btc.key, (Market.UM, "UNKNOWN", "1m")]))
    assert load(folder) == [eth]
    assert store.save([btc, eth]) == 1
    assert len(load(folder)) == 2


def test_all_series_but_the_wanted_are_removed(folder: Path, store: CandleFiles) -> None:
    kept = [series("BTCUSDT"), series("币" * 60)]
    store.save([*kept, series("ETHUSDT"), series("BTCUSDT", interval="1M")])
    (folder / "broken.candles").write_bytes(b"x")
    (folder / "notes.txt").write_text("mine")
    assert store.remove_others([each.key for each in kept]) == 3
    assert {each.symbol for each in load(folder)} == {each.symbol for each in kept}
    assert (folder / "notes.txt").exists()
    assert store.save([*kept, series("ETHUSDT")]) == 1


# --- files that cannot be used -----------------------------------------------------------------


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "foreign", b"PK\x03\x04" + data
    yield "newer", data[:8] + struct.pack("<H", 2) + data[10:]
    yield "older", data[:8] + struct.pack("<H", 0) + data[10:]
    yield "zeros", bytes(len(data))
    yield "twice", data + data
    yield "longer", data + b"\n"
    yield "text mode", data.replace(b"\n", b"\r\n")
    yield "head only", data[:12]


def test_every_kind_of_damage_is_noticed_and_logged_once(
    folder: Path, store: CandleFiles, warnings: list[str]
) -> None:
    store.save([series("BTCUSDT"), series("ETHUSDT")])
    path = folder / "um.BTCUSDT.1m.candles"
    good = path.read_bytes()
    for name, bad in damaged(good):
        path.write_bytes(bad)
        warnings.clear()
        assert [each.symbol for each in load(folder)] == ["ETHUSDT"], name
        (line,) = warnings
        assert "'um.BTCUSDT.1m.candles'" in line
        assert line.isprintable()
        warnings.clear()
        assert CandleFiles(folder).load_one(Market.UM, "BTCUSDT", "1m") is None
        assert len(warnings) == 1


def test_file_cut_anywhere_is_noticed(folder: Path, store: CandleFiles, warnings: list[str]) -> None:
    store.save([series()])
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert store.load_one(*series().key) is None, length
    assert len(warnings) == len(good)


def test_each_flipped_bit_is_noticed(folder: Path, store: CandleFiles, warnings: list[str]) -> None:
    store.save([series()])
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1 << position % 8]) + good[position + 1 :])
        assert store.load_one(*series().key) is None, position
    assert len(warnings) == len(good)


def test_renamed_file_is_not_taken_for_another_series(
    folder: Path, store: CandleFiles, warnings: list[str]
) -> None:
    store.save([series("BTCUSDT"), series("ETHUSDT")])
    (folder / "um.BTCUSDT.1m.candles").rename(folder / "um.BTCUSDT.1h.candles")
    (folder / "um.ETHUSDT.1m.candles").rename(folder / "copy of.candles")
    assert load(folder) == []
    assert len(warnings) == 2
    assert all("renamed" in line for line in warnings)
    assert CandleFiles(folder).load_one(Market.UM, "BTCUSDT", "1h") is None


def test_what_is_no_file_is_logged_and_other_names_are_left_alone(
    folder: Path, store: CandleFiles, warnings: list[str]
) -> None:
    store.save([series()])
    (folder / "folder.candles").mkdir()
    (folder / "README").write_text("hello")
    assert load(folder) == [series()]
    assert len(warnings) == 1
    assert "folder.candles" in warnings[0]


def with_rows(rows: bytes, times: Iterable[int] = (), **header: Any) -> bytes:
    """Build a file whose checksums are right, whatever is in it."""
    head = files._header(series(rows=rows, open_times=list(times))) | header
    return files._encode(head, rows)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no JSON", with_rows(b"[1,", [1])),
        ("with outer brackets", with_rows(b"[" + row(1) + b"]", [1])),
        ("spaces", with_rows(row(1).replace(b",", b", "), [1])),
        ("eleven columns", with_rows(row(1).replace(b',"0"]', b"]"), [1])),
        ("thirteen columns", with_rows(row(1).replace(b"]", b',"0"]'), [1])),
        ("a number for a text", with_rows(row(1).replace(b'"2.00"', b"2.00"), [1])),
        ("a text for a number", with_rows(row(1).replace(b",77,", b',"77",'), [1])),
        ("a number with a leading zero", with_rows(row(1).replace(b",77,", b",077,"), [1])),
        ("a negative time", with_rows(row(-1), [-1])),
        ("a time too large", with_rows(row(10**19), [1])),
        ("a bracket in a text", with_rows(row(1).replace(b"2.00", b"],["), [1])),
        ("trailing comma", with_rows(row(1) + b",", [1])),
        ("empty element", with_rows(row(1) + b",," + row(2), [1, 2])),
        ("the same open time twice", with_rows(row(1) + b"," + row(1), [1, 1])),
        ("descending", with_rows(row(2) + b"," + row(1), [2, 1])),
        ("one open time too few", with_rows(row(1) + b"," + row(2), [1])),
        ("one open time too many", with_rows(row(1), [1, 2])),
        ("another open time", with_rows(row(1), [2])),
        ("no rows for an open time", with_rows(b"", [1])),
        ("an unknown market", with_rows(row(1), [1], market="moon")),
        ("wrong holes", with_rows(row(1), [1], holes=[[1]])),
        ("holes that are none", with_rows(row(1), [1], holes=3)),
        ("no number", with_rows(row(1), [1], saved_ms="now")),
        ("an infinite number", with_rows(row(1), [1], saved_ms=float("inf"))),
        ("a negative size", with_rows(row(1), [1], rows_bytes=-5)),
        ("a smaller size", with_rows(row(1) * 1000, [1], rows_bytes=5)),
        ("a larger size", with_rows(row(1), [1], rows_bytes=10**15)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_file_with_right_checksums_and_wrong_content_is_not_used(
    folder: Path, warnings: list[str], name: str, data: bytes
) -> None:
    folder.mkdir(parents=True)
    (folder / "um.BTCUSDT.1m.candles").write_bytes(data)
    assert load(folder) == []
    assert len(warnings) == 1
    assert "Error" not in warnings[0]


def test_checksums_of_the_test_above_are_right(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "um.BTCUSDT.1m.candles").write_bytes(with_rows(row(1), [1]))
    assert [list(each.open_times) for each in load(folder)] == [[1]]


@pytest.mark.parametrize("head", [b"", b"[]", b"null", b"{", b"{}", b"\xff"])
def test_header_of_another_shape_is_not_used(folder: Path, warnings: list[str], head: bytes) -> None:
    folder.mkdir(parents=True)
    prefix = struct.pack("<8sHII", b"\x89RESCDL\n", 1, len(head), zlib.crc32(head))
    (folder / "um.BTCUSDT.1m.candles").write_bytes(prefix + head + zlib.compress(b""))
    assert load(folder) == []
    assert "cannot be understood" in warnings[0]


def test_damaged_file_is_replaced_by_the_next_save(folder: Path, store: CandleFiles) -> None:
    store.save([series()])
    path = folder / "um.BTCUSDT.1m.candles"
    path.write_bytes(path.read_bytes()[:-3])
    restarted = CandleFiles(folder)
    assert list(restarted.load()) == []
    assert restarted.save([series()]) == 1
    assert load(folder) == [series()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_logged(folder: Path, store: CandleFiles, warnings: list[str]) -> None:
    store.save([series("BTCUSDT"), series("ETHUSDT")])
    (folder / "um.BTCUSDT.1m.candles").chmod(0)
    assert [each.symbol for each in load(folder)] == ["ETHUSDT"]
    assert "Permission" in warnings[0]


# --- saving that fails -------------------------------------------------------------------------


def fail(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_save_leaves_the_old_file_and_nothing_else(
    folder: Path, store: CandleFiles, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    old = series()
    store.save([old])
    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            store.save([changed(old)])
    assert names(folder) == ["um.BTCUSDT.1m.candles"]
    assert load(folder) == [old]
    assert store.save([changed(old)]) == 1
    assert load(folder) == [changed(old)]


def test_file_too_large_for_its_disk_leaves_the_old_one(folder: Path, store: CandleFiles) -> None:
    small, large = series("A", 3), series("B", 3000)
    store.save([small, series("B", 3)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="too large"):
            store.save([changed(small), large])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert names(folder) == ["um.A.1m.candles", "um.B.1m.candles"]
    # What came before the failure is saved.
    assert load(folder) == [changed(small), series("B", 3)]
    assert store.save([large]) == 1


def test_place_that_is_no_folder_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        CandleFiles(tmp_path / "file").save([series()])
    with pytest.raises(OSError):
        CandleFiles(tmp_path / "file" / "below").save([series()])
    assert load(tmp_path / "file") == []


def test_killed_process_leaves_the_old_file_and_the_rest_is_cleaned_up(
    folder: Path, store: CandleFiles
) -> None:
    store.save([series()])
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from resender.core.binance.markets import Market\n"
        "from resender.market import candle_files as files\n"
        "files.os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "rows = files.SeriesSnapshot(Market.UM, 'BTCUSDT', '1m', b'', (), (), 9)\n"
        "files.CandleFiles(Path(sys.argv[1])).save([rows])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, timeout=30)
    assert done.returncode == -9
    assert names(folder) == ["um.BTCUSDT.1m.candles", "um.BTCUSDT.1m.candles.tmp"]
    (folder / "other.tmp").write_text("not ours")
    assert load(folder) == [series()]
    assert names(folder) == ["other.tmp", "um.BTCUSDT.1m.candles"]


def test_leftovers_are_cleaned_up_by_saving_too(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / f"um.OLD.1m{SUFFIX}.tmp").write_bytes(b"half")
    CandleFiles(folder).save([series()])
    assert names(folder) == ["um.BTCUSDT.1m.candles"]


def test_reader_never_sees_half_a_file(folder: Path, store: CandleFiles, warnings: list[str]) -> None:
    versions = [series(count=200), series(count=900)]
    store.save(versions[:1])
    ending = threading.Event()

    def write() -> None:
        for n in range(60):
            store.save([versions[n % 2]])
        ending.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not ending.is_set():
        loaded = CandleFiles(folder).load_one(*versions[0].key)
        assert loaded in versions
        seen.add(len(loaded.open_times))
    writer.join()
    assert seen <= {200, 900}
    assert warnings == []
