"""The tables as peewee models.

There is no global database here: `build_models` makes a set of models for one database, so two
databases in one process, each on its own thread, cannot be mixed up. The migration scripts hold
their own frozen copies; `tests/unit/store` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one database."""

    # peewee ships no type hints.
    whitelist: Any
    state: Any
    request_log: Any
    preload: Any
    user: Any
    session: Any
    token: Any
    audit: Any
    account: Any
    account_key: Any
    alert_channel: Any
    alert_event: Any


def table_settings(database: Any) -> list[str] | None:
    """Return what CREATE TABLE needs so that any text can be stored."""
    if isinstance(database, peewee.MySQLDatabase):
        return ["DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"]
    return None


def build_models(database: Any) -> Models:
    """Make the models of `database`."""
    bound = database
    # SQLite alone has to be told that numbers of removed rows are not given again.
    numbers = AutoIncrementField if isinstance(database, peewee.SqliteDatabase) else peewee.AutoField

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
        is_error = peewee.SmallIntegerField()

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

    class AdminUser(peewee.Model):
        id = numbers()
        username = peewee.CharField(max_length=64)
        username_key = peewee.CharField(max_length=64, unique=True)
        password_hash = peewee.CharField(max_length=255)
        enabled = peewee.BooleanField()
        must_change = peewee.BooleanField()
        created_ms = peewee.BigIntegerField()
        updated_ms = peewee.BigIntegerField()
        last_login_ms = peewee.BigIntegerField(null=True)
        last_login_ip = peewee.CharField(max_length=64, null=True)

        class Meta:
            database = bound
            table_name = "admin_user"

    class AdminSession(peewee.Model):
        id = numbers()
        user_id = peewee.IntegerField(index=True)
        digest = peewee.CharField(max_length=64, unique=True)
        created_ms = peewee.BigIntegerField()
        last_seen_ms = peewee.BigIntegerField()
        ip = peewee.CharField(max_length=64)
        user_agent = peewee.CharField(max_length=255)

        class Meta:
            database = bound
            table_name = "admin_session"

    class AdminToken(peewee.Model):
        id = numbers()
        user_id = peewee.IntegerField(index=True)
        name = peewee.CharField(max_length=100)
        scope = peewee.CharField(max_length=16)
        digest = peewee.CharField(max_length=64, unique=True)
        created_ms = peewee.BigIntegerField()
        expires_ms = peewee.BigIntegerField(null=True)
        last_used_ms = peewee.BigIntegerField(null=True)
        last_used_ip = peewee.CharField(max_length=64, null=True)

        class Meta:
            database = bound
            table_name = "admin_token"

    class AdminAudit(peewee.Model):
        id = numbers()
        time_ms = peewee.BigIntegerField()
        actor = peewee.CharField(max_length=64)
        ip = peewee.CharField(max_length=64)
        action = peewee.CharField(max_length=64)
        subject = peewee.CharField(max_length=255)
        before = peewee.TextField(null=True)
        after = peewee.TextField(null=True)

        class Meta:
            database = bound
            table_name = "admin_audit"

    class Account(peewee.Model):
        id = numbers()
        name = peewee.CharField(max_length=64)
        name_key = peewee.CharField(max_length=64, unique=True)
        market = peewee.CharField(max_length=16)
        mode = peewee.CharField(max_length=16)
        sealed = peewee.TextField(null=True)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = bound
            table_name = "account"

    class AccountKey(peewee.Model):
        id = numbers()
        account_id = peewee.IntegerField(index=True)
        digest = peewee.CharField(max_length=64, index=True)
        hint = peewee.CharField(max_length=8)
        public_key = peewee.TextField(null=True)
        source = peewee.CharField(max_length=16)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = bound
            table_name = "account_key"

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
            database = bound
            table_name = "alert_channel"

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
            database = bound
            table_name = "alert_event"

    return Models(
        Whitelist,
        State,
        RequestLog,
        Preload,
        AdminUser,
        AdminSession,
        AdminToken,
        AdminAudit,
        Account,
        AccountKey,
        AlertChannel,
        AlertEvent,
    )
