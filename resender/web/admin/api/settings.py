"""The settings in force, to look at: they are changed in settings.py, and secrets are masked.

No state.
"""

from __future__ import annotations

from typing import Any

from resender.config import SETTINGS, Config, shown_value
from resender.web.admin.long_answers import LiveHandler


class SettingsHandler(LiveHandler):
    """`GET /admin/api/settings`."""

    def get(self) -> None:
        self.send({"items": settings(self.services.config)})


def settings(config: Config) -> list[dict[str, Any]]:
    """List every setting with its value for people, and where it comes from."""
    return [
        {
            "name": name,
            "value": shown_value(config, name),
            "default": ", ".join(row.default) if isinstance(row.default, tuple) else str(row.default),
            "help": row.help,
            "secret": row.secret,
            "source": config.sources.get(name, "default"),
        }
        for name, row in SETTINGS.items()
    ]
