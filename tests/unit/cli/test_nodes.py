"""The command `nodes`; the others are gateways in tests/component/nodes and tests/e2e."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from resender.cli import nodes
from resender.cluster import installation_of
from resender.config import Config
from resender.core.cluster.node_info import NodeEgress, NodeInfo, PoolLoad
from resender.core.cluster.node_scripts import BEAT, FORGET_MS, KEYS
from resender.errors import ConfigError, RedisDown
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, redis_server


def run(config: Config, *words: str) -> int:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--data-dir")
    parser = argparse.ArgumentParser(prog="run.py", parents=[common])
    nodes.add_parser(parser.add_subparsers(), common)
    arguments = parser.parse_args(["nodes", *words])
    return int(arguments.run(config, arguments))


def say(server: RedisServer, config: Config, node: NodeInfo) -> None:
    """Let a node say that it is there."""
    prefix = f"resender:{installation_of(config.upstreams.values())}:"
    keys = [prefix + key for key in KEYS]
    server.client().eval(BEAT, len(keys), *keys, node.id, node.to_text(), FORGET_MS)


def test_one_node_is_told_how_to_have_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Config()) == 0
    assert "REDIS_URL is empty: there is one node." in capsys.readouterr().out
    with pytest.raises(ConfigError, match="REDIS_URL is empty"):
        run(Config(), "drain", "one")


def test_redis_that_is_gone_is_one_clear_line() -> None:
    with pytest.raises(RedisDown, match="cannot be reached"):
        run(Config(redis_url=f"redis://127.0.0.1:{free_port()}"))


def test_nodes_are_listed_and_drained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with redis_server(tmp_path, password="word") as server:
        config = Config(redis_url=server.url)
        assert run(config) == 0
        assert capsys.readouterr().out == "No node has said that it is there.\n"
        egresses, loads = (NodeEgress("a", "address"), NodeEgress("b", "proxy")), (PoolLoad("spot", 5, 6000),)
        say(
            server, config, NodeInfo("1", "one", version="1.0", egresses=egresses, weights=loads, in_flight=3)
        )
        say(server, config, NodeInfo("2", "two", version="1.0"))
        assert run(config) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["NAME", "one", "two"]
        assert lines[1].split() == [
            "one",
            "up",
            "1.0",
            "all",
            "a,b",
            "3",
            "0",
            "spot",
            "5/6000",
            "0",
            "ms",
            "-",
        ]
        assert run(config, "drain", "one") == 0
        assert run(config, "drain", "one") == 0
        told = capsys.readouterr()
        assert "one is drained: /healthz answers 503 there" in told.out
        assert "one was drained already." in told.out
        assert told.err == ""
        assert run(config, "drain", "two") == 0
        assert "warning: no other node is left for a balancer." in capsys.readouterr().err
        assert run(config) == 0
        assert capsys.readouterr().out.count(" drained ") == 2
        assert run(config, "undrain", "one") == 0
        assert run(config, "undrain", "one") == 0
        assert capsys.readouterr().out == "one is drained no more.\none was not drained.\n"
        assert run(config, "drain", "nobody") == 1
        assert capsys.readouterr().err == "error: there is no node named nobody; there are: one, two\n"


def test_gone_ones_tell_for_how_long() -> None:
    lines = nodes.table([NodeInfo("1", "one", seen_ms=42_000), NodeInfo("2", "two", seen_ms=300_000)])
    assert "gone for 42 s" in lines[1]
    assert "gone for 5 min" in lines[2]
