"""From a file to each kind of server and back: all rows the same, and numbers go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.errors import StoreError
from resender.store import copy_database, open_repository
from tests.unit.store.test_copying import fill, whole

pytestmark = pytest.mark.component


def test_there_and_back_every_row_is_as_it_was(database_url: str, tmp_path: Path) -> None:
    source, back = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "back.db"))
    fill(source)
    there = copy_database(source, database_url)
    assert copy_database(database_url, back) == there
    assert whole(source) == whole(database_url) == whole(back)
    for url in (database_url, back):
        with open_repository(url) as repository:
            assert repository.whitelist_add("10.9.0.1", "").id > 6
    with pytest.raises(StoreError, match="holds rows already"):
        copy_database(source, database_url)
