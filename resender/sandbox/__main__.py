"""Run the simulated exchange from a shell: `python -m resender.sandbox [--seed N] ...`.

Prints the addresses as environment assignments, with them the file of the certificate authority
a client has to trust, and serves until interrupted. It owns nothing but the command line and
that file, which goes when it ends unless it was named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

from .config import API_KEY, API_SECRET, READ_KEY, READ_SECRET, SERVICES, SandboxConfig
from .sandbox import Sandbox


def parse(arguments: list[str] | None = None) -> tuple[SandboxConfig, Path | None]:
    """Read the command line: what to serve, and where the certificate authority goes."""
    parser = argparse.ArgumentParser(prog="python -m resender.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--first-port", type=int, default=0, help="nine ports from here on; 0 lets the system choose"
    )
    parser.add_argument("--symbols", type=int, help="symbols per market")
    parser.add_argument("--plain", action="store_true", help="without TLS: http and ws")
    parser.add_argument("--ca-file", type=Path, help="write the certificate authority into this file")
    options = parser.parse_args(arguments)
    ports = {}
    if options.first_port:
        ports = {name: options.first_port + number for number, name in enumerate(SERVICES)}
    config = SandboxConfig(
        seed=options.seed,
        host=options.host,
        tls=not options.plain,
        ports=ports,
        spot_symbols=options.symbols,
        um_symbols=options.symbols,
        cm_symbols=options.symbols,
    )
    return config, options.ca_file


async def serve(config: SandboxConfig, ca_file: Path | None) -> None:
    """Run until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    with contextlib.ExitStack() as stack:
        sandbox = Sandbox(config)
        if config.tls:
            if ca_file is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-"))
                ca_file = Path(folder) / "ca.pem"
            ca_file.write_bytes(sandbox.ca_pem)
            print(f"SSL_CERT_FILE={ca_file.resolve()}", flush=True)  # noqa: T201
        async with sandbox:
            for name, url in sandbox.urls.items():
                print(f"{name}={url}", flush=True)  # noqa: T201
            print(f"API_KEY={API_KEY}\nAPI_SECRET={API_SECRET}", flush=True)  # noqa: T201
            print(f"READ_KEY={READ_KEY}\nREAD_SECRET={READ_SECRET}", flush=True)  # noqa: T201
            await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(*parse()))
