"""What this version would do to a database; `upgrade --check` tells it (tests/unit/cli/test_upgrade.py)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from resender.store import UpgradeFailed, open_repository, schema, try_upgrade, upgrading
from tests.unit.store.test_schema import connect


@pytest.mark.parametrize(
    ("newest", "version"),
    [("0001_initial", "0.1.0"), ("0003_preload", "0.1.0"), ("0004_admin", "0.2.0"), ("0005_accounts", None)],
)
def test_version_that_used_it_last_is_known_by_the_schema_where_nobody_wrote_it_down(
    tmp_path: Path, newest: str, version: str | None
) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with closing(connect(url)) as database:
        schema.upgrade(database, target=newest)
    found = try_upgrade(url)
    assert found is not None
    assert (found.last_version, found.was_tried) == (version, True)
    assert found.pending == tuple(name for name in schema.known_versions() if name > newest)


def test_written_version_counts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with open_repository(url) as repository:
        repository.state_set("program_version", "7.8.9")
    found = try_upgrade(url)
    assert found is not None
    assert (found.last_version, found.pending, found.was_tried) == ("7.8.9", (), False)


def test_empty_file_is_no_database_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    assert try_upgrade(f"sqlite:///{tmp_path / 'a.db'}") is None
    assert try_upgrade(f"sqlite:///{tmp_path / 'none.db'}") is None


def test_upgrade_that_would_fail_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with closing(connect(url)) as database:
        schema.upgrade(database, target="0004_admin")
        database.execute_sql("CREATE VIEW account_key AS SELECT 1")
    with pytest.raises(UpgradeFailed, match="cannot be brought up to date"):
        try_upgrade(url)
    assert [path.name for path in tmp_path.iterdir() if "checking" in path.name] == []
    assert upgrading.undo(str(tmp_path / "a.db")) is False
