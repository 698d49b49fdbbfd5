"""The command `nodes`: which nodes there are, and which of them a balancer is to leave out.

It asks Redis itself, so it works beside a node as well as without one. No state.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resender.cli.words import say
from resender.config import Config
from resender.core.cluster.node_info import ROLES
from resender.core.cluster.worker import redis_socket
from resender.errors import ConfigError

if TYPE_CHECKING:
    from resender.cluster import RedisLink
    from resender.core.cluster.node_info import NodeInfo

EXIT_FAILED = 1
_ALONE = "REDIS_URL is empty: there is one node. docs/operate/scaling.md tells how to have more."


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `nodes` to the command line.

    Shape: `commands` is what `add_subparsers` returned; each action sets `run(config, arguments)`,
        which returns the exit code.
    """
    text = "Show the nodes that share one Redis."
    nodes = commands.add_parser("nodes", help=text, description=text, parents=[common])
    nodes.set_defaults(run=list_nodes)
    actions = nodes.add_subparsers(title="actions", metavar="ACTION")

    def add(name: str, help: str, run: Callable[[Config, argparse.Namespace], int]) -> None:
        parser = actions.add_parser(name, help=help, description=help, parents=[common])
        parser.add_argument("name", metavar="NAME", help="as `nodes` shows it")
        parser.set_defaults(run=run)

    add("drain", "Have a balancer leave a node out; its calls still are answered.", drain)
    add("undrain", "Take that back.", undrain)


def read_all(config: Config) -> list[NodeInfo]:
    """Read the nodes. Raises: RedisDown with one clear line."""
    from resender.cluster import read_nodes

    nodes: list[NodeInfo] = _with_link(config, read_nodes)
    return nodes


def list_nodes(config: Config, arguments: argparse.Namespace) -> int:
    """Show the nodes; return the exit code."""
    if not _redis_url(config):
        say(_ALONE)
        return 0
    nodes = read_all(config)
    if not nodes:
        say("No node has said that it is there.")
        return 0
    say("\n".join(table(nodes)))
    return 0


def drain(config: Config, arguments: argparse.Namespace) -> int:
    """Drain a node; return the exit code."""
    return _drain(config, arguments.name, True)


def undrain(config: Config, arguments: argparse.Namespace) -> int:
    """Take a drain back; return the exit code."""
    return _drain(config, arguments.name, False)


def _drain(config: Config, name: str, on: bool) -> int:
    if not _redis_url(config):
        raise ConfigError(_ALONE)
    from resender.cluster import read_nodes, set_drained

    async def ask(link: RedisLink) -> tuple[bool, list[NodeInfo]]:
        nodes = await read_nodes(link)
        if on and all(node.name != name for node in nodes):
            return False, nodes
        return await set_drained(link, name, on), nodes

    changed, nodes = _with_link(config, ask)
    names = {node.name for node in nodes}
    if name not in names and not changed:
        known = ", ".join(sorted(names)) or "none"
        say(f"error: there is no node named {name}; there are: {known}", file=sys.stderr)
        return EXIT_FAILED
    if not on:
        say(f"{name} is drained no more." if changed else f"{name} was not drained.")
    elif changed:
        say(f"{name} is drained: /healthz answers 503 there, calls still are answered.")
        if not any(node.is_up and not node.is_drained and node.name != name for node in nodes):
            say("warning: no other node is left for a balancer.", file=sys.stderr)
    else:
        say(f"{name} was drained already.")
    return 0


def _redis_url(config: Config) -> str:
    """Return where the nodes meet: `REDIS_URL`, or the private server of several workers while they run."""
    path = redis_socket(config.data_path.resolve())
    return config.redis_url or (f"unix://{path}" if config.workers > 1 and os.path.exists(path) else "")


def _with_link(config: Config, ask: Callable[[RedisLink], Any]) -> Any:
    """Connect, ask and hang up. Raises: RedisDown with one clear line."""
    from resender.aio import Clock, Tasks
    from resender.cluster import RedisLink, installation_of

    async def run() -> Any:
        installation = installation_of(config.upstreams.values())
        link = RedisLink(_redis_url(config), installation=installation, clock=Clock(), tasks=Tasks())
        try:
            await link.open()
            return await ask(link)
        finally:
            await link.stop()

    return asyncio.run(run())


# --- the table ---------------------------------------------------------------------------------


def table(nodes: list[NodeInfo]) -> list[str]:
    """Write one line for each node, after a line of headings."""
    rows = [("NAME", "STATE", "VERSION", "ROLES", "EGRESSES", "IN FLIGHT", "STREAMS", "WEIGHT", "LAG", "URL")]
    rows += [
        (
            node.name,
            _state(node),
            node.version or "?",
            "all" if node.roles == ROLES else ",".join(node.roles),
            ",".join(egress.name for egress in node.egresses) or "-",
            str(node.in_flight) if node.is_up else "-",
            str(node.streams) if node.is_up else "-",
            " ".join(f"{load.pool} {load.used}/{load.limit}" for load in node.weights if load.used) or "-",
            f"{node.lag_ms:.0f} ms" if node.is_up else "-",
            node.url or "-",
        )
        for node in nodes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _state(node: NodeInfo) -> str:
    if not node.is_up:
        seconds = node.seen_ms // 1000
        return f"gone for {seconds} s" if seconds < 120 else f"gone for {seconds // 60} min"
    return "drained" if node.is_drained else "up"
