"""Channels of alerts, and what was told."""

from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)
    numbers = AutoIncrementField if isinstance(db, peewee.SqliteDatabase) else peewee.AutoField

    class AlertChannel(peewee.Model):
        id = numbers()
        name = peewee.CharField(max_length=64)
        name_key = peewee.CharField(max_length=64, unique=True)
        kind = peewee.CharField(max_length=16)
        sealed = peewee.TextField()
        shown = peewee.TextField()
        language = peewee.CharField(max_length=8)
        least = peewee.CharField(max_length=16)
        quiet = peewee.CharField(max_length=40)
        enabled = peewee.BooleanField()
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "alert_channel"
            table_settings = options

    class AlertEvent(peewee.Model):
        id = numbers()
        time_ms = peewee.BigIntegerField()
        node = peewee.CharField(max_length=64)
        kind = peewee.CharField(max_length=32)
        subject = peewee.CharField(max_length=255)
        level = peewee.CharField(max_length=16)
        lasted_s = peewee.IntegerField(null=True)
        details = peewee.TextField()
        told = peewee.TextField()

        class Meta:
            database = db
            table_name = "alert_event"
            table_settings = options

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "state"
            table_settings = options

    create_missing(db, AlertChannel, AlertEvent)
    if not State.select().where(State.key == "alert_revision").exists():
        State.insert(key="alert_revision", value="0").execute()
