"""The frames in which a worker asks another whether it holds an answer.

Pure: bytes and values. Every frame begins with its length. A question is a path, a query and what the client takes;
an answer is a body, or the word why there is none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# Length of the rest, number, bits, age the client consents to in ms, length of the path.
_QUESTION = struct.Struct("<IIBIH")
# Length of the rest, number, kind, ms it was waited for, age in ms, weight it cost, length of the content type.
_ANSWER = struct.Struct("<IIBIIIH")
_LENGTH = struct.Struct("<I")
_PACKED = 1
_MISS, _PLAIN, _GZIP = range(3)
# A frame longer than this is none of ours.
_LONGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """A call. Units: `max_age_ms` milliseconds, as `Kind.answer`."""

    number: int
    path: str
    query: str
    packed: bool
    max_age_ms: int

    def to_bytes(self) -> bytes:
        path, query = self.path.encode(), self.query.encode()
        size = _QUESTION.size - _LENGTH.size + len(path) + len(query)
        bits = _PACKED if self.packed else 0
        return _QUESTION.pack(size, self.number, bits, self.max_age_ms, len(path)) + path + query


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other holds.

    Shape: `reason` is "" for a hit; `body` is compressed if `packed`.
    Units: `waited_ms` from the question's arrival to the moment for which the answer holds.
    """

    number: int
    reason: str = ""
    body: bytes = b""
    packed: bool = False
    waited_ms: int = 0
    age_ms: int = 0
    cost: int = 0
    content_type: str = ""

    def to_pieces(self) -> tuple[bytes, bytes]:
        """Return the frame in two pieces; the second is the body itself."""
        kind, rest, word = _MISS, b"", self.reason.encode()
        if not self.reason:
            kind, rest, word = _GZIP if self.packed else _PLAIN, self.body, self.content_type.encode()
        size = _ANSWER.size - _LENGTH.size + len(word) + len(rest)
        head = _ANSWER.pack(size, self.number, kind, self.waited_ms, self.age_ms, self.cost, len(word))
        return head + word, rest


class Frames:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._left = bytearray()
        # So much has to be there before it is looked at again.
        self._needed = _LENGTH.size

    def feed(self, data: bytes) -> Iterator[memoryview]:
        """Yield the whole frames there are now. Raises: ValueError for what is none."""
        if self._left:
            self._left += data
            if len(self._left) < self._needed:
                return
            data, self._left = bytes(self._left), bytearray()
        view, start, end = memoryview(data), 0, len(data)
        self._needed = _LENGTH.size
        while end - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(data, start)
            if size > _LONGEST:
                raise ValueError("a frame is too long")
            stop = start + _LENGTH.size + size
            if stop > end:
                self._needed = stop - start
                break
            yield view[start:stop]
            start = stop
        self._left += view[start:]


def read_question(frame: bytes | memoryview) -> Question:
    """Read a question. Raises: ValueError."""
    try:
        _, number, bits, max_age_ms, length = _QUESTION.unpack_from(frame)
    except struct.error as error:
        raise ValueError(str(error)) from None
    start = _QUESTION.size
    path, query = str(frame[start : start + length], "utf-8"), str(frame[start + length :], "utf-8")
    return Question(number, path, query, bool(bits & _PACKED), max_age_ms)


def read_reply(frame: bytes | memoryview) -> Reply:
    """Read an answer. Raises: ValueError."""
    try:
        _, number, kind, waited_ms, age_ms, cost, length = _ANSWER.unpack_from(frame)
    except struct.error as error:
        raise ValueError(str(error)) from None
    start = _ANSWER.size
    word = str(frame[start : start + length], "utf-8")
    if kind == _MISS:
        if not word:
            raise ValueError("no reason")
        return Reply(number, word)
    return Reply(number, "", bytes(frame[start + length :]), kind == _GZIP, waited_ms, age_ms, cost, word)
