"""freqtrade and node's package `binance` over streams, unmodified, as docs/clients say to set them up.

Their environments are heavy and no part of `make test`: `make more-clients` makes them. Without them
these tests are skipped, in CI too.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from tests.support.processes import (
    API_KEY,
    API_SECRET,
    CLIENTS,
    PATIENCE_S,
    ROOT,
    GatewayProcess,
    SandboxThread,
    Start,
    assert_no_secrets,
    environment,
    placed,
    until,
)

# What takes long is waiting for closes.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(420)]


def made(name: str, program: str) -> Path:
    """Return the program that runs a client, and skip where its environment is not made."""
    folder = ROOT / ".venv-clients" / name
    found = shutil.which(program, path=str(folder / "bin")) or shutil.which(program)
    if not (folder / "ready").exists() or found is None:
        pytest.skip(f"{name} is not installed: make more-clients")
    return Path(found)


@pytest.fixture(scope="module")
def gateway(start_for_module: Start) -> GatewayProcess:
    gateway = start_for_module()
    gateway.command("log", "on")

    def is_on() -> bool:
        gateway.call("GET", "/local/is-it-on")
        return bool(rows_with(gateway, "/local/is-it-on"))

    # It looks now and then whether another process switched it.
    until(is_on, "the gateway writes the request log")
    return gateway


def rows(gateway: GatewayProcess) -> list[tuple[str, str, str]]:
    """Return the request log as method, market and path, once it holds all that was called until now."""
    mark = f"/local/until-{time.monotonic_ns()}"
    gateway.call("GET", mark)
    return until(lambda: rows_with(gateway, mark), "the request log was written")


def rows_with(gateway: GatewayProcess, mark: str) -> list[tuple[str, str, str]]:
    """Return the request log if it holds a call of this path, or nothing."""
    file = next(gateway.data.glob("*.db"))
    base = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        found = base.execute("SELECT method, market, path FROM request_log ORDER BY id").fetchall()
    finally:
        base.close()
    return found if any(path == mark for _, _, path in found) else []


# --- freqtrade -----------------------------------------------------------------------------------

PAIRS = {"spot": ["BTC/USDT", "ETH/USDT"], "futures": ["BTC/USDT:USDT", "ETH/USDT:USDT"]}
MARKETS = {"spot": Market.SPOT, "futures": Market.UM}
#: So many closes freqtrade must get out of what its stream brought.
CLOSES = 2
BOTH_MODES = pytest.mark.parametrize("mode", PAIRS)


class Bot:
    """freqtrade with the recipe of the documentation, in dry run."""

    def __init__(self, gateway: GatewayProcess, folder: Path, mode: str) -> None:
        self.gateway, self.mode, self.folder = gateway, mode, folder
        (folder / "strategies").mkdir(parents=True)
        shutil.copy(CLIENTS / "freqtrade_strategy.py", folder / "strategies" / "sees_candles.py")
        (folder / "config.json").write_text(json.dumps(self._config()), "utf-8")
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.command("trade"), "-v", "--strategy", "SeesCandles"],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def command(self, name: str) -> list[str]:
        """Build a command of freqtrade on this bot's folder."""
        python = made("freqtrade", "python")
        folder = str(self.folder)
        config = str(self.folder / "config.json")
        return [str(python), "-m", "freqtrade", name, "--config", config, "--userdir", folder]

    def _config(self) -> dict[str, Any]:
        page = (ROOT / "docs/clients/ccxt-freqtrade.md").read_text("utf-8")
        recipe = re.search(r"^## freqtrade$.*?```json\n(.*?)```", page, re.DOTALL | re.MULTILINE)
        assert recipe
        config: dict[str, Any] = json.loads(recipe[1].replace("B:8000", f"127.0.0.1:{self.gateway.port}"))
        assert config["exchange"]["enable_ws"] is True
        if self.mode == "futures":
            config["exchange"]["_ft_has_params"] = {"ws_enabled": True}
        config["exchange"]["pair_whitelist"] = PAIRS[self.mode]
        pricing = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
        return config | {
            "dry_run": True,
            "dry_run_wallet": 10_000,
            "trading_mode": self.mode,
            "margin_mode": "isolated" if self.mode == "futures" else "",
            "stake_currency": "USDT",
            "stake_amount": 1_000,
            "max_open_trades": 1,
            "entry_pricing": pricing,
            "exit_pricing": pricing,
            "pairlists": [{"method": "StaticPairList"}],
            "db_url": f"sqlite:///{self.folder}/trades.sqlite",
            "initial_state": "running",
            "internals": {"process_throttle_secs": 2},
        }

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    @property
    def seen(self) -> list[dict[str, Any]]:
        """What the strategy was shown: pair, moment and the last candles."""
        file = self.folder / "seen"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []

    def shown(self, pair: str) -> int:
        """Count the closes the strategy was shown."""
        return len([each for each in self.seen if each["pair"] == pair])

    def by_stream(self, pair: str) -> int:
        """Count those of which freqtrade says that it has them from its stream."""
        return self.log.count(f"reuse watch result for {pair}, 1m")

    def has_seen_enough(self) -> bool:
        assert self.process.poll() is None, self.log
        counts = [(self.by_stream(pair), self.shown(pair)) for pair in PAIRS[self.mode]]
        return all(CLOSES <= by_stream < shown for by_stream, shown in counts)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait(PATIENCE_S)


class Bots:
    """What became of a bot on spot and of one on futures, each after some closes."""

    def __init__(self, gateway: GatewayProcess, folder: Path) -> None:
        self.by_mode: dict[str, Bot] = {}
        try:
            for mode in PAIRS:
                self.by_mode[mode] = Bot(gateway, folder / mode, mode)
            # One more where it began just before a close, and what a loaded machine needs to start.
            patience_s = (CLOSES + 1) * 60 + 2 * PATIENCE_S
            for bot in self.by_mode.values():
                until(bot.has_seen_enough, f"freqtrade sees candles of {bot.mode}", patience_s)
            self.clients = gateway.call("GET", "/local/status").json()["streams"]["clients"]
        finally:
            for bot in self.by_mode.values():
                bot.stop()
        self.rows = rows(gateway)


@pytest.fixture(scope="module")
def bots(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Bots:
    made("freqtrade", "python")
    return Bots(gateway, tmp_path_factory.mktemp("freqtrade"))


@BOTH_MODES
def test_freqtrade_gets_candles_by_stream_and_polls_none(bots: Bots, mode: str) -> None:
    market, bot = MARKETS[mode].value, bots.by_mode[mode]
    path = {"spot": "/stream.binance.com/ws/", "futures": "/fstream.binance.com/market/ws/"}[mode]
    (client,) = (each for each in bots.clients if each["path"].startswith(path))
    assert (client["market"], sorted(client["names"])) == (market, ["btcusdt@kline_1m", "ethusdt@kline_1m"])
    assert client["frames"] > 10
    # A read at the start, another one where a close came before the first event; all else by stream.
    polls = [row for row in bots.rows if row[1] == market and row[2].endswith("/klines")]
    by_rest = [bot.shown(pair) - bot.by_stream(pair) for pair in PAIRS[mode]]
    assert len(polls) == sum(by_rest)
    assert max(by_rest) <= 2
    for word in ("ERROR", "Traceback"):
        assert word not in bot.log


@BOTH_MODES
def test_freqtrade_shows_its_strategy_the_candles_of_the_exchange(
    bots: Bots, exchange: SandboxThread, mode: str
) -> None:
    for pair in PAIRS[mode]:
        symbol = pair.partition(":")[0].replace("/", "")
        truth = {
            row[0]: [float(value) for value in row[1:6]]
            for row in exchange.ask(lambda s, x=symbol: s.market(MARKETS[mode]).kline_rows(x, "1m", limit=30))
        }
        frames = [each for each in bots.by_mode[mode].seen if each["pair"] == pair]
        closes = [frame["rows"][-1][0] for frame in frames]
        # No minute is left out, and each is shown before the next one is over.
        assert closes == [closes[0] + 60_000 * n for n in range(len(closes))]
        for frame in frames[1:]:
            assert frame["at_ms"] - frame["rows"][-1][0] - 60_000 < 30_000
        for frame in frames:
            for open_time, *values in frame["rows"]:
                assert values == truth[open_time]


@BOTH_MODES
def test_freqtrade_trades_on_paper_and_orders_nothing(bots: Bots, exchange: SandboxThread, mode: str) -> None:
    bot = bots.by_mode[mode]
    base = sqlite3.connect(bot.folder / "trades.sqlite")
    try:
        trades = base.execute("SELECT pair, is_open, amount > 0, open_rate > 0 FROM trades").fetchall()
    finally:
        base.close()
    ((pair, *facts),) = trades
    assert pair in PAIRS[mode]
    assert facts == [1, 1, 1]
    assert not [one for one in exchange.calls() if one.path.endswith("/order")]
    depths = [row for row in bots.rows if row[1] == MARKETS[mode].value and row[2].endswith("/depth")]
    assert depths


def test_freqtrade_downloads_candles_through_the_gateway(
    bots: Bots, gateway: GatewayProcess, exchange: SandboxThread
) -> None:
    before = len(rows(gateway))
    bot = bots.by_mode["spot"]
    words = ["--pairs", "BTC/USDT", "--timeframes", "5m", "--days", "20"]
    result = subprocess.run(
        [*bot.command("download-data"), *words],
        cwd=bot.folder,
        # This gateway has no PROXY_HOSTS: what freqtrade asks of Binance's bulk files goes nowhere.
        env=environment() | {"HTTPS_PROXY": gateway.url},
        capture_output=True,
        timeout=PATIENCE_S * 4,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    assert list(bot.folder.rglob("BTC_USDT-5m.feather"))
    since = rows(gateway)[before:]
    assert len([row for row in since if row[1:] == ("spot", "/api/v3/klines")]) > 20 * 288 / 1000
    refused = [row for row in since if row[0] == "CONNECT"]
    assert {path for _, _, path in refused} <= {"data.binance.vision:443"}


# --- binance for Node ----------------------------------------------------------------------------

Node = dict[str, Any]
NODE_MODULES = ROOT / ".venv-clients/node_binance/node_modules"


def run_node(script: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(made("node_binance", "node")), str(script), *words],
        env=environment() | {"NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        timeout=PATIENCE_S * 2,
        check=False,
    )


@pytest.fixture(scope="module")
def node(gateway: GatewayProcess) -> Iterator[Node]:
    result = run_node(CLIENTS / "node_binance_streams.cjs", gateway.url, API_KEY, API_SECRET)
    assert result.returncode == 0, result.stderr.decode("utf-8", "replace")
    yield json.loads(result.stdout)
    assert_no_secrets(gateway.folder, [API_KEY, API_SECRET])


def part(node: Node, name: str, *errors: int) -> Node:
    """Return what one client object of node found; it may have had no trouble but these refusals."""
    found: Node = node[name]
    assert "failed" not in found, found
    assert found["errors"] == list(errors)
    return found


def paths(found: Node) -> set[str]:
    """Return the paths it opened, without a listenKey."""
    return {re.sub(r"[0-9a-f]{64}", "<listenKey>", "/" + url.split("/", 3)[3]) for url in found["urls"]}


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("spot by name", {"/stream.binance.com/stream"}),
        ("um by name", {"/fstream.binance.com/market/stream", "/fstream.binance.com/public/stream"}),
        ("cm by name", {"/dstream.binance.com/stream"}),
        ("spot", {"/stream"}),
        ("um", {"/market/stream", "/public/stream"}),
    ],
)
def test_node_hears_market_streams(node: Node, exchange: SandboxThread, name: str, opened: set[str]) -> None:
    found, market = part(node, name), Market(name.split(" ")[0])
    assert paths(found) == opened
    symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
    for stream, event in found["found"].items():
        assert (event["s"], event["streamName"]) == (symbol, stream)
    kline = found["found"][f"{symbol.lower()}@kline_1m"]["k"]
    truth = exchange.ask(lambda sandbox: sandbox.market(market).kline_rows(symbol, "1m", limit=30))
    assert {row[0]: row[1] for row in truth}[kline["t"]] == kline["o"]


@pytest.mark.parametrize(
    ("name", "host", "opened"),
    [
        ("um user by name", "fapi", "/fstream.binance.com/private/stream?listenKey=<listenKey>"),
        ("cm user by name", "dapi", "/dstream.binance.com/ws/<listenKey>"),
        ("um user", "fapi", "/private/stream?listenKey=<listenKey>"),
    ],
)
def test_node_hears_of_its_orders_by_listen_key(
    node: Node, exchange: SandboxThread, name: str, host: str, opened: str
) -> None:
    found = part(node, name)
    assert paths(found) == {opened}
    order, told = found["order"], found["event"]["o"]
    assert (told["i"], told["s"], told["X"]) == (order["orderId"], order["symbol"], "NEW")
    assert placed(exchange, host).count((order["symbol"], order["orderId"])) == 1


@pytest.mark.parametrize("name", ["spot api by name", "spot api"])
def test_node_trades_and_hears_of_it_over_the_websocket_api(
    node: Node, exchange: SandboxThread, name: str
) -> None:
    found = part(node, name, -2011)
    prefix = "/ws-api.binance.com" if "by name" in name else ""
    assert paths(found) == {f"{prefix}/ws-api/v3"}
    assert len(found["depth"]["result"]["bids"]) == 5
    order = found["order"]["result"]
    event = found["event"].get("event", found["event"])
    assert (event["e"], event["i"], event["X"]) == ("executionReport", order["orderId"], "NEW")
    assert placed(exchange, "api").count(("BTCUSDT", order["orderId"])) == 1
    assert (found["cancel"]["status"], found["cancel"]["result"]["orderId"]) == (200, order["orderId"])
    assert (found["error"]["status"], found["error"]["error"]["code"]) == (400, -2011)


@pytest.mark.parametrize(
    ("name", "host", "opened"), [("um api", "fapi", "/ws-fapi/v1"), ("cm api", "dapi", "/ws-dapi/v1")]
)
def test_node_trades_futures_over_the_websocket_api(
    node: Node, exchange: SandboxThread, name: str, host: str, opened: str
) -> None:
    found = part(node, name)
    assert paths(found) == {opened}
    order, status = found["order"]["result"], found["status"]["result"]
    assert (status["orderId"], status["status"]) == (order["orderId"], "NEW")
    assert placed(exchange, host).count((order["symbol"], order["orderId"])) == 1


def test_node_runs_the_recipe_of_the_documentation(gateway: GatewayProcess, tmp_path: Path) -> None:
    made("node_binance", "node")
    page = (ROOT / "docs/clients/others.md").read_text("utf-8").partition("## binance for Node\n")[2]
    code = "".join(re.findall(r"```js\n(.*?)```", page, re.DOTALL))
    for word, value in (("B:8000", f"127.0.0.1:{gateway.port}"), ("KEY", API_KEY), ("SECRET", API_SECRET)):
        assert word in code
        code = re.sub(rf"\b{word}\b", value, code)
    # Modules find a package only beside them.
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = tmp_path / "recipe.mjs"
    script.write_text(f"{code}\nsetTimeout(() => process.exit(0), 6000);\n", "utf-8")
    before = len(rows(gateway))
    result = run_node(script)
    said = (result.stdout + result.stderr).decode("utf-8", "replace")
    assert result.returncode == 0, said
    for trouble in ("Error", "xception", "reconnecting"):
        assert trouble not in said
    assert {"main", "usdmMarket", "usdmPublic", "coinm", "mainWSAPI"} <= set(
        re.findall(r"wsKey: '(\w+)'", said)
    )
    assert "accountType: 'SPOT'" in said
    opened = sorted(path for method, _, path in rows(gateway)[before:] if method == "WS" and " " not in path)
    assert opened == sorted(
        [
            *("/stream", "/market/stream", "/public/stream", "/private/stream", "/ws-api/v3"),
            *("/dstream.binance.com/stream", "/dstream.binance.com/ws/***"),
        ]
    )
