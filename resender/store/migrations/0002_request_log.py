"""Request log.

Every index ends in `time_ms`: the viewer pages newest first inside each filter, and a range of
time then is a range of the index. The id that breaks ties needs no column of its own: SQLite and
InnoDB append it to every index, PostgreSQL sorts the few ties.
"""

from typing import Any

import peewee

from resender.store.models import table_settings
from resender.store.schema import create_missing


def up(migrator: Any, db: Any) -> None:
    options = table_settings(db)

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
            database = db
            table_name = "request_log"
            table_settings = options
            indexes = (
                (("time_ms",), False),
                (("ip", "time_ms"), False),
                (("market", "time_ms"), False),
                (("status", "time_ms"), False),
            )

    create_missing(db, RequestLog)
