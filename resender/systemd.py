"""What a service tells systemd: ready, alive, how it is doing, stopping.

A few datagrams to one socket; without systemd nothing is sent. The watchdog is fed by the event
loop, so that a loop that hangs is noticed. Source: sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

_MAX_STATUS_CHARS = 200
_STATUS_EVERY_S = 10.0
_AGAIN_S = 0.5


def notify(*lines: str) -> bool:
    """Send lines such as `READY=1`; return whether somebody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or address[0] not in "/@" or not hasattr(socket, "AF_UNIX"):
        return False
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True


def watchdog_s() -> float:
    """Return how long systemd waits for a sign of life, 0 if it does not."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(text) / 1e6


def status_line(text: str) -> str:
    """Return the STATUS line for a text, on one line."""
    return f"STATUS={' '.join(text.split())[:_MAX_STATUS_CHARS]}"


def is_listening() -> bool:
    """Tell whether the program was started by something that wants to hear of it."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


async def keep_informed(status: Callable[[], str], is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Say READY, then feed the watchdog and keep the status in words current, until cancelled.

    Shape: READY is not said any more once `is_stopping()`.
    What could not be said, because systemd is busy or starts anew, is said again soon.
    """
    limit_s = watchdog_s()
    every_s = min(_STATUS_EVERY_S, limit_s / 3) if limit_s else _STATUS_EVERY_S
    is_ready = False
    while is_listening():
        is_ready |= is_stopping()
        words = ["WATCHDOG=1", status_line(status())]
        was_heard = notify(*(words if is_ready else ["READY=1", *words]))
        is_ready |= was_heard
        await asyncio.sleep(every_s if was_heard else min(_AGAIN_S, every_s / 4))
