"""Telling the owner: what is wrong, to the channels there are, and what became of it.

What is named here is all that the web layer uses; the modules below are the package's own.
"""

from __future__ import annotations

from resender.alerts.sending import NotSent, Sender, sealed_for
from resender.alerts.service import Alerts
from resender.alerts.watching import AlertOptions, Watch

__all__ = ["AlertOptions", "Alerts", "NotSent", "Sender", "Watch", "sealed_for"]
