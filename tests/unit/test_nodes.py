from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, cast

import pytest

from resender.aio import Clock
from resender.core.account.spec import AccountMarket, Mode
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Homes
from resender.core.cluster.node_info import NodeEgress, NodeInfo
from resender.core.cluster.worker import INNER_HEADER, NODE_STREAM_URLS, Worker
from resender.core.egress.spec import Pins
from resender.core.egress.state import Egress, Quarantine
from resender.nodes import (
    keep_memory_of,
    make_hops,
    memory_of,
    node_egresses,
    share_streams,
    specs_of,
    streams_elsewhere,
)
from resender.store import AccountKeyRow, AccountRow
from resender.upstream.egress_making import make_egress
from resender.upstream.hops import CollectorSession, Hops
from resender.upstream.shared_streams import ReaderStreams, SharedStreams
from resender.upstream.streams.feeds import SHARED
from tests.support.running import make_config

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLOCK = Clock(now_ms=lambda: 1_796_000_000_000, mono=lambda: 100.0)
CLUSTER = {"redis_url": "redis://127.0.0.1:1", "node_secret": "s" * 40, "node_url": "http://10.0.0.1:8000"}


def made(folder: Path, **settings: object) -> Hops | None:
    config = make_config(folder, **settings)
    return make_hops(config, "a", make_egress(config, CLOCK, CONTEXT), CLOCK, CONTEXT)


@pytest.mark.parametrize("left_out", ["redis_url", "node_secret", "node_url"])
def test_node_is_alone_unless_others_can_be_found_and_can_reach_it(tmp_path: Path, left_out: str) -> None:
    settings = {name: value for name, value in CLUSTER.items() if name != left_out}
    if left_out == "node_secret":
        del settings["node_url"]
    assert made(tmp_path, **settings) is None


def test_front_need_not_be_reached(tmp_path: Path) -> None:
    settings = {name: value for name, value in CLUSTER.items() if name != "node_url"}
    hops = made(tmp_path, **settings, roles="front")
    assert hops is not None
    assert hops.homes.is_front


def fail(egress: Egress) -> None:
    egress.quarantine[Market.UM] = Quarantine()
    egress.quarantine[Market.UM].fail(100.0, 100.0)


def test_egresses_are_told_with_what_stands_for_them_and_where_they_work(tmp_path: Path) -> None:
    config = make_config(tmp_path, **CLUSTER, egress="one=127.0.0.2;markets=um+spot,two=default;shared=nat")
    egress = make_egress(config, CLOCK, CONTEXT)
    make_hops(config, "a", egress, CLOCK, CONTEXT)
    fail(egress.governor.by_name["one"])
    one, two = node_egresses(config, egress, CLOCK)
    assert one == NodeEgress("one", "address", "a/one", ("spot", "um"), ("um",))
    assert (two.place, two.down) == ("nat", ())
    assert set(two.markets) == {market.value for market in Market}
    front = make_config(tmp_path, **CLUSTER, roles="front,admin")
    assert node_egresses(front, egress, CLOCK) == ()


def test_own_egress_that_cannot_connect_is_no_home(tmp_path: Path) -> None:
    config = make_config(tmp_path, **CLUSTER)
    egress = make_egress(config, CLOCK, CONTEXT)
    hops = make_hops(config, "a", egress, CLOCK, CONTEXT)
    assert hops is not None
    other = NodeInfo("b", "b", "http://b", egresses=(NodeEgress("ip", "address"),))
    hops.homes.learn([other])
    keys = [f"key {number}" for number in range(40)]
    assert {hops.homes.home(Market.UM, key, 100.0) is None for key in keys} == {True, False}
    fail(egress.governor.egresses[0])
    assert {hops.homes.home(Market.UM, key, 100.0) is None for key in keys} == {False}


def test_streams_come_from_where_they_are(tmp_path: Path) -> None:
    worker = Worker(1, 2, 8000, 9000, -1, "0" * 64)
    assert streams_elsewhere(None, None, CLOCK).urls == {}
    assert streams_elsewhere(None, made(tmp_path, **CLUSTER), CLOCK).urls == {}
    beside = streams_elsewhere(worker, None, CLOCK)
    assert beside.urls[Market.UM] == "ws://127.0.0.1:9000/fstream.binance.com"
    front = streams_elsewhere(None, made(tmp_path, **CLUSTER, roles="front"), CLOCK)
    assert front.urls == NODE_STREAM_URLS
    assert front.open_with is not None
    assert isinstance(front.open_with(front.urls[Market.SPOT], 5.0), CollectorSession)


def row(number: int, *digests: str, market: str = "um", mode: str = "key") -> AccountRow:
    keys = tuple(AccountKeyRow(number, digest, "xxxx", None, "linked", 0) for digest in digests)
    return AccountRow(number, f"account {number}", market, mode, None, 0, keys)


def test_accounts_are_watched_where_calls_with_their_keys_come() -> None:
    digests = [f"{number:064x}" for number in range(20)]
    rows = [row(number, digest) for number, digest in enumerate(digests)]
    assert [spec.id for spec in specs_of(rows, None, 0.0)] == list(range(20))
    found = {}
    for name, other in (("a", "b"), ("b", "a")):
        homes = Homes(name, Pins(), lambda market, name=name: [f"{name}/ip"], is_front=False)
        homes.learn([NodeInfo(other, other, "http://x", egresses=(NodeEgress("ip", "address"),))])
        found[name] = {spec.id for spec in specs_of(rows, homes, 0.0)}
    assert found["a"] | found["b"] == set(range(20))
    assert not found["a"] & found["b"]
    assert found["a"]
    assert found["b"]


def test_account_that_waits_for_its_key_waits_on_every_node_but_a_front() -> None:
    for is_front in (False, True):
        homes = Homes("a", Pins(), lambda market: ["a/ip"], is_front=is_front)
        assert bool(specs_of([row(1)], homes, 0.0)) is not is_front


def test_row_that_cannot_be_read_is_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        (spec,) = specs_of([row(1, market="moon"), row(2, mode="odd"), row(3, "ab")], None, 0.0)
    assert (spec.id, spec.market, spec.mode, spec.keys) == (3, AccountMarket.UM, Mode.KEY, {"ab": "xxxx"})
    assert "account 1 is left out" in caplog.text
    assert "account 2 is left out" in caplog.text


class FakeRepository:
    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def state_get(self, name: str) -> str | None:
        return self.rows.get(name)

    def state_set(self, name: str, text: str) -> None:
        self.rows[name] = text


def test_memory_of_an_address_is_of_all_nodes_and_each_has_its_part() -> None:
    kept = cast(Any, FakeRepository())
    assert memory_of(kept, "nat", "a") == ("", 0)
    keep_memory_of(kept, "nat", "a", "one", 450)
    keep_memory_of(kept, "nat", "b", "two", 300)
    assert memory_of(kept, "nat", "a") == ("two", 450)
    assert memory_of(kept, "nat", "b") == ("two", 300)
    assert memory_of(kept, "other", "a") == ("", 0)


COLLECTOR, READER = (Worker(number, 2, 8000, 9000, -1, "0" * 64) for number in (0, 1))


@pytest.mark.parametrize(
    ("worker", "settings", "expected"),
    [
        (None, {}, SharedStreams),
        (COLLECTOR, {}, SharedStreams),
        (READER, {}, ReaderStreams),
        (None, {"share_streams": False}, None),
        (READER, {"share_streams": False}, None),
        (None, {"roles": "front"}, None),
        (READER, {"roles": "front"}, None),
    ],
)
def test_streams_for_clients_are_shared_by_nodes_that_could_open_them(
    tmp_path: Path, worker: Worker | None, settings: dict[str, object], expected: type | None
) -> None:
    config = make_config(tmp_path, **CLUSTER, **settings)
    hops = make_hops(config, "a", make_egress(config, CLOCK, CONTEXT), CLOCK, CONTEXT)
    found = share_streams(config, worker, hops, CLOCK)
    assert (found if found is None else type(found)) is expected
    assert share_streams(config, worker, None, CLOCK) is None


def test_reader_tells_the_collector_which_streams_are_for_clients_of_this_node(tmp_path: Path) -> None:
    config = make_config(tmp_path, **CLUSTER)
    hops = make_hops(config, "a", make_egress(config, CLOCK, CONTEXT), CLOCK, CONTEXT)
    shared = share_streams(config, READER, hops, CLOCK)
    assert isinstance(shared, ReaderStreams)
    assert shared.role(Market.UM, "") == SHARED
    assert shared.misplaced() == []
    session = cast(Any, shared.session(Market.UM, cast(Any, None)))
    assert session._headers[INNER_HEADER] == "0" * 64 + " worker 1 shared"
