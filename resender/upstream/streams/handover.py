"""What a connection brings while the one it replaces still serves: kept back, so that order holds.

It belongs to one `StreamLink` of a rotation. Frames of the same stream from two connections would overtake
each other; a listener that relays them in order gets those of the new one when the old one has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Any

from resender.upstream.streams.link import OnFrame

logger = logging.getLogger("resender.upstream")

_MAX_BYTES = 32 << 20


class Handover:
    """Passes frames on, or keeps those of some streams back until it is told to.

    Shape: `kept_names` are the streams whose frames are kept; the others pass.
    """

    def __init__(self, on_frame: OnFrame, kept_names: Set[str], *, is_keeping: bool) -> None:
        self._on_frame = on_frame
        self._kept_names = kept_names
        self._kept: list[tuple[str, Any, bytes]] | None = [] if is_keeping else None
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether more came than can be kept: then nothing must be handed over."""
        return self._bytes > _MAX_BYTES

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        if self._kept is None or name not in self._kept_names:
            return self._on_frame(name, data, raw)
        self._bytes += len(raw)
        if self.is_full:
            self._kept.clear()
        else:
            self._kept.append((name, data, raw))
        return True

    def release(self) -> bool:
        """Pass on what was kept and keep nothing from now on; False if a frame cannot be used."""
        kept, self._kept = self._kept or [], None
        is_good = True
        for frame in kept:
            try:
                is_good = self._on_frame(*frame) is not False and is_good
            except (ValueError, KeyError, TypeError):
                is_good = False
            except Exception:
                logger.exception("the callback for a frame of %s failed", frame[0])
                is_good = False
        return is_good

    def forget(self) -> None:
        """Keep nothing from now on; what was kept is worthless."""
        self._kept = None
