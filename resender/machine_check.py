"""What `doctor --deep` finds out about this machine and this installation, and what to do about each finding.

It writes one file into DATA_DIR and removes it again, and changes nothing else. No state.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from resender.config import Config
from resender.core.access.whitelist import is_name
from resender.errors import StartError, StoreError
from resender.name_watch import NoSuchName, look_up
from resender.places import home
from resender.server_tls import ServerTls
from resender.store import open_repository

_WRITTEN = 8 << 20
_SLOW_WRITE_MS = 1500.0
_FREE_DISK_MB = 500
_FREE_MEMORY_MB = 150
_CERTIFICATE_DAYS = 14
# Source: adjtimex(2): the state TIME_ERROR, and the bit STA_UNSYNC of the status.
_TIME_ERROR = 5
_NTP_BYTES = 512


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Shape: `advice` says what to do, empty where nothing is."""

    what: str
    is_ok: bool
    text: str
    advice: str = ""


def check_machine(config: Config) -> Iterator[Finding]:
    """Look at everything in turn."""
    yield from _disk(config.data_path)
    yield _memory()
    yield _time_sync()
    yield from _database(config)
    if config.tls_cert:
        yield _certificate(config)


def _disk(folder: Path) -> Iterator[Finding]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        free_mb = shutil.disk_usage(folder).free // 1_000_000
        took_ms = _write_speed(folder)
    except OSError as error:
        text = f"{folder} cannot be written to: {error.strerror or error}"
        advice = "give it to the user who runs the gateway, or choose another DATA_DIR"
        if error.errno == errno.ENOSPC:
            advice = "the disk is full: remove what is not needed"
        yield Finding("disk", False, text, advice)
        return
    is_roomy = free_mb >= _FREE_DISK_MB
    advice = "" if is_roomy else "remove what is not needed, or keep less of the request log (LOG_MAX_ROWS)"
    yield Finding("disk", is_roomy, f"{free_mb:,d} MB are free where {folder} lies", advice)
    is_fast = took_ms < _SLOW_WRITE_MS
    advice = "" if is_fast else "switch the request log off, or move DATA_DIR to a local disk"
    yield Finding("writing", is_fast, f"8 MB are written and synced in {took_ms:,.0f} ms", advice)


def _write_speed(folder: Path) -> float:
    path = folder / f".doctor-{os.getpid()}"
    data = os.urandom(1 << 20)
    started = time.perf_counter()
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for _ in range(_WRITTEN // len(data)):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - started) * 1000
    finally:
        with suppress(OSError):
            path.unlink()


def _memory() -> Finding:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free_mb = int(rows["MemAvailable"].split()[0]) // 1000
    except (OSError, KeyError, ValueError):
        return Finding("memory", True, "cannot be told on this system")
    is_ok = free_mb >= _FREE_MEMORY_MB
    advice = (
        "" if is_ok else "keep fewer series (MAX_ON_DEMAND_SERIES, KLINE_DEPTH), or take a larger machine"
    )
    return Finding("memory", is_ok, f"{free_mb:,d} MB are available", advice)


def _time_sync() -> Finding:
    state = _ntp_state()
    if state is None:
        return Finding("time", True, "cannot be told on this system whether the clock is synchronized")
    if state:
        return Finding("time", True, "the clock is synchronized")
    advice = "apt-get install -y systemd-timesyncd (or chrony); in a container it is the host's clock"
    return Finding("time", False, "nothing keeps this machine's clock right", advice)


def _ntp_state() -> bool | None:
    """Ask the kernel whether the clock is kept right; None if it does not say."""
    with suppress(Exception):
        # `struct timex` with all modes 0 reads; 512 bytes are more than it has anywhere.
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_NTP_BYTES))
        return None if answer < 0 else answer != _TIME_ERROR
    return None


def _database(config: Config) -> Iterator[Finding]:
    try:
        with open_repository(config.database) as repository:
            repository.whitelist_seed(config.whitelist)
            problem = repository.find_damage()
            entries = [entry for entry in repository.whitelist_list() if entry.enabled]
            channels = [row for row in repository.alert_channels() if row.enabled]
    except StoreError as error:
        yield Finding("database", False, str(error).rstrip("."), "mend that first, or restore a backup")
        return
    advice = "stop the gateway and restore a backup: `run.py restore FILE`" if problem else ""
    yield Finding("database", not problem, problem or "is whole", advice)
    advice = "" if entries else "`run.py whitelist add ADDRESS`: until then every call is refused"
    yield Finding("whitelist", bool(entries), f"{len(entries)} entries are in force", advice)
    for entry in entries:
        if is_name(entry.address):
            yield _name(entry.address)
    text = f"{len(channels)} channels are told" if channels else "nobody is told when something is wrong"
    yield Finding("alerts", True, text, "" if channels else "`run.py alert add`, or the page Alerts")


def _name(name: str) -> Finding:
    try:
        addresses = asyncio.run(look_up(name))
    except (NoSuchName, OSError):
        return Finding("name", False, f"{name} cannot be resolved: it lets nobody in", "check name and DNS")
    return Finding("name", True, f"{name} is {', '.join(dict.fromkeys(addresses))}")


def _certificate(config: Config) -> Finding:
    try:
        tls = ServerTls(home() / config.tls_cert, home() / config.tls_key if config.tls_key else None)
    except StartError as error:
        return Finding("certificate", False, str(error), "correct TLS_CERT and TLS_KEY")
    ends = tls.ends_at
    if ends is None:
        return Finding("certificate", False, "its end cannot be read", "check the file of TLS_CERT")
    days = (ends - datetime.now(timezone.utc)).days
    is_ok = days >= _CERTIFICATE_DAYS
    return Finding("certificate", is_ok, f"ends in {days} days", "" if is_ok else "renew it")
