"""Measure what a call costs in this tree beside another revision of it, in one run.

`python bench/compare.py --base REV` needs git and takes about two minutes. Both gateways run at the
same time and are called in turn, so that noise meets both alike. It measures and reports;
servers.py and load.py do the work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import load
import servers
from servers import ROOT, ServerError
from upstream import SMALL_PATH

# Refused for weight is not what is measured here; older revisions do not know the setting.
_WISHES = {"WEIGHT_LIMIT_SPOT": "10000000", "CACHE_ENABLED": "false", "ADMIN_PASSWORD": "bench-password"}
_CASES = (("API key, 1 conn.", True, 1), ("API key, 8 conn.", True, 8), ("plain GET, 1 conn.", False, 1))
_START_S = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", default="HEAD", help="the revision to compare with (default: HEAD)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="resender-compare-")))
        python = servers.find_python()
        try:
            base = _checkout(options.base, folder / "base")
            port = servers.free_port()
            ca = str(folder / "ca.pem")
            command = [python, str(ROOT / "bench" / "upstream.py"), str(port), "--ca-file", ca]
            _start(stack, command, ROOT, {}, port)
            url = f"https://127.0.0.1:{port}"
            running = {
                "base": _gateway(stack, python, base, folder / "data-base", url, ca),
                "now": _gateway(stack, python, ROOT, folder / "data-now", url, ca),
            }
            print(f"| {'':18} | {options.base[:10]:>10} us | now us | ratio |\n|---|---:|---:|---:|")
            key = load.HEADERS.pop("X-MBX-APIKEY")
            for label, with_key, connections in _CASES:
                load.HEADERS.pop("X-MBX-APIKEY", None)
                if with_key:
                    load.HEADERS["X-MBX-APIKEY"] = key
                old, new = _measure(running, connections, options.rounds, options.seconds, python)
                print(f"| {label:18} | {old:13.1f} | {new:6.1f} | {new / old:5.3f} |", flush=True)
        except (ServerError, load.LoadError, OSError, subprocess.SubprocessError) as error:
            print(f"compare: {error}", file=sys.stderr)
            return 1
    return 0


def _checkout(revision: str, folder: Path) -> Path:
    done = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise ServerError(done.stderr.decode().strip() or f"no revision {revision}")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=done.stdout, check=True)
    return folder


def _gateway(
    stack: contextlib.ExitStack, python: str, root: Path, data: Path, upstream: str, ca_file: str
) -> tuple[int, int]:
    """Start a gateway; return its process id and port."""
    port = servers.free_port()
    env = {f"RESENDER_UPSTREAM_{name}": upstream for name in ("API", "FAPI", "DAPI", "EAPI", "PAPI")}
    env |= {"RESENDER_HOST": "127.0.0.1", "RESENDER_PORT": str(port), "RESENDER_DATA_DIR": str(data)}
    env |= {"RESENDER_WHITELIST": "127.0.0.1", "SSL_CERT_FILE": ca_file}
    known = (root / "settings.py").read_text("utf-8")
    env |= {f"RESENDER_{name}": value for name, value in _WISHES.items() if f"\n{name} = " in known}
    return _start(stack, [python, str(root / "run.py")], root, env, port), port


def _start(
    stack: contextlib.ExitStack, command: list[str], cwd: Path, settings: dict[str, str], port: int
) -> int:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RESENDER_")} | settings
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return process.pid
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError(f"{command[1]} does not start")
        time.sleep(0.1)


def _measure(
    running: dict[str, tuple[int, int]], connections: int, rounds: int, seconds: int, python: str
) -> tuple[float, float]:
    """Return the median CPU time of a call in microseconds, base and now."""
    found: dict[str, list[float]] = {name: [] for name in running}
    for number in range(rounds):
        names = list(running) if number % 2 else list(reversed(running))
        for name in names:
            pid, port = running[name]
            before = _cpu_s(pid)
            result = load.measure(f"http://127.0.0.1:{port}{SMALL_PATH}", connections, seconds, python)
            found[name].append((_cpu_s(pid) - before) / result.calls * 1e6)
    return statistics.median(found["base"]), statistics.median(found["now"])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
