"""How the values of settings are found: the file, the environment over it, arguments over both."""

from __future__ import annotations

import pytest

from resender.config import SETTINGS, Config, shown_value
from resender.config_loading import ENVIRONMENT_PREFIX, load_config
from resender.errors import ConfigError


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
        (
            "CONSENT_MAX_AGE_MS",
            "ticker/24hr=2000, um:premiumIndex=1000",
            ("ticker/24hr=2000", "um:premiumIndex=1000"),
        ),
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
        ("CONSENT_MAX_AGE_MS", "ticker/24hr"),
        ("CONSENT_MAX_AGE_MS", "klines=1000"),
        ("CONSENT_MAX_AGE_MS", "um:avgPrice=1000"),
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


def test_key_of_secrets_is_long_and_never_shown() -> None:
    with pytest.raises(ConfigError, match="must have 32 characters or more") as caught:
        load_config({}, {"RESENDER_SECRET_KEY": "too-short-a-key"})
    assert "too-short" not in str(caught.value)
    config = load_config({}, {"RESENDER_SECRET_KEY": "k" * 32})
    assert config.secret_key == "k" * 32
    assert shown_value(config, "SECRET_KEY") == "***"


def test_nodes_that_reach_each_other_need_a_secret() -> None:
    given = {"RESENDER_REDIS_URL": "redis://:hidden@host", "RESENDER_NODE_URL": "http://10.0.0.5:8000"}
    with pytest.raises(ConfigError, match="NODE_SECRET: it is needed with REDIS_URL and NODE_URL"):
        load_config({}, given)
    config = load_config({}, given | {"RESENDER_NODE_SECRET": "n" * 32})
    assert shown_value(config, "REDIS_URL") == shown_value(config, "NODE_SECRET") == "***"
    assert load_config({}, {"RESENDER_NODE_URL": "http://10.0.0.5:8000"}).redis_url == ""
    with pytest.raises(ConfigError, match="must be such as redis://") as caught:
        load_config({}, {"RESENDER_REDIS_URL": "hidden@host"})
    assert "hidden" not in str(caught.value)


def test_secret_is_not_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"DATABASE_URL": 5}, {})
    assert "5" not in str(caught.value)


def test_nothing_given_means_the_defaults() -> None:
    assert load_config({}, {}) == Config()
    assert load_config({}, {}).sources == {}


def test_only_names_with_the_prefix_are_taken_from_the_environment() -> None:
    environ = {"PORT": "1", "XRESENDER_PORT": "2", "resender_PORT": "3", f"{ENVIRONMENT_PREFIX}PORT": "4"}
    assert load_config({}, environ).port == 4


def test_each_value_that_was_given_has_its_source() -> None:
    config = load_config(
        {"PORT": 1, "HOST": "::", "READ_TIMEOUT_S": ""},
        {"RESENDER_PORT": "2", "RESENDER_LOG_LEVEL": "INFO"},
        {"DATA_DIR": "x", "LOG_FORMAT": None},
    )
    assert config.sources == {
        "PORT": "RESENDER_PORT",
        "HOST": "settings.py",
        "LOG_LEVEL": "RESENDER_LOG_LEVEL",
        "DATA_DIR": "--data-dir",
    }


def test_empty_value_of_a_stronger_source_hides_the_weaker_one() -> None:
    assert load_config({"PORT": 1}, {"RESENDER_PORT": ""}).port == Config().port


def test_wrong_value_names_where_it_stands() -> None:
    for given, where in (
        (({"PORT": "x"}, {}), "settings.py: PORT = 'x': "),
        (({}, {"RESENDER_PORT": "x"}), "RESENDER_PORT = 'x': "),
        (({}, {}, {"MAX_IN_FLIGHT": "x"}), "--max-in-flight = 'x': "),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(*given)
        assert str(caught.value).startswith(where)


def test_unknown_argument_is_refused_with_a_hint() -> None:
    with pytest.raises(
        ConfigError, match=r"--log-levle: there is no such setting \(did you mean LOG_LEVEL\?\)"
    ):
        load_config({}, {}, {"LOG_LEVLE": "INFO"})


def test_pin_to_an_egress_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="EGRESS_PINS: no entry of EGRESS is named 'hk'"):
        load_config({"EGRESS": ["us=127.0.0.2"], "EGRESS_PINS": ["abcdEFGH12=hk"]}, {})
    load_config({"EGRESS": ["hk=127.0.0.2"], "EGRESS_PINS": ["abcdEFGH12=hk"]}, {})


def test_market_no_egress_serves_is_refused_unless_it_is_off() -> None:
    values = {"EGRESS": ["a=127.0.0.2;markets=spot+um+cm+pm"]}
    with pytest.raises(ConfigError) as caught:
        load_config(values, {})
    assert str(caught.value) == (
        "EGRESS: no entry serves the market options. Add `default;markets=options`, or switch "
        "the market off with UPSTREAM_EAPI = off."
    )
    load_config(values, {"RESENDER_UPSTREAM_EAPI": "off"})


CLUSTER = {"RESENDER_REDIS_URL": "redis://127.0.0.1", "RESENDER_NODE_SECRET": "s" * 40}


@pytest.mark.parametrize(
    ("told", "roles"),
    [
        ("", ("front", "collector", "admin")),
        ("all", ("front", "collector", "admin")),
        ("admin, FRONT", ("front", "admin")),
        ("collector", ("collector",)),
    ],
)
def test_roles_of_a_node_are_read(told: str, roles: tuple[str, ...]) -> None:
    config = load_config({}, {**CLUSTER, "RESENDER_ROLES": told})
    assert config.roles == roles
    assert config.admin_enabled == ("admin" in roles)


def test_role_nobody_knows_is_named() -> None:
    with pytest.raises(ConfigError, match="'reader' is no role"):
        load_config({}, {"RESENDER_ROLES": "reader"})


@pytest.mark.parametrize("missing", list(CLUSTER))
def test_node_that_calls_nobody_itself_has_to_find_others(missing: str) -> None:
    environ = {name: value for name, value in CLUSTER.items() if name != missing}
    with pytest.raises(ConfigError, match="ROLES"):
        load_config({}, {**environ, "RESENDER_ROLES": "front"})


def test_key_may_be_bound_to_an_egress_of_another_node() -> None:
    pins = {"RESENDER_EGRESS_PINS": "abcdefgh=b/ip"}
    assert load_config({}, {**CLUSTER, **pins}).pins.find("abcdefgh1") == "b/ip"
    with pytest.raises(ConfigError, match="'b/ip'"):
        load_config({}, pins)
