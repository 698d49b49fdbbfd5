"""New connections, a few at a time: a thousand clients that come at once do not hold up a call under way.

It accepts and hands over, nothing else. Tornado's own takes up to 128 in one turn of the event loop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop

# A connection takes some 0.2 ms until it is set up.
ACCEPTED_AT_ONCE = 4


def accept_gently(
    listening: socket.socket, accepted: Callable[[socket.socket, Any], None]
) -> Callable[[], None]:
    """Hand every new connection to `accepted(connection, address)`; call what is returned to stop.

    Shape: `listening` does not block. Those that wait longer are taken in the next turns of the loop.
    """
    loop = IOLoop.current()
    is_stopped = False

    def take(_: object, events: int) -> None:
        for _number in range(ACCEPTED_AT_ONCE):
            if is_stopped:
                return
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it left before it was its turn
            accepted(connection, address)

    def stop() -> None:
        nonlocal is_stopped
        is_stopped = True
        loop.remove_handler(listening)

    loop.add_handler(listening, take, IOLoop.READ)
    return stop
