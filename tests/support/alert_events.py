"""What the tests of alerts share: one of each kind with its values, and channels that hold a marker in every secret.

Whatever shows a piece of a `MARK` has let a secret out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resender.core.alerts.board import Event
from resender.core.alerts.kinds import KINDS

AT_MS = 1_790_000_000_000
DAY_MS = 86_400_000

# What the program names of each kind; tests/unit/alerts/test_watching.py compares them with what it finds.
VALUES: Mapping[str, Mapping[str, str | int]] = {
    "banned": {"egress": "own", "pool": "futures", "seconds": 119},
    "paused": {"egress": "second", "pool": "spot", "seconds": 61},
    "region": {"market": "um"},
    "unreachable": {"market": "spot", "why": "No connection: check the network, the firewall and DNS."},
    "egress": {"egress": "via", "markets": "cm, um", "why": "waf"},
    "cache": {"market": "um", "live": 7, "wanted": 320},
    "database": {"why": "The database /data/resender.db cannot grow: the disk is full."},
    "migration": {"version": "0.9.7", "why": "The database cannot be brought up to date (no such column: x)"},
    "disk": {"free_mb": 123},
    "clock": {"off_ms": 4321},
    "certificate": {"days": 13},
    "node": {"node": "gw2", "seconds": 37},
    "key": {"hint": "wxyz", "egress": "own"},
    "login": {"user": "root", "address": "203.0.113.9"},
    "strangers": {"count": 512, "address": "198.51.100.7"},
    "test": {},
}

# Short enough to be a Telegram token's part, and nowhere else by chance.
MARK = "MaRk7Q"
TOKEN = f"123456789:{MARK}" + "x" * 29
FIELDS: Mapping[str, Mapping[str, str]] = {
    "telegram": {"token": TOKEN, "chat_id": "-1001234567890", "server": "https://telegram.example"},
    "feishu": {"url": f"https://feishu.example/open-apis/bot/v2/hook/{MARK}-hook", "secret": f"{MARK}-sign"},
    "dingtalk": {"url": f"https://ding.example/robot/send?access_token={MARK}tok", "secret": f"SEC{MARK}"},
    "wecom": {"url": f"https://wecom.example/cgi-bin/webhook/send?key={MARK}-key"},
    "bark": {"key": f"{MARK}device", "server": "https://bark.example"},
    "email": {
        "host": "mail.example", "port": "587", "security": "starttls", "user": "robot@mail.example",
        "password": f"{MARK} pass word", "sender": "robot@mail.example", "to": "owner@mail.example",
    },
    "slack": {"url": f"https://slack.example/services/T000/B000/{MARK}"},
    "discord": {"url": f"https://discord.example/api/webhooks/42/{MARK}"},
    "webhook": {"url": f"https://hooks.example/{MARK}/in?auth={MARK}", "secret": f"{MARK}-hmac"},
}  # fmt: skip


def event(
    kind: str, subject: str = "", at_ms: int = AT_MS, lasted_s: float | None = None, **values: Any
) -> Event:
    """Make an event of a kind, with the values it would have."""
    return Event(KINDS[kind], subject, {**VALUES[kind], **values}, at_ms, lasted_s)


def over(begin: Event, lasted_s: float = 60.0, at_ms: int | None = None) -> Event:
    """Make the end of an alert that has begun."""
    now_ms = begin.at_ms + int(lasted_s * 1000) if at_ms is None else at_ms
    return Event(begin.kind, begin.subject, begin.values, now_ms, lasted_s)
