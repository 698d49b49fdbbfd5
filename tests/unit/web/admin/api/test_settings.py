"""The settings in force, for people: where each comes from, and secrets masked."""

from __future__ import annotations

from resender.config import SETTINGS
from resender.config_loading import load_config
from resender.core.redact import MASK
from resender.web.admin.api.settings import settings
from tests.unit.web.serving import administered, make_services

PASSWORD = "hush-hush-1"


def test_every_setting_is_listed_with_its_default_and_where_it_comes_from() -> None:
    config = load_config(
        {"PORT": 9000, "WHITELIST": ["10.0.0.1", "::1"]}, {"RESENDER_HOST": "::1"}, {"data_dir".upper(): "x"}
    )
    found = {row["name"]: row for row in settings(config)}
    assert set(found) == set(SETTINGS)
    assert (found["PORT"]["value"], found["PORT"]["default"]) == ("9000", "8000")
    assert found["WHITELIST"]["value"] == "10.0.0.1, ::1"
    assert found["WHITELIST"]["default"] == ""
    sources = {name: found[name]["source"] for name in ("PORT", "HOST", "DATA_DIR", "LOG_LEVEL")}
    assert sources == {
        "PORT": "settings.py", "HOST": "RESENDER_HOST", "DATA_DIR": "--data-dir", "LOG_LEVEL": "default",
    }  # fmt: skip


def test_secret_is_masked_and_said_to_be_one() -> None:
    config = load_config(
        {"DATABASE_URL": f"postgresql://me:{PASSWORD}@db/x", "EGRESS": f"via=socks5://me:{PASSWORD}@127.0.0.1:9",
         "ADMIN_PASSWORD": PASSWORD}, {},
    )  # fmt: skip
    rows = settings(config)
    assert PASSWORD not in str(rows)
    masked = {row["name"] for row in rows if row["value"] == MASK}
    assert {"DATABASE_URL", "EGRESS", "ADMIN_PASSWORD"} <= masked
    assert all(row["secret"] for row in rows if row["name"] in masked)


def test_secret_that_is_not_set_is_empty() -> None:
    rows = {row["name"]: row for row in settings(load_config({}, {}))}
    assert rows["ADMIN_PASSWORD"]["value"] == ""


async def test_settings_are_those_of_the_running_gateway() -> None:
    async with administered(make_services(port=9001)) as one:
        items = (await one.get("settings"))["items"]
    assert next(item["value"] for item in items if item["name"] == "PORT") == "9001"
