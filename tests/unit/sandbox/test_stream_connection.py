"""WebSocket frames as they go out."""

import pytest

from resender.sandbox.stream_connection import frame


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_carry_their_length_in_the_right_form(size):
    data = frame(b"x" * size)
    assert data[0] == 0x81
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(data) == head + size
    length = data[1] if size < 126 else int.from_bytes(data[2:head], "big")
    assert length == size
