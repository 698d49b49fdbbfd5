"""The settings of operation, as part of the table of all settings."""

from __future__ import annotations

from dataclasses import fields

import pytest

from resender.config import SETTINGS, shown_value
from resender.config_loading import load_config
from resender.config_operations import OperationSettings
from resender.errors import ConfigError


def test_they_are_settings_like_the_others() -> None:
    assert {field.name.upper() for field in fields(OperationSettings)} <= SETTINGS.keys()
    config = load_config({"ALERT_CACHE_S": 30}, {"RESENDER_METRICS_TOKEN": "sixteen-or-more!"})
    assert (config.alert_cache_s, config.metrics_token) == (30.0, "sixteen-or-more!")
    assert "sixteen" not in shown_value(config, "METRICS_TOKEN")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("METRICS_TOKEN", "short", "16 characters"),
        ("TLS_KEY", "/a/key.pem", "TLS_CERT"),
        ("ALERT_EGRESS", "nowhere", "no entry of EGRESS"),
        ("ALERT_CACHE_S", "1", "between"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config({name: value}, {})


def test_alerts_do_not_leave_through_another_gateway() -> None:
    egress = ["other=resender://127.0.0.1:8000", "default"]
    with pytest.raises(ConfigError, match="ALERT_EGRESS"):
        load_config({"EGRESS": egress, "ALERT_EGRESS": "other"}, {})
    assert load_config({"EGRESS": egress, "ALERT_EGRESS": "default"}, {}).alert_egress == "default"
