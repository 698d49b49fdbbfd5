"""Preload rules."""

from typing import Any

import peewee

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)

    class Preload(peewee.Model):
        market = peewee.CharField(max_length=16)
        symbols = peewee.TextField()
        what = peewee.CharField(max_length=255)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "preload"
            table_settings = options

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "state"
            table_settings = options

    create_missing(db, Preload)
    if not State.select().where(State.key == "preload_revision").exists():
        State.insert(key="preload_revision", value="0").execute()
