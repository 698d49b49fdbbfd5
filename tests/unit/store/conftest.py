"""Helpers for tests that open a SQLite file directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resender.store import Repository, open_repository


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def repository(url: str) -> Iterator[Repository]:
    with open_repository(url) as opened:
        yield opened
