"""Users, sessions, tokens and audit of the admin pages; which log rows are errors.

Numbers of removed rows are never given again: an audit entry or a stale page must not mean
another row than the one it was made for. SQLite alone needs to be told.
"""

from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)
    numbers = AutoIncrementField if isinstance(db, peewee.SqliteDatabase) else peewee.AutoField

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
            database = db
            table_name = "admin_user"
            table_settings = options

    class AdminSession(peewee.Model):
        id = numbers()
        user_id = peewee.IntegerField(index=True)
        digest = peewee.CharField(max_length=64, unique=True)
        created_ms = peewee.BigIntegerField()
        last_seen_ms = peewee.BigIntegerField()
        ip = peewee.CharField(max_length=64)
        user_agent = peewee.CharField(max_length=255)

        class Meta:
            database = db
            table_name = "admin_session"
            table_settings = options

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
            database = db
            table_name = "admin_token"
            table_settings = options

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
            database = db
            table_name = "admin_audit"
            table_settings = options
            indexes = ((("actor", "id"), False), (("action", "id"), False))

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "state"
            table_settings = options

    create_missing(db, AdminUser, AdminSession, AdminToken, AdminAudit)
    for key, value in (
        ("users_revision", "0"),
        ("users_seeded", "0"),
        ("log_retention_days", ""),
        ("log_max_rows", ""),
    ):
        if not State.select().where(State.key == key).exists():
            State.insert(key=key, value=value).execute()
    _mark_errors(db)


def _mark_errors(db: Any) -> None:
    """Add a column and an index by which the viewer finds errors among a million rows."""

    class RequestLog(peewee.Model):
        is_error = peewee.SmallIntegerField()
        time_ms = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "request_log"
            indexes = ((("is_error", "time_ms"), False),)

    if "is_error" not in {column.name for column in db.get_columns("request_log")}:
        db.execute_sql("ALTER TABLE request_log ADD COLUMN is_error SMALLINT NOT NULL DEFAULT 0")
    db.execute_sql("UPDATE request_log SET is_error = 1 WHERE status >= 400 OR error IS NOT NULL")
    create_missing(db, RequestLog)
