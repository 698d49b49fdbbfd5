"""The command `doctor`: what is wrong with the way to Binance and, with `--deep`, with this machine.

It changes nothing. No state.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from resender.cli.words import say, translated
from resender.config import Config
from resender.errors import ResenderError

if TYPE_CHECKING:
    from resender.doctor import Examination
    from resender.machine_check import Finding

EXIT_FAILED = 1


def add_parser(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the word `doctor` to the command line, see `cli/db.py`."""
    text = "Check each upstream; exit 0 only if all that are switched on answer."
    parser = commands.add_parser("doctor", help=text, description=text, parents=[common])
    parser.add_argument(
        "--deep", action="store_true",
        help="also streams and WebSocket APIs in any case, disk, memory, time, database, certificate, whitelist",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(config: Config, arguments: argparse.Namespace) -> int:
    """Examine and tell; return the exit code."""
    from resender.doctor import table

    if arguments.deep:
        # Streams and WebSocket APIs are tried whatever the settings say.
        clients = config.max_stream_clients or 1
        config = dataclasses.replace(config, cache_enabled=True, max_stream_clients=clients)
    results = asyncio.run(_examine(config))
    print("\n".join(table(results, translated)))
    failed = [result for result in results if not result.is_ok]
    if not results:
        say("No upstream is switched on.")
    elif failed:
        say(f"\n{len(failed)} of {len(results)} upstreams do not answer as they should.")
    else:
        say(f"\nAll {len(results)} upstreams answer.")
    is_well = bool(results) and not failed
    if arguments.deep:
        is_well = _deep(config) and is_well
    return 0 if is_well else EXIT_FAILED


async def _examine(config: Config) -> list[Examination]:
    from resender.doctor import examine

    shows_progress = sys.stderr.isatty()

    def progress(text: str) -> None:
        if shows_progress:  # one line that the table replaces
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    results = []
    progress("examining ...")
    async for result in examine(config):
        word = "ok" if result.is_ok else "failed"
        progress(f"{result.egress} {result.market.value}: {word}; examining ...")
        results.append(result)
    progress("")
    return results


def _deep(config: Config) -> bool:
    """Look at this machine; print each finding as it comes; return whether all is well."""
    from resender.machine_check import check_machine

    say()
    is_well = True
    for finding in check_machine(config):
        is_well = is_well and finding.is_ok
        _tell(finding)
    if config.redis_url:
        finding = _redis(config)
        is_well = is_well and finding.is_ok
        _tell(finding)
    say("\nThis machine is well." if is_well else "\nSomething has to be mended; see the lines with `to do`.")
    return is_well


def _tell(finding: Finding) -> None:
    print(f"{finding.what:12s} {'ok' if finding.is_ok else 'FAILED':6s} {translated(finding.text)}")
    if finding.advice:
        print(f"{'':12s} {translated(f'to do: {finding.advice}')}")


def _redis(config: Config) -> Finding:
    from resender.cli.nodes import read_all
    from resender.machine_check import Finding

    try:
        nodes = read_all(config)
    except ResenderError as error:
        advice = "start it, or correct REDIS_URL; without it each node goes on with its part"
        return Finding("redis", False, str(error).rstrip("."), advice)
    return Finding("redis", True, f"answers; {sum(node.is_up for node in nodes)} nodes are there")
