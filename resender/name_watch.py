"""The DNS names of the whitelist: whose addresses change are looked up again and again.

What a name has not been found to be lately lets nobody in. One `NameWatch` belongs to one gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resender.aio import Clock, Tasks, within

logger = logging.getLogger("resender.names")

Lookup = Callable[[str], Awaitable[Sequence[str]]]
# How often a name is looked up, how soon after a look-up that failed, and how long the last answer counts meanwhile.
LOOK_S = 60.0
_AGAIN_S = 5.0
_TRUST_S = 120.0
_LOOKUP_S = 10.0
_MAX_ADDRESSES = 16
_SLOT_S = 0.05
# Look-ups that may be under way at once.
_THREADS = threading.BoundedSemaphore(16)


@dataclass(slots=True)
class _Name:
    addresses: tuple[str, ...] = ()
    found_mono: float = float("-inf")
    due_mono: float = 0.0
    is_failing: bool = False
    is_known: bool = False
    looking: asyncio.Task[None] | None = None

    @property
    def is_looked_up(self) -> bool:
        """Whether a look-up is under way."""
        return self.looking is not None and not self.looking.done()

    @property
    def next_mono(self) -> float:
        """When there is something to do: a look-up, or the end of the trust in the last answer."""
        return min(self.due_mono, self.found_mono + _TRUST_S) if self.addresses else self.due_mono


class NoSuchName(LookupError):
    """DNS says that there is no such name, or that it has no address."""


class NameWatch:
    """Looks names up; `on_change` is called whenever what one of them means has changed."""

    def __init__(
        self, clock: Clock, tasks: Tasks, on_change: Callable[[], None], *, lookup: Lookup | None = None
    ) -> None:
        self._clock = clock
        self._tasks = tasks
        self._on_change = on_change
        self._lookup = lookup or look_up
        self._names: dict[str, _Name] = {}
        self._is_running = False
        self._wake = asyncio.Event()

    @property
    def resolved(self) -> Mapping[str, tuple[str, ...]]:
        """The addresses of each name, none where it is not known."""
        return {text: name.addresses for text, name in self._names.items()}

    def set_names(self, names: Iterable[str]) -> None:
        """Take the names to be looked up; a new one is at once."""
        wanted = set(names)
        for gone in self._names.keys() - wanted:
            del self._names[gone]
        new = wanted - self._names.keys()
        self._names |= {text: _Name() for text in new}
        if new and not self._is_running:
            self._is_running = True
            self._tasks.spawn(self._watch(), name="whitelist-names")
        if new:
            self._wake.set()

    async def ready(self, longest_s: float) -> None:
        """Wait until every name has been looked up once, or for so long."""
        end = self._clock.mono() + longest_s
        while any(not name.is_known for name in self._names.values()) and self._clock.mono() < end:
            await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock.mono()
            if self._forget_old(now):
                self._on_change()
            due = [
                text for text, name in self._names.items() if name.due_mono <= now and not name.is_looked_up
            ]
            for text in due:
                name = self._names[text]
                name.due_mono = now + LOOK_S
                name.looking = self._tasks.spawn(self._look(text), name=f"whitelist-name:{text}")
            next_mono = min((name.next_mono for name in self._names.values()), default=now + LOOK_S)
            try:
                await within(self._wake.wait(), max(0.05, next_mono - self._clock.mono()))
            except asyncio.TimeoutError:
                continue

    def _forget_old(self, now: float) -> bool:
        """Take the addresses of names whose last answer is too old; return whether there were any."""
        old = [name for name in self._names.values() if name.addresses and now - name.found_mono >= _TRUST_S]
        for name in old:
            name.addresses = ()
        return bool(old)

    async def _look(self, text: str) -> None:
        """Look one name up, and tell if it means something else now."""
        try:
            found = await within(self._lookup(text), _LOOKUP_S)
        except NoSuchName:
            addresses: tuple[str, ...] | None = ()
        except (OSError, ValueError, RuntimeError, asyncio.TimeoutError):
            addresses = None  # DNS, a name no resolver takes, a system without a thread to spare
        else:
            addresses = tuple(sorted(set(found)))[:_MAX_ADDRESSES]
        name = self._names.get(text)
        if name is None or name.looking is not asyncio.current_task():  # taken off meanwhile, or anew
            return
        now = self._clock.mono()
        name.is_known = True
        name.due_mono = now + (LOOK_S if addresses else _AGAIN_S)
        self._wake.set()
        if addresses is not None:
            name.found_mono = now
        elif now - name.found_mono < _TRUST_S:
            return  # DNS itself does not answer: what it said last counts for a while
        addresses = addresses or ()
        if not addresses and not name.is_failing:
            logger.warning("whitelist entry %s cannot be resolved: it lets nobody in", text)
        name.is_failing = not addresses
        if addresses == name.addresses:
            return
        if addresses:
            logger.info("whitelist entry %s is %s now", text, ", ".join(addresses))
        name.addresses = addresses
        self._on_change()


def _ask_system(name: str, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Any]]) -> None:
    """Look a name up in a thread, and tell the loop."""
    found: list[Any] | Exception
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except Exception as error:
        found = error
    finally:
        _THREADS.release()

    def tell() -> None:
        if answer.done():  # nobody waits any more
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(tell)


async def look_up(name: str) -> list[str]:
    """Ask the system for the addresses of a name.

    Shape: addresses that are everybody's or nobody's (`0.0.0.0`, multicast) are left out.
    Raises: NoSuchName; OSError if DNS does not answer.
    """
    loop = asyncio.get_running_loop()
    try:
        # In threads of its own: names that hang hold up neither the loop's, where Binance's own are looked up, nor the
        # end of the process.
        while not _THREADS.acquire(blocking=False):
            await asyncio.sleep(_SLOT_S)  # the caller limits the time
        answer: asyncio.Future[list[Any]] = loop.create_future()
        try:
            threading.Thread(
                target=_ask_system, args=(name, loop, answer), name="whitelist-name", daemon=True
            ).start()
        except RuntimeError:
            _THREADS.release()
            raise
        rows = await answer
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise NoSuchName(name) from None
        raise
    found = []
    for row in rows:
        address = ipaddress.ip_address(str(row[4][0]).partition("%")[0])
        if not address.is_unspecified and not address.is_multicast:
            found.append(str(address))
    return found
