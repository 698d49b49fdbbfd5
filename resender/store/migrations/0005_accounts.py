"""Accounts that are watched, and the digests of their keys."""

from typing import Any

import peewee
from playhouse.sqlite_ext import AutoIncrementField

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)
    numbers = AutoIncrementField if isinstance(db, peewee.SqliteDatabase) else peewee.AutoField

    class Account(peewee.Model):
        id = numbers()
        name = peewee.CharField(max_length=64)
        name_key = peewee.CharField(max_length=64, unique=True)
        market = peewee.CharField(max_length=16)
        mode = peewee.CharField(max_length=16)
        sealed = peewee.TextField(null=True)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "account"
            table_settings = options

    class AccountKey(peewee.Model):
        id = numbers()
        account_id = peewee.IntegerField(index=True)
        digest = peewee.CharField(max_length=64, index=True)
        hint = peewee.CharField(max_length=8)
        public_key = peewee.TextField(null=True)
        source = peewee.CharField(max_length=16)
        created_ms = peewee.BigIntegerField()

        class Meta:
            database = db
            table_name = "account_key"
            table_settings = options

    class State(peewee.Model):
        key = peewee.CharField(max_length=64, primary_key=True)
        value = peewee.TextField()

        class Meta:
            database = db
            table_name = "state"
            table_settings = options

    create_missing(db, Account, AccountKey)
    if not State.select().where(State.key == "account_revision").exists():
        State.insert(key="account_revision", value="0").execute()
