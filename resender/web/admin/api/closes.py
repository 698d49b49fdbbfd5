"""What became of the last closes of each market and interval, for the page "Closes".

It reads the status and asks Binance nothing. No state.
"""

from __future__ import annotations

from resender.snapshots import close_rows
from resender.web.admin.long_answers import LiveHandler


class ClosesHandler(LiveHandler):
    """`GET /admin/api/closes`."""

    def get(self) -> None:
        self.cache()  # or there is nothing to tell
        self.send({"items": close_rows(self.services.status.closes())})
