"""What the parent tells a worker, and what follows from it."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from resender.core.binance.markets import Market
from resender.core.cluster.worker import (
    INSIDER,
    Worker,
    ask_socket,
    crew_socket,
    inner_stream_urls,
    inner_value,
    parse_worker,
    redis_socket,
    shared_egresses,
)
from resender.core.egress.spec import parse_egress

WORKER = Worker(1, 3, 8000, 41000, 7, "ab" * 32, "unix:///data/redis.sock", has_lost=True)


def test_worker_is_read_as_it_was_written() -> None:
    assert parse_worker(WORKER.to_text()) == WORKER
    assert not WORKER.is_collector
    assert Worker(0, 1, 1, 1, 1, "").is_collector


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"number": 1}',
        WORKER.to_text().replace('"number": 1', '"number": 3'),
        WORKER.to_text().replace("abab", "xyz"),
    ],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_worker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_worker(text)


def test_ways_out_are_shared_by_the_workers_of_a_node_and_nobody_else() -> None:
    specs = parse_egress(["a=127.0.0.2", "b=http://10.0.0.1:3128", "default;shared=nat"])
    mine, others = shared_egresses(specs, "gw1"), shared_egresses(specs, "gw2")
    assert [spec.shared for spec in mine] == ["gw1 a", "proxy 10.0.0.1:3128", "nat"]
    assert mine[0].shared != others[0].shared
    assert mine[1:] == others[1:] == specs[1:]


def test_streams_come_from_the_collector() -> None:
    assert inner_stream_urls(WORKER)[Market.UM] == "ws://127.0.0.1:41000/fstream.binance.com"
    assert set(inner_stream_urls(WORKER)) == {Market.SPOT, Market.UM, Market.CM}


def test_whose_a_connection_is_stands_behind_the_secret() -> None:
    assert inner_value(WORKER, "10.0.0.9") == f"{WORKER.secret} 10.0.0.9"
    assert inner_value(WORKER) == f"{WORKER.secret} {INSIDER}1"


def test_sockets_lie_in_the_data_folder() -> None:
    folder = PurePath("/data")
    assert len({ask_socket(folder), crew_socket(folder), redis_socket(folder)}) == 3
    assert all(path.startswith("/data/") for path in (ask_socket(folder), crew_socket(folder)))
