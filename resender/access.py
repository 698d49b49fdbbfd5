"""Who may call: the whitelist in force, whose word counts for an address, who was refused.

The rules are `core/access/`; changes come from the database. One `Access` belongs to one gateway and
is used on the event loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from resender.aio import Clock
from resender.core.access.refused import RecentRefused
from resender.core.access.whitelist import Entry, TrustedProxies, Whitelist, is_name
from resender.log import Seldom
from resender.places import called_as

logger = logging.getLogger("resender.gateway")


class Access:
    """The addresses that may call, and those that tried."""

    def __init__(self, trusted_proxies: Sequence[str], clock: Clock) -> None:
        self.whitelist = Whitelist()
        self.proxies = TrustedProxies(trusted_proxies)
        self.refused = RecentRefused()
        self._clock = clock
        self._entries: tuple[Entry, ...] = ()
        self._resolved: Mapping[str, Sequence[str]] = {}
        # One line for each address and moment; programs such as fail2ban read them.
        self._strangers = Seldom(logging.getLogger("resender.access"), 1.0, at_once=20)

    def set_whitelist(self, entries: Iterable[Entry]) -> None:
        """Put a new whitelist in force, from the next request on."""
        self._entries = tuple(entries)
        self.whitelist = Whitelist(self._entries, self._resolved)
        if self.whitelist.unreadable:
            logger.error("%d whitelist entries cannot be read and are left out", self.whitelist.unreadable)
        if not self.whitelist.size:
            logger.warning(
                "the whitelist is empty: nobody may call. Add an address with `%s whitelist add ADDRESS`",
                called_as(),
            )

    @property
    def names(self) -> list[str]:
        """The entries in force that are DNS names."""
        return [entry.address for entry in self._entries if entry.enabled and is_name(entry.address)]

    @property
    def resolved(self) -> Mapping[str, Sequence[str]]:
        """What those names mean now; one that is not in it, or has none, lets nobody in."""
        return self._resolved

    def set_resolved(self, resolved: Mapping[str, Sequence[str]]) -> None:
        """Put in force what DNS names mean."""
        if resolved == self._resolved:
            return
        self._resolved = resolved
        self.whitelist = Whitelist(self._entries, resolved)

    def note_stranger(self, ip: str, text: str) -> None:
        """Leave a line about a refused address in the log."""
        self._strangers.say(logging.WARNING, f"{ip} {text[:6]}", self._clock.mono(), text)
