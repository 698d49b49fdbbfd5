"""What one server of admin pages holds between requests.

It decides nothing about requests. One `AdminSite` belongs to one Tornado application and owns
the memory of log-ins, the throttle, the files, the templates and the texts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tornado.template import Loader

from resender.core.access.login_throttle import NoteBudget, address_key
from resender.core.access.whitelist import Whitelist
from resender.places import STATIC
from resender.services import Services
from resender.web.admin.assets import Assets
from resender.web.admin.catalogues import load_catalogues
from resender.web.admin.password_check import PasswordCheck
from resender.web.admin.sessions import Logins

# A row of the audit for throttled log-ins is written once in so long.
_REFUSAL_S = 600.0
_REFUSALS_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Entry:
    id: int
    address: str
    enabled: bool = True


class AdminSite:
    """Shared by all handlers of one application."""

    def __init__(self, services: Services) -> None:
        config = services.config
        self.services = services
        self.logins = Logins(
            services.store,
            services.clock,
            idle_ms=config.admin_idle_minutes * 60_000,
            longest_ms=config.admin_session_hours * 3_600_000,
        )
        self.passwords = PasswordCheck(services.store, services.clock)
        self.assets = Assets(STATIC)
        self.templates = Loader(str(STATIC / "templates"))
        self.catalogues = load_catalogues(STATIC / "i18n")
        addresses = config.admin_whitelist
        self._allowed = Whitelist(_Entry(i, each) for i, each in enumerate(addresses)) if addresses else None
        self._refusals: OrderedDict[str, float] = OrderedDict()
        #: For what strangers cause to be written, by the action.
        self.notes = {
            "login.failed": NoteBudget(),
            "login.throttled": NoteBudget(at_once=50, every_s=60.0),
        }

    def may_reach(self, ip: str) -> bool:
        """Tell whether ADMIN_WHITELIST lets an address in."""
        return self._allowed is None or self._allowed.match(ip) is not None

    def is_first_refusal(self, ip: str) -> bool:
        """Tell whether a log-in refused for its haste has to be written down.

        Not each of them, whatever names are tried: whoever hammers would fill the audit.
        """
        key, now_mono = address_key(ip), self.services.clock.mono()
        last = self._refusals.get(key)
        if last is not None and now_mono - last < _REFUSAL_S:
            return False
        self._refusals[key] = now_mono
        self._refusals.move_to_end(key)
        while len(self._refusals) > _REFUSALS_MAX:
            self._refusals.popitem(last=False)
        return True
