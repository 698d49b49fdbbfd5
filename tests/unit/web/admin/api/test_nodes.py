"""The page "Nodes": what is shown, who can be drained, and what of it is written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resender.core.cluster.node_info import NodeInfo
from resender.errors import RedisDown, StoreError
from tests.support.admin import assert_error
from tests.unit.web.serving import administered, make_services, token

ROW = {"up": True, "where": "redis.example:6379"}


class FakeCluster:
    """Two nodes; `drained` is who has been drained."""

    def __init__(self) -> None:
        self.drained: set[str] = set()
        self.is_down = False
        self.presence = SimpleNamespace(warnings=[("version", "two")])
        self.link = SimpleNamespace(
            is_up=True, where="redis.example:6379", problem="does not answer within 1 s"
        )

    def nodes(self) -> list[NodeInfo]:
        return [NodeInfo("1", "one", is_own=True), NodeInfo("2", "two", is_drained="two" in self.drained)]

    def redis_row(self) -> dict[str, Any]:
        return ROW

    async def drain(self, name: str, on: bool) -> bool:
        if self.is_down:
            raise RedisDown("Redis at redis.example:6379 does not answer within 1 s")
        before = set(self.drained)
        self.drained = before | {name} if on else before - {name}
        return self.drained != before


def services_with(cluster: FakeCluster | None) -> Any:
    services = make_services()
    services.cluster = cluster
    return services


async def test_nodes_are_listed_with_redis_and_what_does_not_fit() -> None:
    async with administered(services_with(FakeCluster())) as admin:
        found = await admin.get("nodes")
    assert found["redis"] == ROW
    assert [(node["name"], node["own"]) for node in found["nodes"]] == [("one", True), ("two", False)]
    assert found["warnings"] == [{"kind": "version", "node": "two"}]


async def test_one_node_alone_has_no_list_and_no_drain() -> None:
    async with administered(services_with(None)) as admin:
        assert await admin.get("nodes") == {"redis": None, "nodes": [], "warnings": []}
        reply = await admin.send("POST", "nodes/drain", {"name": "one", "on": True})
        assert_error(reply, 409, -13, reason="one_node")


async def test_drain_is_in_the_audit_when_it_changed_something() -> None:
    cluster = FakeCluster()
    async with administered(services_with(cluster)) as admin:
        for on in (True, True, False):
            assert (await admin.send("POST", "nodes/drain", {"name": "two", "on": on})).status == 200
        assert cluster.drained == set()
        assert [row[2:4] for row in admin.store.audit] == [("nodes.drain", "two"), ("nodes.undrain", "two")]


async def test_nobody_is_drained_without_a_word_in_the_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    async with administered(services_with(cluster)) as admin:

        async def fail(*row: Any) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(admin.store, "audit_add", fail)
        assert (await admin.send("POST", "nodes/drain", {"name": "two", "on": True})).status == 503
    assert cluster.drained == set()


async def test_who_may_only_read_sees_the_nodes_and_drains_none() -> None:
    cluster = FakeCluster()
    async with administered(services_with(cluster)) as admin:
        admin.cookies.clear()
        assert_error(await admin.send("GET", "nodes"), 401, -11)
        admin.logins.login = token("read")
        by_token = ("Authorization", "Bearer good")
        assert len((await admin.get("nodes", by_token))["nodes"]) == 2
        reply = await admin.send("POST", "nodes/drain", {"name": "two", "on": True}, by_token)
        assert_error(reply, 403, -12)
    assert cluster.drained == set()


async def test_unknown_name_and_redis_that_is_gone_are_clear_errors() -> None:
    cluster = FakeCluster()
    async with administered(services_with(cluster)) as admin:
        reply = await admin.send("POST", "nodes/drain", {"name": "three", "on": True})
        assert_error(reply, 404, -3, reason="gone")
        for cluster.is_down, cluster.link.is_up in ((True, True), (False, False)):
            reply = await admin.send("POST", "nodes/drain", {"name": "two", "on": True})
            assert "redis.example" in assert_error(reply, 503, -8, reason="redis")["msg"]
    assert cluster.drained == set()
