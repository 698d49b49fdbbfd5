"""Run the simulated exchange from a shell: `python -m resender.sandbox [--seed N] ...`.

Prints the addresses as environment assignments and serves until interrupted. It owns
nothing but the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from .config import API_KEY, API_SECRET, SERVICES, SandboxConfig
from .sandbox import Sandbox


def parse(arguments: list[str] | None = None) -> SandboxConfig:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m resender.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--first-port", type=int, default=0, help="nine ports from here on; 0 lets the system choose"
    )
    parser.add_argument("--symbols", type=int, help="symbols per market")
    options = parser.parse_args(arguments)
    ports = {}
    if options.first_port:
        ports = {name: options.first_port + number for number, name in enumerate(SERVICES)}
    return SandboxConfig(
        seed=options.seed,
        host=options.host,
        ports=ports,
        spot_symbols=options.symbols,
        um_symbols=options.symbols,
        cm_symbols=options.symbols,
    )


async def serve(config: SandboxConfig) -> None:
    """Run until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    async with Sandbox(config) as sandbox:
        for name, url in sandbox.urls.items():
            print(f"{name}={url}", flush=True)  # noqa: T201
        print(f"API_KEY={API_KEY}\nAPI_SECRET={API_SECRET}", flush=True)  # noqa: T201
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(parse()))
