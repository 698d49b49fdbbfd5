"""Whitelist and state."""

from typing import Any

import peewee

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)

    class Whitelist(peewee.Model):
        address = peewee.CharField(max_length=64, unique=True)
        note = peewee.TextField()
        enabled = peewee.BooleanField()
        created_ms = peewee.BigIntegerField()
        updated_ms = peewee.BigIntegerField()
        last_seen_ms = peewee.BigIntegerField(null=True)
        calls = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "whitelist"
            table_settings = options

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "state"
            table_settings = options

    create_missing(db, Whitelist, State)
    for key, value in (
        ("whitelist_revision", "0"),
        ("whitelist_seeded", "0"),
        ("log_enabled", "0"),
        ("last_write_ms", "0"),
    ):
        if not State.select().where(State.key == key).exists():
            State.insert(key=key, value=value).execute()
