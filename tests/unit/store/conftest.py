"""Helpers for tests that open a SQLite file directly.

- `moment`: the time it is for the repository, moved by hand.
- `repository`: all functions on an empty database.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resender.store import Repository, open_repository
from tests.support.moment import Moment


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def repository(url: str, moment: Moment) -> Iterator[Repository]:
    with open_repository(url, now_ms=moment) as opened:
        yield opened
