"""`run.py demo`: the gateway against the built-in sandbox exchange, to try without internet.

The one place of the program that imports the sandbox. Nothing here serves a production start.
"""

from __future__ import annotations

import dataclasses
import sys

from resender.cli.serve import serve
from resender.cli.words import say
from resender.config import Config
from resender.config_values import OFF
from resender.passwords import generate_password, hash_password
from resender.sandbox import API_KEY, API_SECRET, Sandbox, SandboxConfig
from resender.store import DuplicateEntry, Repository, open_repository
from resender.store.users import FIRST_USER
from resender.upstream.tls import make_context

LOOPBACK = ("127.0.0.1", "::1")


async def demo(config: Config) -> int:
    """Start the sandbox and serve against it until a signal comes; return the exit code.

    Its data lies in a folder of its own below DATA_DIR, whatever DATABASE_URL says: the demo's open
    loopback must not end up in the whitelist of a real gateway.
    """
    config = dataclasses.replace(
        config,
        data_dir=str(config.data_path / "demo"),
        # What a service on this machine has set for the real exchange is not meant here.
        database_url="",
        egress=(),
        egress_pins=(),
        admin_password="",
    )
    async with Sandbox(SandboxConfig()) as sandbox:
        urls = {name.lower(): url for name, url in sandbox.urls.items()}
        # Nothing of the demo leads to the real exchange.
        urls |= {"stream_margin": sandbox.urls["STREAM_SPOT"], "upstream_data": OFF}
        config = dataclasses.replace(config, **urls)  # type: ignore[arg-type]
        context = make_context(cadata=sandbox.ca_pem.decode("ascii"))
        return await serve(
            config,
            announce=lambda url: _announce(url, sandbox.urls),
            ssl_context=context,
            prepare=lambda: _prepare(config),
        )


def _prepare(config: Config) -> None:
    """Let this machine in, and whoever knows the new password."""
    with open_repository(config.database) as repository:
        repository.whitelist_seed(config.whitelist)
        for address in LOOPBACK:
            try:
                repository.whitelist_add(address, "demo")
            except DuplicateEntry as duplicate:
                repository.whitelist_update(duplicate.entry.id, enabled=True)
        _renew_password(repository)


def _renew_password(repository: Repository) -> None:
    """Give the account of an earlier demo a new password: the old one was shown only once.

    A new database gets its account, and tells its password, when the gateway starts.
    """
    user = repository.user_get(FIRST_USER)
    if user is None:
        return
    password = generate_password()
    repository.user_update(user.id, password_hash=hash_password(password), must_change=True, enabled=True)
    say(f"Admin pages: log in as {user.username} with the password {password}", flush=True)


def _announce(url: str, upstreams: dict[str, str]) -> None:
    say(
        f"""
Binance Resender serves on {url} against a simulated exchange. Prices are not real. Try:

  curl '{url}/api/v3/ticker/bookTicker?symbol=BTCUSDT'
  curl '{url}/api/api/v3/klines?symbol=ETHUSDT&interval=1m&limit=3'
  curl '{url}/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3'
  curl '{url}/dapi/v1/ticker/bookTicker?symbol=BTCUSD_PERP'
  curl '{url}/metrics'

Python:      from binance_interface.api import API
             API(proxy_host='{url}').spot.market.get_ticker_bookTicker(symbol='BTCUSDT')
Signed calls: key {API_KEY}
             secret {API_SECRET}
Admin:       {url}/admin
Sandbox:     {upstreams["UPSTREAM_API"]} (spot), {upstreams["UPSTREAM_FAPI"]} (USD-M)

Stop it with Ctrl+C.
""",
        file=sys.stdout,
        flush=True,
    )
