"""The table of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from resender.config import SETTINGS, Config, shown_value
from resender.config_loading import load_config
from resender.core.binance.markets import Market
from resender.errors import ConfigError
from resender.settings_file import read_settings_file

PROMISED = {
    "HOST", "PORT", "DATA_DIR", "DATABASE_URL", "UPSTREAM_API", "UPSTREAM_FAPI", "UPSTREAM_DAPI", "UPSTREAM_EAPI",
    "UPSTREAM_PAPI", "STREAM_SPOT", "STREAM_UM", "STREAM_CM", "STREAM_MARGIN", "WS_API_SPOT", "WS_API_UM",
    "WS_API_CM", "MAX_STREAM_CLIENTS", "MAX_CLIENT_STREAMS", "CLIENT_QUEUE_BYTES", "STREAM_LINGER_S",
    "STREAM_LAST_FRAME", "STREAM_DEFLATE", "UPSTREAM_DATA", "HOST_SUFFIX", "PROXY_HOSTS", "CLOSE_FIRST_MS",
    "CLOSE_DEADLINE_MS", "WHITELIST", "TRUSTED_PROXIES", "ADMIN_PASSWORD",
    "EGRESS", "LOG_LEVEL", "CONNECT_TIMEOUT_S", "READ_TIMEOUT_S", "TOTAL_TIMEOUT_S", "MAX_IN_FLIGHT",
    "MAX_BODY_BYTES", "LOG_RETENTION_DAYS", "LOG_MAX_ROWS",
}  # fmt: skip


def test_names_other_programs_rely_on_exist() -> None:
    assert set(SETTINGS) >= PROMISED


def test_settings_file_names_every_setting_with_its_default() -> None:
    values = read_settings_file()
    assert set(values) == set(SETTINGS)
    assert load_config(values, {}) == Config()


def test_every_setting_in_the_file_has_a_comment() -> None:
    lines = (Path(__file__).parents[2] / "settings.py").read_text().splitlines()
    for name in SETTINGS:
        number = next(n for n, line in enumerate(lines) if line.startswith(f"{name} = "))
        block = lines[max(0, number - 5) : number + 1]
        assert any("#" in line for line in block), name


def test_secret_is_not_shown() -> None:
    config = load_config({}, {"RESENDER_ADMIN_PASSWORD": "hunter2"})
    assert "hunter2" not in shown_value(config, "ADMIN_PASSWORD")
    assert config.admin_password == "hunter2"


def test_market_that_is_off_has_no_upstream() -> None:
    config = load_config({}, {"RESENDER_UPSTREAM_EAPI": "off"})
    assert Market.OPTIONS not in config.upstreams
    assert len(config.upstreams) == 4


def test_database_lies_in_the_data_folder_unless_it_is_named(tmp_path: Path) -> None:
    assert load_config({"DATA_DIR": str(tmp_path)}, {}).database == f"sqlite:///{tmp_path}/resender.db"
    assert load_config({"DATABASE_URL": "postgresql://x/y"}, {}).database == "postgresql://x/y"


@pytest.mark.parametrize("text", ["PORT = = 1", "import nonsense_module_xyz", "1/0"])
def test_settings_file_that_cannot_be_run_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"settings\.py") as caught:
        read_settings_file(file)
    assert "\n" not in str(caught.value)
