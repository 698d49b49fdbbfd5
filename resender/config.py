"""The table of settings.

One field of `Config` is one setting: its upper-case name stands in `settings.py`, the
environment may override it as `RESENDER_<NAME>`, command-line arguments override both: `config_loading.py`.
`Config` is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from resender.config_operations import OperationSettings
from resender.config_values import (
    OFF,
    Setting,
    base_url,
    integer_between,
    one_of,
    read_addresses,
    read_consent,
    read_egress,
    read_entries,
    read_flag,
    read_fraction,
    read_host_suffix,
    read_hosts,
    read_node_name,
    read_pins,
    read_preload,
    read_redis_url,
    read_roles,
    read_text,
    read_workers,
    seconds_between,
    setting,
    share_between,
    text_of_at_least,
)
from resender.core.binance.markets import (
    BY_MARKET,
    MARKETS,
    STREAM_HOSTS,
    STREAM_MARGIN,
    WS_API_HOSTS,
    Market,
)
from resender.core.cluster.node_info import ROLES
from resender.core.egress.spec import EgressSpec, Pins, parse_egress, parse_pins
from resender.core.redact import MASK
from resender.places import home


def _upstream(market: Market, what: str) -> Any:
    default = BY_MARKET[market].rest_default
    return setting(
        default, base_url("http", "https", can_be_off=True), f"REST base URL of {what}. `off` = not served."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(OperationSettings):
    """All settings in force.

    Units: names ending in `_s` are seconds, `_bytes` bytes, `_days` days.
    """

    host: str = setting(
        "0.0.0.0", read_text, "Address to listen on. `::` = IPv6 and IPv4, `127.0.0.1` = this machine only."
    )
    port: int = setting(8000, integer_between(0, 65535), "Port to listen on. `0` = the system chooses one.")
    data_dir: str = setting(
        "data",
        read_text,
        "Folder of the database and of the saved candles. A relative path starts beside `run.py`.",
    )
    database_url: str = setting(
        "",
        read_text,
        "Database; empty = SQLite in `DATA_DIR`.",
        secret=True,
    )
    upstream_api: str = _upstream(Market.SPOT, "spot and sapi")
    upstream_fapi: str = _upstream(Market.UM, "USD-M futures")
    upstream_dapi: str = _upstream(Market.CM, "COIN-M futures")
    upstream_eapi: str = _upstream(Market.OPTIONS, "options")
    upstream_papi: str = _upstream(Market.PM, "portfolio margin")
    upstream_data: str = setting(
        "https://data.binance.vision",
        base_url("http", "https", can_be_off=True),
        "Base URL of Binance's files of past market data, read as `/data.binance.vision/...`. `off` = not served.",
    )
    stream_spot: str = setting(
        STREAM_HOSTS[Market.SPOT],
        base_url("ws", "wss"),
        "WebSocket base URL of spot market data, without a path. Belongs to `UPSTREAM_API`: change both.",
    )
    stream_um: str = setting(
        STREAM_HOSTS[Market.UM],
        base_url("ws", "wss"),
        "WebSocket base URL of USD-M market data; `/market` and `/public` are added. Belongs to "
        "`UPSTREAM_FAPI`.",
    )
    stream_cm: str = setting(
        STREAM_HOSTS[Market.CM],
        base_url("ws", "wss"),
        "WebSocket base URL of COIN-M market data. Belongs to `UPSTREAM_DAPI`.",
    )
    stream_margin: str = setting(
        STREAM_MARGIN,
        base_url("ws", "wss"),
        "WebSocket base URL of the margin risk stream, for clients. Belongs to `UPSTREAM_API`.",
    )
    ws_api_spot: str = setting(
        WS_API_HOSTS[Market.SPOT],
        base_url("ws", "wss"),
        "Base URL of the spot WebSocket API, for clients. Belongs to `UPSTREAM_API`.",
    )
    ws_api_um: str = setting(
        WS_API_HOSTS[Market.UM],
        base_url("ws", "wss"),
        "Base URL of the USD-M WebSocket API, for clients. Belongs to `UPSTREAM_FAPI`.",
    )
    ws_api_cm: str = setting(
        WS_API_HOSTS[Market.CM],
        base_url("ws", "wss"),
        "Base URL of the COIN-M WebSocket API, for clients. Belongs to `UPSTREAM_DAPI`.",
    )
    whitelist: tuple[str, ...] = setting(
        (),
        read_entries,
        "Addresses, networks and DNS names put into the whitelist when the database is created, never again. "
        "Later: `run.py whitelist`.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        read_addresses,
        "Reverse proxies whose `X-Forwarded-For` or `X-Real-IP` is believed; nobody else's is.",
    )
    host_suffix: str = setting(
        "",
        read_host_suffix,
        "Domain of this gateway's own names for Binance's hosts: with `gw.example`, `fapi.gw.example` stands for "
        "`fapi.binance.com`, `stream.gw.example` for `stream.binance.com`. Empty = off.",
    )
    proxy_hosts: tuple[str, ...] = setting(
        (),
        read_hosts,
        "Hosts that whitelisted clients may reach with `CONNECT host:443`, TLS untouched. Empty = off.",
    )
    admin_enabled: bool = setting(
        True, read_flag, "Serve the admin pages under `/admin`; `false` = none at all."
    )
    admin_port: int = setting(
        0,
        integer_between(0, 65535),
        "A port of their own for the admin pages; then `/admin` exists only there. `0` = the same port.",
    )
    admin_host: str = setting(
        "127.0.0.1", read_text, "Address the admin pages listen on when they have a port of their own."
    )
    admin_whitelist: tuple[str, ...] = setting(
        (), read_addresses, "Addresses and networks that may reach the admin pages; empty = any."
    )
    admin_password: str = setting(
        "",
        read_text,
        "First password of the admin account root, used once; a weak one is refused at the start. "
        "Empty = a random one is made and printed to the console.",
        secret=True,
    )
    admin_idle_minutes: int = setting(
        720, integer_between(1, 525_600), "A log-in not used for so long has to be repeated."
    )
    admin_session_hours: int = setting(
        168, integer_between(1, 87_600), "A log-in has to be repeated after so long in any case."
    )
    egress: tuple[str, ...] = setting(
        (), read_egress, "Egresses to Binance; empty = the machine's default route.", secret=True
    )
    egress_pins: tuple[str, ...] = setting(
        (),
        read_pins,
        "API keys bound to one egress: `<first 8 or more characters of the key>=<name>` or "
        "`sha256:<hex of the key>=<name>`.",
        secret=True,
    )
    order_weight_reserve: float = setting(
        0.1, share_between(0.0, 0.9), "Share of each pool's weight that only order calls may use."
    )
    client_weight_share: float = setting(
        1.0,
        read_fraction,
        "Largest share of a pool's weight a minute for one client address; `1` = no limit.",
    )
    weight_limit_spot: int = setting(
        6000,
        integer_between(1, 10_000_000),
        "Spot weight a minute and address until exchangeInfo tells the limit.",
    )
    weight_limit_futures: int = setting(
        2400,
        integer_between(1, 10_000_000),
        "Weight a minute and address of USD-M and COIN-M, which share one pool, until "
        "exchangeInfo tells the limit.",
    )
    weight_limit_options: int = setting(
        400,
        integer_between(1, 10_000_000),
        "Options weight a minute and address until exchangeInfo tells the limit.",
    )
    weight_limit_pm: int = setting(
        6000,
        integer_between(1, 10_000_000),
        "Portfolio margin weight a minute and address; no exchangeInfo tells it.",
    )
    weight_limit_sapi: int = setting(
        12_000, integer_between(1, 10_000_000), "Weight a minute and address of each single sapi path."
    )
    get_memory_ms: int = setting(
        0,
        integer_between(0, 60_000),
        "How long an unsigned public GET's answer serves equal calls. `0` = off.",
    )
    exchange_info_memory_s: float = setting(
        60.0, seconds_between(0, 3600), "How long an exchangeInfo answer serves equal calls. `0` = off."
    )
    consent_max_age_ms: tuple[str, ...] = setting(
        (),
        read_consent,
        "How old answers may be that no stream can prove, by path in milliseconds: "
        "`ticker/24hr=2000,um:premiumIndex=1000`. What is not named is forwarded, unless the client itself sends "
        "`Cache-Control: max-age`.",
    )
    connect_timeout_s: float = setting(
        5.0, seconds_between(0.05, 300), "Longest wait for DNS, TCP and TLS of a new connection to Binance."
    )
    read_timeout_s: float = setting(
        20.0,
        seconds_between(0.05, 3600),
        "Longest silence of Binance while an answer is awaited or read. Binance itself gives up "
        "after 10 s. Also the longest time a client may take to send its body.",
    )
    total_timeout_s: float = setting(
        120.0,
        seconds_between(0.05, 86400),
        "Longest time of one call, from its start to the last byte handed over.",
    )
    keepalive_s: float = setting(
        55.0, seconds_between(0, 3600), "How long an idle connection to Binance is kept for the next call."
    )
    dns_cache_s: float = setting(
        300.0, seconds_between(0, 86400), "How long the addresses of a host are remembered."
    )
    client_idle_s: float = setting(
        330.0,
        seconds_between(1, 86400),
        "How long an idle connection of a client is kept, as is announced to it; it is closed 10 s later.",
    )
    max_in_flight: int = setting(
        1000, integer_between(1, 1_000_000), "Calls under way at once; one more is answered 503."
    )
    max_body_bytes: int = setting(
        1 << 20, integer_between(0, 1 << 30), "Largest request body; a larger one is answered 413."
    )
    shutdown_s: float = setting(
        10.0, seconds_between(0, 600), "How long calls in flight may take to end when the gateway is stopped."
    )
    cache_enabled: bool = setting(
        True, read_flag, "Answer market data from memory. `false` = always forward."
    )
    preload: str = setting(
        "",
        read_preload,
        "Series kept ready from the start, such as `um:*USDT@1m,bookTicker,depth20`.",
    )
    kline_depth: int = setting(1500, integer_between(10, 20_000), "Candles kept of each series.")
    max_on_demand_series: int = setting(
        300,
        integer_between(0, 100_000),
        "Series of all markets kept because somebody asked; beyond it calls are forwarded.",
    )
    max_on_demand_books: int = setting(
        50,
        integer_between(0, 100_000),
        "Order books and trades of all markets kept because somebody asked. Each may bring 0.1 Mbit/s and more; "
        "after five minutes without a call they are dropped.",
    )
    stream_idle_minutes: int = setting(
        30,
        integer_between(1, 1_000_000),
        "A series nobody asked for in so long is dropped, unless a rule wants it.",
    )
    settle_wait_ms: int = setting(
        250,
        integer_between(0, 5000),
        "How long a call at a candle's end waits for the closing event before a REST read settles it.",
    )
    um_kline_stream: str = setting(
        "continuous",
        one_of("continuous", "plain"),
        "Which stream USD-M candles come from: continuous (closes all symbols about 0.1 s after the close) "
        "where Binance has one for the symbol, or plain for all.",
    )
    symbol_refresh_s: float = setting(
        60.0, seconds_between(1, 86400), "How often the list of symbols is read again."
    )
    backfill_weight_share: float = setting(
        0.5, read_fraction, "Share of the weight per minute that the gateway's own reads may use."
    )
    streams_per_connection: int = setting(
        200, integer_between(1, 1024), "Streams carried by one connection. Binance allows 1024."
    )
    stream_silence_s: float = setting(
        10.0, seconds_between(1, 300), "A stream connection from which nothing came for so long is dead."
    )
    max_stream_clients: int = setting(
        1000,
        integer_between(0, 100_000),
        "WebSockets of clients at once; one more is answered 503. `0` = none are served.",
    )
    max_client_streams: int = setting(
        5000,
        integer_between(1, 100_000),
        "Different streams held for all clients together; over it a client gets Binance's own error, code 4.",
    )
    client_queue_bytes: int = setting(
        1 << 20,
        integer_between(65_536, 1 << 30),
        "What may wait for a client that reads too slowly. Beyond, of tickers and order books only the newest "
        "is kept; where every event counts the client is closed with 1008.",
    )
    stream_linger_s: float = setting(
        10.0, seconds_between(0, 3600), "A stream is kept for so long after its last client has left."
    )
    stream_last_frame: bool = setting(
        True,
        read_flag,
        "Send a client the newest ticker, order book or candle at once when it subscribes, not only at the "
        "next change.",
    )
    stream_deflate: bool = setting(
        False,
        read_flag,
        "Compress streams for clients that offer permessage-deflate: books to a fifth, candles to half.",
    )
    account_history_hours: int = setting(
        24,
        integer_between(0, 168),
        "How long orders that have ended can be asked for where an account is watched. Units: hours.",
    )
    account_proof_hours: int = setting(
        24,
        integer_between(1, 168),
        "How long a client's address and API key are believed to belong together after Binance has taken a "
        "signed call of them. Units: hours.",
    )
    account_wait_ms: int = setting(
        300,
        integer_between(0, 5000),
        "How long a call waits for the event of an order that the account has just changed before it is "
        "forwarded.",
    )
    account_reconcile_minutes: int = setting(
        15,
        integer_between(1, 1440),
        "How often an account with a key of its own is compared with REST. Units: minutes.",
    )
    secret_key: str = setting(
        "",
        text_of_at_least(32),
        "Seals the secrets of accounts, 32 characters at least; empty = a key in the file account.key of "
        "DATA_DIR.",
        secret=True,
    )
    workers: int = setting(
        1, read_workers, "Processes that serve the port together, each on a core; `auto` = as many as cores."
    )
    redis_url: str = setting(
        "", read_redis_url, "Redis that several nodes share; empty = this is the only node.", secret=True
    )
    node_name: str = setting(
        "", read_node_name, "Name of this node, another one for each; empty = host name and port."
    )
    node_url: str = setting(
        "",
        base_url("http", "https"),
        "Base URL under which the other nodes reach this one; empty = they do not.",
    )
    node_secret: str = setting(
        "",
        text_of_at_least(32),
        "The same on all nodes, 32 characters at least: by it they know each other. Needed with `NODE_URL`.",
        secret=True,
    )
    roles: tuple[str, ...] = setting(
        ROLES,
        read_roles,
        "What this node is for, `all` or a list: `front` (clients), `collector` (Binance, market data, accounts), "
        "`admin` (pages). One that is no collector sends everything through others.",
    )
    share_streams: bool = setting(
        True, read_flag, "Clients get streams from one of the nodes, which opens each once for all nodes."
    )
    close_first_ms: int = setting(
        0,
        integer_between(0, 8000),
        "`/local/.../closes` tells what is final by then, so long after a close. `0` = only when all are.",
    )
    close_deadline_ms: int = setting(
        3500,
        integer_between(100, 8000),
        "`/local/.../closes` names what is not final by then, so long after a close; it follows later.",
    )
    stream_quiet_s: float = setting(
        10.0,
        seconds_between(1, 300),
        "A series without an event of its own for so long (a spot candle: twice as long) is "
        "answered only if a second source says that nothing was missed.",
    )
    rest_final_after_ms: int = setting(
        1500,
        integer_between(0, 60_000),
        "A row read by REST is final if the read was made so long after the candle's close.",
    )
    candle_save_s: float = setting(
        300.0, seconds_between(1, 86400), "How often closed candles are saved for a warm restart."
    )
    log_format: str = setting(
        "text", one_of("text", "json"), "Form of the process log: text, or json with one object a line."
    )
    log_level: str = setting(
        "INFO",
        one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        "Detail of the process log on standard error: `DEBUG`, `INFO`, `WARNING` or `ERROR`.",
    )
    log_retention_days: int = setting(
        30, integer_between(1, 36500), "Rows of the request log older than this are removed."
    )
    log_max_rows: int = setting(
        1_000_000, integer_between(1, 1_000_000_000), "Rows the request log keeps; the oldest go."
    )
    log_queue_size: int = setting(
        10_000,
        integer_between(1, 10_000_000),
        "Log rows that may wait for the database; more are dropped and counted.",
    )

    #: Where the values come from that are not the default: settings.py, a variable or an argument.
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def data_path(self) -> Path:
        return home() / self.data_dir

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_path / 'resender.db'}"

    @property
    def is_data_dir_needed(self) -> bool:
        """Whether the database lies in DATA_DIR."""
        return not self.database_url

    @property
    def egresses(self) -> tuple[EgressSpec, ...]:
        """The entries of `EGRESS`, or the machine's default route."""
        return parse_egress(self.egress)

    @property
    def pins(self) -> Pins:
        return parse_pins(self.egress_pins)

    @property
    def upstreams(self) -> dict[Market, str]:
        """REST base URLs of the markets that are served."""
        urls = {facts.market: str(getattr(self, facts.rest_setting.lower())) for facts in MARKETS}
        return {market: url for market, url in urls.items() if url != OFF}


SETTINGS: dict[str, Setting] = {
    f.name.upper(): Setting(
        f.name.upper(), f.default, f.metadata["help"], f.metadata["secret"], f.metadata["parse"]
    )
    for f in fields(Config)
    if f.default is not MISSING
}


def shown_value(config: Config, name: str) -> str:
    """Return a setting's value for people: secrets masked, lists joined."""
    value = getattr(config, name.lower())
    if SETTINGS[name].secret and value:
        return MASK
    return ", ".join(value) if isinstance(value, tuple) else str(value)
