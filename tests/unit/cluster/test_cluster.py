"""The cluster as others see it: a name, the link in words, and no wait for a Redis that is gone."""

from __future__ import annotations

import time

from resender.aio import Clock, Tasks
from resender.cluster import Cluster
from resender.core.cluster.node_info import NodeInfo
from tests.support.ports import free_port


async def test_start_and_stop_wait_for_nobody() -> None:
    tasks = Tasks()
    port = free_port()
    cluster = Cluster(
        f"redis://:secret@127.0.0.1:{port}",
        name="one",
        installation="test",
        describe=lambda: NodeInfo("", "", version="1"),
        clock=Clock(),
        tasks=tasks,
    )
    began = time.monotonic()
    cluster.start()
    assert [node.name for node in cluster.nodes()] == ["one"]
    row = cluster.redis_row()
    assert (row["up"], row["where"], row["losses"]) == (False, f"127.0.0.1:{port}", 0)
    assert "secret" not in str(row)
    assert not cluster.is_drained
    await cluster.stop()
    assert time.monotonic() - began < 1
    assert not tasks.names()
