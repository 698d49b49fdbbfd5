"""How the values of settings are found: `settings.py`, the environment, command-line arguments.

Only this module and `settings_file` read `settings.py` or the environment. The table is `config.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from resender.config import SETTINGS, Config
from resender.core.binance.markets import BY_MARKET
from resender.core.cluster.node_info import ADMIN_ROLE, COLLECTOR_ROLE
from resender.core.redact import MASK, redact
from resender.errors import ConfigError

ENVIRONMENT_PREFIX = "RESENDER_"


def load_config(
    file_values: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    arguments: Mapping[str, Any] | None = None,
) -> Config:
    """Join file, environment and arguments into one `Config`.

    Shape: `file_values` and `arguments` by setting name ("PORT"); an argument of None is not given.
    An empty value means the default or, for lists, none.
    Raises: ConfigError naming the first setting that is unknown or wrong.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, value in file_values.items():
        found[name] = (f"settings.py: {name}", value)
    for key, value in environ.items():
        if key.startswith(ENVIRONMENT_PREFIX):
            found[key[len(ENVIRONMENT_PREFIX) :]] = (key, value)
    for name, value in (arguments or {}).items():
        if value is not None:
            found[name] = (f"--{name.lower().replace('_', '-')}", value)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (where, raw) in found.items():
        row = SETTINGS.get(name)
        if row is None:
            raise ConfigError(f"{where}: there is no such setting{_similar(name)}.")
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            continue
        try:
            values[name.lower()] = row.parse(raw)
            sources[name] = where.partition(":")[0]
        except ValueError as error:
            shown = MASK if row.secret else redact(repr(raw))
            raise ConfigError(f"{where} = {shown}: {error}") from None
    config = Config(**values, sources=sources)
    _check_egresses(config)
    if config.tls_key and not config.tls_cert:
        raise ConfigError("TLS_KEY: it belongs to a certificate; set TLS_CERT too.")
    if config.redis_url and config.node_url and not config.node_secret:
        raise ConfigError("NODE_SECRET: it is needed with REDIS_URL and NODE_URL, the same on all nodes.")
    if COLLECTOR_ROLE not in config.roles and not (config.redis_url and config.node_secret):
        raise ConfigError(
            "ROLES: a node that is no collector needs REDIS_URL and NODE_SECRET to find the others."
        )
    if ADMIN_ROLE not in config.roles:
        config = replace(config, admin_enabled=False)
    return config


def _check_egresses(config: Config) -> None:
    """Refuse egresses that do not fit together.

    Raises: ConfigError.
    """
    egresses = config.egresses
    names = {egress.name for egress in egresses}
    if config.alert_egress and config.alert_egress not in names:
        raise ConfigError(f"ALERT_EGRESS: no entry of EGRESS is named {config.alert_egress!r}.")
    if any(egress.name == config.alert_egress and egress.kind == "resender" for egress in egresses):
        raise ConfigError(
            "ALERT_EGRESS: another gateway forwards calls to Binance only; name another egress."
        )
    # `node/name` is one of another node.
    unknown = sorted(name for name in config.pins.names() - names if not (config.redis_url and "/" in name))
    if unknown:
        raise ConfigError(f"EGRESS_PINS: no entry of EGRESS is named {unknown[0]!r}.")
    for market in config.upstreams:
        if not any(egress.serves(market) for egress in egresses):
            raise ConfigError(
                f"EGRESS: no entry serves the market {market}. Add `default;markets={market}`, or switch "
                f"the market off with {BY_MARKET[market].rest_setting} = off."
            )


def _similar(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, SETTINGS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
