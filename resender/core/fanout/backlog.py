"""What waits for a client that reads slower than the market moves.

Pure. Up to its limit everything waits. Beyond, of streams that carry a whole state only the newest frame
of each waits on; a stream where each frame counts is never thinned out: the client is given up instead.
"""

from __future__ import annotations

from collections.abc import Iterator


class Backlog:
    """The frames one client has not taken yet, in order."""

    __slots__ = ("_frames", "_is_thinned", "_limit", "_number", "dropped", "size")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        # By number; of states, once the limit was met, by the stream's name.
        self._frames: dict[int | str, tuple[bytes, str | None]] = {}
        self._number = 0
        self._is_thinned = False
        self.size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: bytes, state_of: str | None) -> bool:
        """Take a frame; False if it does not fit and nothing may be left out for it.

        Shape: `state_of` is the stream whose older frames this one makes worthless, None if it makes none.
        """
        if self._is_thinned and state_of is not None:
            old = self._frames.pop(state_of, None)
            if old is not None:
                self.size -= len(old[0])
                self.dropped += 1
            self._frames[state_of] = (frame, state_of)
        else:
            self._number += 1
            self._frames[self._number] = (frame, state_of)
        self.size += len(frame)
        if self.size <= self._limit:
            return True
        if not self._is_thinned:
            self._thin()
        return self.size <= self._limit

    def _thin(self) -> None:
        """Keep only the newest frame of each state, in the order of the newest."""
        self._is_thinned = True
        kept: dict[int | str, tuple[bytes, str | None]] = {}
        for number, (frame, state_of) in self._frames.items():
            if state_of is None:
                kept[number] = (frame, None)
                continue
            old = kept.pop(state_of, None)
            if old is not None:
                self.size -= len(old[0])
                self.dropped += 1
            kept[state_of] = (frame, state_of)
        self._frames = kept

    def take(self, max_bytes: int) -> bytes:
        """Take the oldest frames, as many as fit, at least one."""
        parts: list[bytes] = []
        taken = 0
        for key in list(self._keys(max_bytes)):
            frame, _ = self._frames.pop(key)
            taken += len(frame)
            parts.append(frame)
        self.size -= taken
        if not self._frames:
            self._is_thinned = False
        return b"".join(parts)

    def _keys(self, max_bytes: int) -> Iterator[int | str]:
        taken = 0
        for key, (frame, _) in self._frames.items():
            taken += len(frame)
            if taken > max_bytes and taken > len(frame):
                return
            yield key
