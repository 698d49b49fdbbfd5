"""One client's frames: written together, kept while it does not read, written on when it does."""

from __future__ import annotations

import pytest

from tests.unit.fanout.fakes import make_client, sink


def test_frames_of_one_turn_leave_in_one_write() -> None:
    client = make_client()
    client.pending += [b"one", b"two"]
    client.flush()
    assert sink(client).written == [b"onetwo"]
    assert (client.frames_out, client.bytes_out, client.pending, client.is_blocked) == (2, 6, [], False)
    client.flush()
    assert sink(client).written == [b"onetwo"], "nothing new, nothing written"


@pytest.mark.parametrize("combined", [False, True])
@pytest.mark.parametrize("deflated", [False, True])
def test_form_of_its_events_is_a_number(combined: bool, deflated: bool) -> None:
    assert make_client(combined=combined, deflated=deflated).variant == combined + 2 * deflated


def test_client_that_does_not_read_is_blocked_until_all_that_waited_is_written() -> None:
    client = make_client()
    sink(client).is_full = True
    client.pending.append(b"first")
    client.flush()
    assert client.is_blocked
    assert client.queue(b"a", None)
    assert client.queue(b"b", "stream")
    client.drained()
    assert sink(client).written == [b"first", b"ab"]
    assert client.is_blocked, "the second write waits too"
    sink(client).is_full = False
    client.drained()
    assert not client.is_blocked
    assert (client.frames_out, client.bytes_out) == (3, 7)


def test_much_that_waits_is_handed_over_in_pieces_and_the_rest_can_still_be_thinned() -> None:
    client = make_client(queue_bytes=200_000)
    client.is_blocked = sink(client).is_full = True
    for number in range(5):
        assert client.queue(b"%d" % number * 40_000, "stream")
    client.drained()
    assert sink(client).written == [b"0" * 40_000]
    assert client.backlog.size == 160_000
    assert client.queue(b"x" * 50_000, "stream")
    assert client.dropped == 4
    sink(client).is_full = False
    client.drained()
    assert sink(client).written[1:] == [b"x" * 50_000]
    assert not client.is_blocked


def test_closed_client_is_written_nothing() -> None:
    client = make_client()
    client.pending.append(b"late")
    client.queue(b"later", None)
    client.is_closed = True
    client.flush()
    client.drained()
    assert sink(client).written == []
    assert client.pending == []
