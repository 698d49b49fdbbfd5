"""`doctor` on the command line; what it finds out is tests/unit/test_doctor.py and test_machine_check.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from resender import doctor as examining
from resender import machine_check
from resender.cli.main import main
from resender.config import Config
from resender.core.binance.markets import Market
from resender.doctor import Examination
from resender.machine_check import Finding

GOOD = Examination(Market.SPOT, "https://api.binance.com", ping_ms=1.0, status=200, verdict="ok", is_ok=True)
BAD = Examination(Market.UM, "https://fapi.binance.com", verdict="no TCP connection")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Answer for the upstreams; the settings `examine` was handed are returned."""
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RESENDER_CACHE_ENABLED", "false")
    monkeypatch.setenv("RESENDER_MAX_STREAM_CLIENTS", "0")
    handed: list[Config] = []
    monkeypatch.setattr(examining, "examine", _examine(handed, GOOD))
    return handed


def _examine(handed: list[Config], *results: Examination) -> Any:
    async def examine(config: Config) -> AsyncIterator[Examination]:
        handed.append(config)
        for result in results:
            yield result

    return examine


def _machine(*findings: Finding) -> Any:
    def check(config: Config) -> Iterator[Finding]:
        yield from findings

    return check


def test_exit_code_is_0_only_if_all_answer(
    asked: list[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    assert "All 1 upstreams answer." in capsys.readouterr().out
    monkeypatch.setattr(examining, "examine", _examine(asked, GOOD, BAD))
    assert main(["doctor"]) == 1
    assert "1 of 2 upstreams do not answer" in capsys.readouterr().out
    monkeypatch.setattr(examining, "examine", _examine(asked))
    assert main(["doctor"]) == 1
    assert "No upstream is switched on." in capsys.readouterr().out


def test_deep_tries_streams_whatever_the_settings_say(
    asked: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_check, "check_machine", _machine())
    assert main(["doctor"]) == 0
    assert main(["doctor", "--deep"]) == 0
    plain, deep = asked
    assert (plain.cache_enabled, plain.max_stream_clients) == (False, 0)
    assert (deep.cache_enabled, deep.max_stream_clients) == (True, 1)


def test_deep_fails_with_any_finding_and_tells_what_to_do(
    asked: list[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = (Finding("memory", True, "1 GB"), Finding("disk", False, "1 MB are free", "remove something"))
    monkeypatch.setattr(machine_check, "check_machine", _machine(*findings))
    assert main(["doctor", "--deep"]) == 1
    told = capsys.readouterr().out
    assert "disk         FAILED 1 MB are free\n             to do: remove something\n" in told
    assert "memory       ok     1 GB\n" in told


def test_deep_asks_redis_where_there_is_one(
    asked: list[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine_check, "check_machine", _machine())
    monkeypatch.setenv("RESENDER_REDIS_URL", "redis://127.0.0.1:9")
    assert main(["doctor", "--deep"]) == 1
    assert "redis        FAILED" in capsys.readouterr().out
