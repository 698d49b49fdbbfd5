"""Ports for programs that must be told one before they start.

A port the system chose and gave back may be taken by anybody before the program listens. These lie
below the range the system chooses from, and each test worker has its own.
"""

from __future__ import annotations

import itertools
import os
import socket

# Another run at the same time is told to begin elsewhere.
_FIRST, _EACH = int(os.environ.get("TEST_PORTS") or 20_000), 1000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
# Several runs at once on one machine begin at different places.
_numbers = itertools.cycle(range(_EACH))
for _ in range(os.getpid() % _EACH):
    next(_numbers)


def free_port() -> int:
    """Return a port of loopback nobody listens on."""
    for _ in range(_EACH):
        port = _FIRST + _worker % 10 * _EACH + next(_numbers)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def free_ports(count: int) -> list[int]:
    """Return several, none twice."""
    return [free_port() for _ in range(count)]
