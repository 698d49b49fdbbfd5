"""The image and what stands around it: deploy/Containerfile, deploy/compose.yaml and the files of deploy/compose.

`deploy/test-container.sh` builds the image for real and tries it; here it is run, and stopped halfway. It needs root
and namespaces: where it may not have them it says so and is skipped. The other files are read by the programs they are
for, promtool and caddy, and compared with the program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from resender.config import SETTINGS, Config
from resender.config_loading import ENVIRONMENT_PREFIX, load_config
from resender.errors import ANSWERS
from resender.gateway import Gateway
from tests.support.processes import PATIENCE_S, ROOT, GatewayProcess, Start, environment
from tests.support.reverse_proxies import write_certificate

pytestmark = pytest.mark.e2e

DEPLOY = ROOT / "deploy"
SIDE = DEPLOY / "compose"
SCRIPT = DEPLOY / "test-container.sh"
ENV_FILES = sorted(SIDE.glob("env/*.env"))
NOT_ALLOWED = 77
#: Where compose.yaml has the filled in copies of `ENV_FILES`.
ENV_FOLDER = "/etc/binance-resender/"
#: What a machine with 2 GB has for containers.
MEMORY_MB = 1850


def find_program(name: str, package: str) -> str:
    """Return the path of a program of the system; skip the test where it is missing, in CI fail."""
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        reason = f"{name} is not installed: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def run(*command: str | Path, timeout_s: float = 60.0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; a failure is the test's to judge."""
    return subprocess.run(
        [str(word) for word in command],
        env=environment_of_tools() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment_of_tools() -> dict[str, str]:
    """Return the environment as it is, but for the gateway's settings, Python's and pytest's own."""
    kept = {
        n: v for n, v in os.environ.items() if not n.startswith((ENVIRONMENT_PREFIX, "PYTEST_", "PYTHON"))
    }
    return kept | {"PYTHON": sys.executable}


# --- the image -----------------------------------------------------------------------------------


def reason_to_skip(said: str) -> str:
    """Return why the script does not run here; it has to say so in one line."""
    assert said.count("\n") == 1, said
    return said.strip()


def leftovers(folder: Path) -> list[str]:
    """List what the script has left: files, mounts, processes."""
    mounts = [line for line in Path("/proc/mounts").read_text("utf-8").splitlines() if str(folder) in line]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words:
            processes.append(words)
    return [*map(str, folder.iterdir()), *mounts, *processes]


@pytest.mark.slow
@pytest.mark.machine
@pytest.mark.timeout(400)
def test_image_is_built_serves_with_a_read_only_root_and_stops_at_sigterm(tmp_path: Path) -> None:
    result = run(SCRIPT, timeout_s=360, TMPDIR=str(tmp_path), LIMIT_S="330")
    if result.returncode == NOT_ALLOWED:
        pytest.skip(reason_to_skip(result.stderr))
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r" s  good: [0-9.]+ MB$", result.stdout.rstrip()), result.stdout
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.machine
def test_script_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SCRIPT)],
        env=environment_of_tools() | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not list(tmp_path.glob("*/nest/etc/containers/*")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)  # whatever it does then
        process.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    if process.returncode == NOT_ALLOWED:
        pytest.skip(reason_to_skip(said))
    assert process.returncode == 1, said
    assert leftovers(tmp_path) == []


def test_script_says_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "id", "unshare"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    result = run(SCRIPT, PATH=str(folder))
    assert (result.returncode, result.stdout) == (NOT_ALLOWED, "")
    line = reason_to_skip(result.stderr)
    if os.geteuid() == 0:
        missing = "buildah mmdebstrap systemd-container"
        assert line == f"{missing} is not installed: apt-get install {missing}"
    else:
        assert line == "building an image needs root"


def test_image_takes_nothing_but_the_program() -> None:
    lines = [line for line in read(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    taken = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    # settings.py is the user's own, and may hold secrets.
    assert taken == {
        "LICENSE", "admin_static", "deploy/compose/healthcheck.py", "requirements-dev.txt", "requirements.txt",
        "resender", "run.py",
    }  # fmt: skip
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", read("deploy/Containerfile"), re.MULTILINE)
    assert {word for line in copied for word in line.split()} == taken
    assert all((ROOT / name).exists() for name in taken)


# --- the health check ----------------------------------------------------------------------------


def check_health(**settings: object) -> subprocess.CompletedProcess[str]:
    """Run the health check as in the image: with the environment of the gateway."""
    return subprocess.run(
        [sys.executable, str(SIDE / "healthcheck.py")],
        env=environment(settings) | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_health_check_follows_the_settings_of_the_gateway(start_bare: Start) -> None:
    gateway: GatewayProcess = start_bare(CACHE_ENABLED="false", ADMIN_ENABLED="false")
    for host in ("", "127.0.0.1", "0.0.0.0", "::"):
        result = check_health(PORT=gateway.port, HOST=host)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    gateway.stop()
    result = check_health(PORT=gateway.port)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"/healthz cannot be asked: .*refused\n", result.stderr)


@contextmanager
def health_page(status: int, body: bytes, certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve one answer to /healthz, over TLS if there is a certificate; yield the port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE_S)


def test_health_check_takes_a_drained_node_for_well_and_a_stopping_one_not() -> None:
    with health_page(503, b'{"status":"drained","draining":true}') as port:
        assert check_health(PORT=port).returncode == 0
    with health_page(503, b'{"status":"stopping"}') as port:
        result = check_health(PORT=port)
    assert (result.returncode, result.stderr) == (1, """/healthz answers 503: b'{"status":"stopping"}'\n""")
    with health_page(503, b"<html>") as port:
        assert check_health(PORT=port).returncode == 1


def test_health_check_asks_over_tls_where_the_gateway_serves_it(tmp_path: Path) -> None:
    chain, key = write_certificate(tmp_path)
    with health_page(200, b'{"status":"ok"}', (chain, key)) as port:
        assert check_health(PORT=port, TLS_CERT=chain, TLS_KEY=key).returncode == 0
        assert check_health(PORT=port).returncode == 1


# --- compose.yaml --------------------------------------------------------------------------------


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: make docs installs it")
    found: dict[str, Any] = yaml.safe_load(read("deploy/compose.yaml"))
    return found


def megabytes(text: str) -> int:
    assert re.fullmatch(r"[0-9]+m", text), text
    return int(text[:-1])


def env_file(path: Path) -> dict[str, str]:
    """Return the values of an environment file, those that are commented out too."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", path.read_text("utf-8"), re.MULTILINE))


def test_every_service_is_shut_in_and_its_log_ends(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert service["pids_limit"] > 0, name
        assert {"max-size", "max-file"} == set(service["logging"]["options"]), name
        assert "privileged" not in service, name
        if "build" not in service:
            assert re.fullmatch(r"[a-z/]+:v?[0-9.]+", service["image"]), name


def test_services_together_fit_into_a_small_machine(compose: dict[str, Any]) -> None:
    assert sum(megabytes(service["mem_limit"]) for service in compose["services"].values()) <= MEMORY_MB


def test_only_caddy_is_reached_from_outside(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    # Behind a network of its own the gateway would not see its clients' addresses.
    assert services["gateway"]["network_mode"] == services["caddy"]["network_mode"] == "host"
    assert services["gateway"]["environment"]["RESENDER_HOST"] == "127.0.0.1"
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_files_and_volumes_of_services_are_there(compose: dict[str, Any]) -> None:
    used = set()
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), (name, source)
                assert rest.endswith(":ro"), (name, source)
            else:
                used.add(source)
        # Secrets lie outside of the project's folder; here are the samples.
        if "env_file" in service:
            sample = service["env_file"].removeprefix(ENV_FOLDER)
            assert SIDE / "env" / sample in ENV_FILES, name
    assert used == set(compose["volumes"])
    build = compose["services"]["gateway"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"


def test_settings_of_the_gateway_are_settings_and_pass(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    fixed = gateway["environment"]
    told = env_file(SIDE / "env/gateway.env")
    names = {name.removeprefix(ENVIRONMENT_PREFIX) for name in [*fixed, *told]}
    assert names <= set(SETTINGS), names - set(SETTINGS)
    assert not set(fixed) & set(told), "what stands in compose.yaml wins"
    config = load_config({}, {**{n: v for n, v in told.items() if v}, **fixed})
    # Prometheus comes from there.
    assert "127.0.0.1" in config.whitelist
    assert config.trusted_proxies
    stop_s = float(gateway["stop_grace_period"].removesuffix("s"))
    assert stop_s >= Config().shutdown_s + 30


def test_samples_of_passwords_fit_together() -> None:
    def values(name: str) -> dict[str, str]:
        return env_file(SIDE / f"env/{name}.env")

    gateway, database = values("gateway"), values("postgresql")
    user, password, name = (database[f"POSTGRES_{word}"] for word in ("USER", "PASSWORD", "DB"))
    assert gateway["RESENDER_DATABASE_URL"] == f"postgresql://{user}:{password}@127.0.0.1/{name}"
    assert gateway["RESENDER_REDIS_URL"] == f"redis://:{values('redis')['REDIS_PASSWORD']}@127.0.0.1"


# --- Caddy ---------------------------------------------------------------------------------------


def test_caddyfile_is_the_ordinary_one_with_two_values_of_the_environment() -> None:
    def site(text: str) -> str:
        return text[text.index("@stranger") :]

    ordinary = site(read("deploy/Caddyfile")).replace("remote_ip 203.0.113.5", "remote_ip {$CLIENTS}")
    own = read("deploy/compose/Caddyfile")
    assert site(own) == ordinary
    assert set(re.findall(r"\{\$(\w+)\}", own)) == set(env_file(SIDE / "env/caddy.env"))


def test_caddyfile_is_understood_by_caddy(tmp_path: Path) -> None:
    program = find_program("caddy", "caddy")
    values = env_file(SIDE / "env/caddy.env") | {"CLIENTS": "203.0.113.5 198.51.100.0/24"}
    words = ("--adapter", "caddyfile", "--config", SIDE / "Caddyfile")
    result = run(program, "validate", *words, HOME=str(tmp_path), **values)
    assert result.returncode == 0, result.stderr
    adapted = json.loads(run(program, "adapt", *words, HOME=str(tmp_path), **values).stdout)
    text = json.dumps(adapted)
    assert '"ranges": ["203.0.113.5", "198.51.100.0/24"]' in text
    assert '"host": ["gateway.example.com"]' in text
    assert adapted["admin"] == {"disabled": True}


# --- Prometheus and Grafana ----------------------------------------------------------------------

ALERTS = "deploy/compose/alerts.yml"


@cache
def exposed() -> Mapping[str, set[str]]:
    """Return the names of all metrics of the program and their labels, as the page of metrics has them."""
    text = Gateway(Config()).metrics.render().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    page = read("docs/reference/metrics.md")
    rows = re.findall(r"^\| `(resender_[a-z_]+)` \|([^|]*)\|", page, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", words)) for name, words in rows}
    return {name: labels.get(name, set()) for name in names}


def rules() -> Iterator[tuple[str, str]]:
    """Yield name and text of each alert."""
    for text in read(ALERTS).split("- alert: ")[1:]:
        yield text.split("\n", 1)[0], text


def test_every_metric_and_label_of_an_alert_exists() -> None:
    names = [name for name, _ in rules()]
    assert len(names) == len(set(names)) > 20
    for alert, text in rules():
        metrics = {name.removesuffix("_bucket") for name in re.findall(r"resender_[a-z_]+", text)}
        assert metrics <= set(exposed()), (alert, metrics - set(exposed()))
        known = {"instance", "job"}.union(*(exposed()[name] for name in metrics))
        expression = text.partition("labels:")[0]
        asked = set(re.findall(r"\$labels\.(\w+)", text)) | set(re.findall(r'[{,](\w+)=~?"', expression))
        for words in re.findall(r"by \(([^)]*)\)", expression):
            asked |= {word.strip() for word in words.split(",")} - {"le"}
        assert asked <= known, (alert, asked - known)
        if "sum by (instance)" in expression:
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= {"instance"}, alert


def test_every_name_of_an_answer_and_of_a_reason_in_an_alert_exists() -> None:
    text = read(ALERTS)
    answers = "|".join(re.findall(r'resender_answers_total\{name=~?"([^"]+)"', text)).split("|")
    assert set(answers) <= set(ANSWERS)
    page = Gateway(Config()).metrics.render().decode()
    reasons = "|".join(re.findall(r'resender_refused_total\{reason=~?"([^"]+)"', text)).split("|")
    assert set(reasons) <= set(re.findall(r'^resender_refused_total\{reason="(\w+)"', page, re.MULTILINE))


def test_alerts_and_configuration_are_understood_by_prometheus() -> None:
    program = find_program("promtool", "prometheus")
    for words in (("check", "rules", SIDE / "alerts.yml"), ("check", "config", SIDE / "prometheus.yml")):
        result = run(program, *words)
        assert result.returncode == 0, result.stdout + result.stderr


#: Series by the minute, and at which minute which alerts there are. What is not named there is quiet.
_HERE = 'instance="127.0.0.1:8000",job="binance-resender"'
STORIES: list[tuple[str, dict[str, str], int, dict[str, str]]] = [
    ("down", {"up": "1 1 0x9"}, 5, {"GatewayDown": "critical"}),
    (
        "well",
        {"up": "1x20", "resender_database_healthy": "1x20", "resender_whitelist_entries": "3x20"},
        15,
        {},
    ),
    (
        "banned",
        {'resender_egress_closed_seconds{egress="a",pool="spot"}': "0 180 120 60 0x20"},
        2,
        {"AddressBanned": "critical"},
    ),
    (
        "again and again",
        {'resender_egress_closed_seconds{egress="a",pool="spot"}': "0 30 0 30 0 0 30 0x20"},
        12,
        {"AddressPausedAgainAndAgain": "warning"},
    ),
    ("a pause of a minute", {'resender_egress_closed_seconds{egress="a",pool="spot"}': "0 50 0x20"}, 2, {}),
    (
        "unreachable",
        {'resender_answers_total{name="unreachable"}': "0+2x20"},
        8,
        {"UpstreamUnreachable": "critical"},
    ),
    (
        "not live",
        {
            'resender_cache_series{market="um"}': "100x20",
            'resender_cache_series_live{market="um"}': "40x20",
            'resender_stream_connections{market="um"}': "0x20",
        },
        8,
        {"CacheNotLive": "warning", "NoStream": "critical"},
    ),
    (
        "nothing is kept",
        {
            'resender_cache_series{market="um"}': "0x20",
            'resender_cache_series_live{market="um"}': "0x20",
            'resender_stream_connections{market="um"}': "0x20",
        },
        8,
        {},
    ),
    (
        "one of two egresses dead, tried again now and then",
        {
            'resender_egress_usable{egress="a",market="um"}': "1 0 0 0 1 0 0 0 0 0 0 0",
            'resender_egress_usable{egress="b",market="um"}': "1x12",
        },
        10,
        {"EgressDead": "warning"},
    ),
    (
        "the only egress dead",
        {'resender_egress_usable{egress="a",market="um"}': "1 0x12"},
        10,
        {"EgressDead": "warning", "NoEgress": "critical"},
    ),
    (
        "database",
        {"resender_database_healthy": "0x20", "resender_database_errors_total": "0+5x20"},
        12,
        {"DatabaseDown": "critical", "DatabaseErrors": "warning"},
    ),
    (
        "strangers",
        {'resender_answers_total{name="forbidden"}': "0+30x20"},
        12,
        {"ManyRefusedCallers": "warning"},
    ),
    ("a stranger", {'resender_answers_total{name="forbidden"}': "0+1x20"}, 12, {}),
    (
        "loop late",
        {
            'resender_loop_lag_seconds_bucket{le="0.1"}': "0+10x20",
            'resender_loop_lag_seconds_bucket{le="0.25"}': "0+3000x20",
            'resender_loop_lag_seconds_bucket{le="+Inf"}': "0+3000x20",
        },
        15,
        {"EventLoopLate": "warning"},
    ),
    (
        "loop in time",
        {
            'resender_loop_lag_seconds_bucket{le="0.1"}': "0+3000x20",
            'resender_loop_lag_seconds_bucket{le="+Inf"}': "0+3000x20",
        },
        15,
        {},
    ),
]


def series(name: str) -> str:
    """Add what Prometheus itself adds to a series."""
    head, brace, rest = name.partition("{")
    return f"{head}{{{_HERE}{',' + rest if brace else '}'}"


@pytest.mark.parametrize(("name", "values", "minute", "alerts"), STORIES, ids=[story[0] for story in STORIES])
def test_alerts_come_when_they_should(
    name: str, values: dict[str, str], minute: int, alerts: dict[str, str], tmp_path: Path
) -> None:
    program = find_program("promtool", "prometheus")
    every = {alert: re.search(r"severity: (\w+)", text) for alert, text in rules()}
    assert {alert: (found[1] if (found := every[alert]) else "") for alert in alerts} == alerts
    # Which are there, and no more of it: their words are theirs.
    expressions = [
        {
            "expr": f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert in alerts else [],
        }
        for alert in every
    ]
    story = {
        "rule_files": [str(SIDE / "alerts.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": series(each), "values": text} for each, text in values.items()],
                "promql_expr_test": expressions,
            }
        ],
    }
    path = tmp_path / "story.json"
    path.write_text(json.dumps(story), "utf-8")  # what is JSON is YAML
    result = run(program, "test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_grafana_has_the_dashboard_and_asks_prometheus(compose: dict[str, Any]) -> None:
    services = compose["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    dashboard = mounted["./grafana-dashboard.json"]
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    assert f"path: {Path(dashboard).parent}\n" in read("deploy/compose/grafana/dashboards.yaml")
    assert mounted["./compose/grafana/datasources.yaml"].startswith("/etc/grafana/provisioning/datasources/")
    assert mounted["./compose/grafana/dashboards.yaml"].startswith("/etc/grafana/provisioning/dashboards/")
    assert "url: http://127.0.0.1:9090\n" in read("deploy/compose/grafana/datasources.yaml")
    assert 'targets: ["127.0.0.1:8000"]' in read("deploy/compose/prometheus.yml")
    assert "- alerts.yml" in read("deploy/compose/prometheus.yml")
