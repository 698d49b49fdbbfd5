"""What is shown of the clients of streams: every one of them, sums over those that have left, and no secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.fanout.report import fanout_snapshot
from tests.unit.fanout.fakes import NOW_MS, World, make_client, sink

KEY = "k1Z" * 21 + "x"  # as long as Binance's are


@dataclass
class Guest:
    """A connection that is no `StreamClient`."""

    kind: str = "relay"
    market: str = "um"
    path: str = "/ws-fapi/v1"
    address: str = "10.0.0.2"
    since_ms: int = NOW_MS
    frames_in: int = 7
    frames_out: int = 3
    bytes_out: int = 50
    closed: list[Any] = field(default_factory=list)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


@pytest.fixture
def world() -> World:
    return World(linger_s=10.0)


def shown(world: World) -> dict[str, Any]:
    """Return what JSON makes of a picture."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(fanout_snapshot(world.fanout).shown()))
    return found


def test_nobody_listens_at_first(world: World) -> None:
    found = shown(world)
    assert (found.pop("clients"), set(found.values())) == ([], {0})
    assert set(found) == {
        "upstream_streams", "events_in", "frames_out", "bytes_out", "dropped", "duplicates", "gaps", "opened",
        "refused", "closed_slow", "closed_lost",
    }  # fmt: skip


async def test_client_is_shown_with_what_it_got(world: World) -> None:
    client = world.client("a@bookTicker", "b@bookTicker")
    world.spot.push("a@bookTicker", b'{"u":1}')
    world.spot.push("b@bookTicker", b'{"u":2}')
    await world.settle()
    found = shown(world)
    assert found["clients"] == [
        {
            "id": client.number, "address": "10.0.0.1", "kind": "market", "market": "spot", "path": "/ws",
            "streams": 2, "names": ["a@bookTicker", "b@bookTicker"], "frames": 2, "bytes": 18, "queue": 0,
            "dropped": 0, "since": NOW_MS,
        }
    ]  # fmt: skip
    assert (found["upstream_streams"], found["events_in"], found["bytes_out"], found["opened"]) == (
        2,
        2,
        18,
        1,
    )


async def test_newest_client_comes_first_whatever_it_is(world: World) -> None:
    first = world.client("a@trade")
    world.fanout.guests[world.fanout.next_number()] = Guest()
    last = world.client("a@trade")
    world.fanout.guests[world.fanout.next_number()] = Guest(
        kind="tunnel", market="", path="fapi.binance.com:443"
    )
    rows = shown(world)["clients"]
    assert [row["id"] for row in rows] == [4, last.number, 2, first.number] == [4, 3, 2, 1]
    assert [row["kind"] for row in rows] == ["tunnel", "market", "relay", "market"]
    assert (rows[0]["path"], rows[0]["market"], rows[0]["names"]) == ("fapi.binance.com:443", "", [])


def test_guest_is_shown_with_its_own_counts(world: World) -> None:
    world.fanout.guests[1] = Guest()
    (row,) = shown(world)["clients"]
    assert (row["frames"], row["bytes"], row["queue"], row["dropped"], row["streams"]) == (3, 50, 0, 0, 1)


async def test_client_of_closes_is_told_from_one_of_streams(world: World) -> None:
    client = make_client(Market.UM)
    client.path = "/local/um/closes"
    world.fanout.add(client, ())
    (row,) = shown(world)["clients"]
    assert (row["kind"], row["market"], row["streams"], row["names"]) == ("closes", "um", 0, [])


async def test_only_the_first_names_are_shown_and_all_are_counted(world: World) -> None:
    world.client(*(f"s{number}@trade" for number in range(8)))
    (row,) = shown(world)["clients"]
    assert (row["streams"], row["names"]) == (8, [f"s{number}@trade" for number in range(5)])


async def test_listen_key_is_counted_and_never_shown(world: World) -> None:
    world.client(KEY, "a@trade", "k" * 64, "b@trade")
    (row,) = shown(world)["clients"]
    assert (row["streams"], row["names"]) == (4, ["a@trade", "b@trade"])


@pytest.mark.parametrize(
    "name",
    [f"{KEY}@account", f"{KEY}@balance", f" {KEY}", f"{KEY}?x", f"listenKey={KEY}", f"@{KEY}", f"x&{KEY}.y"],
)
async def test_listen_key_in_a_name_that_is_none_is_not_shown_either(world: World, name: str) -> None:
    world.client(name, "a@trade")
    (row,) = shown(world)["clients"]
    assert row["streams"] == 2
    assert KEY not in str(row)
    assert row["names"][1] == "a@trade"


async def test_long_name_that_is_no_stream_is_cut(world: World) -> None:
    world.client(*(f"{number}{'-' * 60_000}" for number in range(5)))
    assert len(orjson.dumps(shown(world))) < 2000


@pytest.mark.parametrize("name", ['"', "\\", "\x00", "\u2028", "<script>", "币安人生usdt@trade", "\ufffd"])
async def test_odd_names_stay_json(world: World, name: str) -> None:
    world.client(name)
    assert shown(world)["clients"][0]["names"] == [name]


async def test_what_waits_and_what_was_left_out_is_shown_of_a_client_that_does_not_read(world: World) -> None:
    client = world.client("a@bookTicker", "b@bookTicker", queue_bytes=18)
    sink(client).is_full = True
    for number in range(1, 6):
        world.spot.push("a@bookTicker", b'{"u":%d}' % number)
        await world.settle()
    (row,) = shown(world)["clients"]
    assert row["queue"] == client.backlog.size > 0
    assert row["dropped"] == client.dropped == 3, "the first was written, the newest waits"
    assert shown(world)["dropped"] == 3


async def test_sums_never_go_back_when_a_client_leaves(world: World) -> None:
    client, other = world.client("a@bookTicker", queue_bytes=18), world.client("a@bookTicker")
    sink(client).is_full = True
    for number in range(1, 6):
        world.spot.push("a@bookTicker", b'{"u":%d}' % number)
        await world.settle()
    before = shown(world)
    world.fanout.remove(client)
    world.fanout.remove(client)  # a connection may end twice
    world.fanout.close(other, 1012, "")
    after = shown(world)
    assert after.pop("clients") == []
    before.pop("clients")
    assert after == before
    assert after["dropped"] == 3
    assert after["bytes_out"] > 0


async def test_streams_are_counted_until_they_are_given_up(world: World) -> None:
    client = world.client("a@trade")
    world.client("a@trade", "nothing of the kind")
    assert shown(world)["upstream_streams"] == 1
    for each in list(world.fanout.clients.values()):
        world.fanout.remove(each)
    assert shown(world)["upstream_streams"] == 1
    world.wait(11)
    assert shown(world)["upstream_streams"] == 0
    assert client.number not in world.fanout.clients


async def test_picture_stays_what_it_was(world: World) -> None:
    client = world.client("a@trade")
    picture = fanout_snapshot(world.fanout)
    world.fanout.unsubscribe(client, ["a@trade"])
    world.fanout.remove(client)
    assert picture.shown()["clients"][0]["names"] == ["a@trade"]
    assert picture.streams == 1
