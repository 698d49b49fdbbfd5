"""The tables as peewee models.

There is no global database here: `build_models` makes a set of models for one database, so two
databases in one process, each on its own thread, cannot be mixed up. The migration scripts hold
their own frozen copies; `tests/unit/store` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peewee


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one database."""

    # peewee ships no type hints.
    whitelist: Any
    state: Any
    request_log: Any
    preload: Any


def table_settings(database: Any) -> list[str] | None:
    """Return what CREATE TABLE needs so that any text can be stored."""
    if isinstance(database, peewee.MySQLDatabase):
        return ["DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"]
    return None


def build_models(database: Any) -> Models:
    """Make the models of `database`."""
    bound = database

    class Whitelist(peewee.Model):
        address = peewee.CharField(max_length=64, unique=True)
        note = peewee.TextField()
        enabled = peewee.BooleanField()
        created_ms = peewee.BigIntegerField()
        updated_ms = peewee.BigIntegerField()
        last_seen_ms = peewee.BigIntegerField(null=True)
        calls = peewee.BigIntegerField()

        class Meta:
            database = bound
            table_name = "whitelist"

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = bound
            table_name = "state"

    class RequestLog(peewee.Model):
        id = peewee.BigAutoField()
        time_ms = peewee.BigIntegerField()
        ip = peewee.CharField(max_length=64)
        method = peewee.CharField(max_length=16)
        market = peewee.CharField(max_length=16)
        path = peewee.TextField()
        status = peewee.IntegerField()
        upstream_status = peewee.IntegerField(null=True)
        duration_ms = peewee.DoubleField()
        bytes = peewee.BigIntegerField()
        error = peewee.TextField(null=True)

        class Meta:
            database = bound
            table_name = "request_log"

    class Preload(peewee.Model):
        market = peewee.CharField(max_length=16)
        symbols = peewee.TextField()
        what = peewee.CharField(max_length=255)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = bound
            table_name = "preload"

    return Models(Whitelist, State, RequestLog, Preload)
