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


def test_environment_overrides_file_and_arguments_override_both() -> None:
    assert load_config({"PORT": 1}, {}).port == 1
    assert load_config({"PORT": 1}, {"RESENDER_PORT": "2"}).port == 2
    assert load_config({"PORT": 1}, {"RESENDER_PORT": "2"}, {"PORT": "3"}).port == 3
    assert load_config({}, {"RESENDER_PORT": "2"}, {"PORT": None}).port == 2


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_empty_value_means_the_default(name: str) -> None:
    config = load_config({}, {f"RESENDER_{name}": " "})
    assert getattr(config, name.lower()) == SETTINGS[name].default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "8080", 8080),
        ("MAX_BODY_BYTES", "2_000", 2000),
        ("CONNECT_TIMEOUT_S", "0.5", 0.5),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("UPSTREAM_API", "https://api1.binance.com/", "https://api1.binance.com"),
        ("UPSTREAM_API", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("UPSTREAM_EAPI", "OFF", "off"),
        ("STREAM_UM", "ws://[::1]:9000", "ws://[::1]:9000"),
        (
            "WHITELIST",
            "203.0.113.5, 203.0.113.0/24 ,,::ffff:1.2.3.4",
            ("203.0.113.5", "203.0.113.0/24", "1.2.3.4"),
        ),
        ("TRUSTED_PROXIES", "127.0.0.1", ("127.0.0.1",)),
    ],
)
def test_value_is_read(name: str, text: str, value: object) -> None:
    assert getattr(load_config({}, {f"RESENDER_{name}": text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "x"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80.5"),
        ("CONNECT_TIMEOUT_S", "0"),
        ("CONNECT_TIMEOUT_S", "nan"),
        ("CONNECT_TIMEOUT_S", "soon"),
        ("MAX_IN_FLIGHT", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("UPSTREAM_API", "api.binance.com"),
        ("UPSTREAM_API", "ftp://api.binance.com"),
        ("UPSTREAM_API", "https://api.binance.com/api"),
        ("UPSTREAM_API", "https://user:pw@api.binance.com"),
        ("UPSTREAM_API", "https://api.binance.com?x=1"),
        ("UPSTREAM_API", "https://"),
        ("UPSTREAM_API", "https://host:99999"),
        ("UPSTREAM_API", "https://ho st"),
        ("STREAM_UM", "https://fstream.binance.com"),
        ("WHITELIST", "203.0.113.5,nonsense"),
        ("WHITELIST", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "localhost"),
    ],
)
def test_bad_value_is_one_clear_line_that_names_the_setting(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({}, {f"RESENDER_{name}": text})
    assert f"RESENDER_{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_name_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"RESENDER_WHITE_LIST.*did you mean WHITELIST\?\)"):
        load_config({}, {"RESENDER_WHITE_LIST": "x"})
    with pytest.raises(ConfigError, match="NONSENSE"):
        load_config({"NONSENSE": 1}, {})


def test_wrong_types_in_the_file_are_refused() -> None:
    for values in ({"PORT": True}, {"PORT": [1]}, {"HOST": 5}, {"WHITELIST": 5}, {"READ_TIMEOUT_S": True}):
        with pytest.raises(ConfigError):
            load_config(values, {})


def test_secret_is_not_in_the_error_nor_shown() -> None:
    config = load_config({}, {"RESENDER_ADMIN_PASSWORD": "hunter2"})
    assert "hunter2" not in shown_value(config, "ADMIN_PASSWORD")
    assert config.admin_password == "hunter2"
    with pytest.raises(ConfigError) as caught:
        load_config({"DATABASE_URL": 5}, {})
    assert "5" not in str(caught.value)


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
