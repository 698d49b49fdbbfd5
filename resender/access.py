"""Who may call: the whitelist in force, whose word counts for an address, who was refused.

The rules are `core/access/`; changes come from the database. One `Access` belongs to one gateway and
is used on the event loop only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from resender.aio import Clock
from resender.core.access.refused import RecentRefused
from resender.core.access.whitelist import Entry, TrustedProxies, Whitelist
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
        # One line for each address and moment; programs such as fail2ban read them.
        self._strangers = Seldom(logging.getLogger("resender.access"), 1.0, at_once=20)

    def set_whitelist(self, entries: Iterable[Entry]) -> None:
        """Put a new whitelist in force, from the next request on."""
        self.whitelist = Whitelist(entries)
        if self.whitelist.unreadable:
            logger.error("%d whitelist entries cannot be read and are left out", self.whitelist.unreadable)
        if not self.whitelist.size:
            logger.warning(
                "the whitelist is empty: nobody may call. Add an address with `%s whitelist add ADDRESS`",
                called_as(),
            )

    def note_stranger(self, ip: str, text: str) -> None:
        """Leave a line about a refused address in the log."""
        self._strangers.say(logging.WARNING, f"{ip} {text[:6]}", self._clock.mono(), text)
