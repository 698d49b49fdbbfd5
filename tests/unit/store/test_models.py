"""The models: one set for each database, and what MySQL needs to store any text."""

from __future__ import annotations

import dataclasses

import peewee

from resender.store.models import Models, build_models, table_settings

SQLITE = peewee.SqliteDatabase(":memory:")
POSTGRESQL = peewee.PostgresqlDatabase(None)
MYSQL = peewee.MySQLDatabase(None)


def every(models: Models) -> list[peewee.Model]:
    return [getattr(models, field.name) for field in dataclasses.fields(models)]


def test_models_of_two_databases_do_not_know_each_other() -> None:
    one, other = build_models(SQLITE), build_models(peewee.SqliteDatabase(":memory:"))
    for mine, theirs in zip(every(one), every(other), strict=True):
        assert mine is not theirs
        assert mine._meta.database is SQLITE
        assert theirs._meta.database is not SQLITE


def test_every_table_has_a_name_of_its_own_and_is_the_same_on_each_database() -> None:
    names = [
        [model._meta.table_name for model in every(build_models(db))] for db in (SQLITE, POSTGRESQL, MYSQL)
    ]
    assert names[0] == names[1] == names[2]
    assert len(set(names[0])) == len(names[0])


def test_numbers_of_removed_accounts_are_not_given_again_on_sqlite() -> None:
    models = build_models(SQLITE)
    for model in (models.user, models.session, models.token, models.audit):
        sql, _ = model._schema._create_table().query()
        assert "AUTOINCREMENT" in sql


def test_times_and_sizes_have_room_for_64_bits() -> None:
    wide = (peewee.BigIntegerField,)
    for model in every(build_models(SQLITE)):
        for name, field in model._meta.fields.items():
            if name.endswith("_ms") and name != "duration_ms":
                assert isinstance(field, wide), (model, name)


def test_only_mysql_has_to_be_told_its_character_set() -> None:
    assert table_settings(SQLITE) is None
    assert table_settings(POSTGRESQL) is None
    (settings,) = table_settings(MYSQL) or []
    assert "utf8mb4_bin" in settings
