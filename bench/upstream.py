"""A fast stand-in for Binance: one process that answers with canned bytes.

It parses nothing but the end of a request (bodies are not understood) and is not a test double;
`resender/sandbox/` is. `/api/v3/klines` gets 1 MiB in chunks, `/handshakes` how many TLS handshakes
there were and how many of them resumed a session, everything else one bookTicker. The headers are
those of a real answer in number and size. It runs until it is killed.

`upstream.py PORT --ca-file FILE` speaks TLS and writes its certificate authority into the file;
`--plain` does not. `--close` ends the connection after every answer, so that each call needs a new
one, and `--no-tickets` hands out no TLS sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import ssl
import sys
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.sandbox.authority import throwaway_authority

HANDSHAKES_PATH = "/handshakes"
SMALL_PATH = "/api/v3/ticker/bookTicker?symbol=BTCUSDT"
LARGE_PATH = "/api/v3/klines?symbol=BTCUSDT&interval=1m"
SMALL_BODY = (
    b'{"symbol":"BTCUSDT","bidPrice":"63012.39000000","bidQty":"0.28418000",'
    b'"askPrice":"63012.40000000","askQty":"1.53962000"}'
)
_CHUNK = b'[1634860800000,"63012.39000000"]' * 512
LARGE_BODY = _CHUNK * 64

_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json;charset=UTF-8\r\n"
    b"%b\r\n"
    b"Connection: keep-alive\r\n"
    b"Date: Tue, 21 Jul 2026 12:00:00 GMT\r\n"
    b"Server: nginx\r\n"
    b"x-mbx-uuid: 6f2c3f0e-5e39-4f6c-9d0a-3b9d4b1f7a10\r\n"
    b"x-mbx-used-weight: 2\r\n"
    b"x-mbx-used-weight-1m: 2\r\n"
    b"Strict-Transport-Security: max-age=31536000; includeSubdomains\r\n"
    b"X-Frame-Options: SAMEORIGIN\r\n"
    b"X-Xss-Protection: 1; mode=block\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Content-Security-Policy: default-src 'self'\r\n"
    b"Cache-Control: no-cache, no-store, must-revalidate\r\n"
    b"Pragma: no-cache\r\n"
    b"Expires: 0\r\n"
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
    b"X-Cache: Miss from cloudfront\r\n"
    b"Via: 1.1 0f1e2d3c4b5a69788796a5b4c3d2e1f0.cloudfront.net (CloudFront)\r\n"
    b"X-Amz-Cf-Pop: NRT57-P2\r\n"
    b"X-Amz-Cf-Id: Zk1w5b8Jv7b3Xo0YyqT2mRZ0hEwq1r9sKc4dPnUeLxGfAaBbCcDdEe==\r\n"
    b"\r\n"
)
SMALL = _HEAD % (b"Content-Length: %d" % len(SMALL_BODY)) + SMALL_BODY
LARGE = (
    _HEAD % b"Transfer-Encoding: chunked"
    + (b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)) * (len(LARGE_BODY) // len(_CHUNK))
    + b"0\r\n\r\n"
)


class CannedProtocol(asyncio.Protocol):
    """One connection. Shape: `closes` ends it after one answer."""

    def __init__(self, closes: bool, context: ssl.SSLContext | None) -> None:
        self.closes = closes
        self.context = context
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            line = head.partition(b"\r\n")[0]
            if b" /handshakes" in line:
                self.transport.write(handshakes(self.context))
                continue
            answer = LARGE if b"/klines" in line else SMALL
            if self.closes:
                self.transport.write(answer.replace(b"Connection: keep-alive", b"Connection: close", 1))
                self.transport.close()
                return
            self.transport.write(answer)


def handshakes(context: ssl.SSLContext | None) -> bytes:
    """Return the answer that counts the handshakes so far, this connection's included."""
    stats = context.session_stats() if context is not None else {"accept": 0, "hits": 0}
    body = json.dumps({"made": stats["accept"], "resumed": stats["hits"]}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def main(options: argparse.Namespace) -> None:
    context = None
    if not options.plain:
        authority = throwaway_authority()
        context = authority.server_context()
        if options.no_tickets:
            # Without them TLS 1.3 has nothing to resume; the option is TLS 1.2's.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        authority.write_ca(options.ca_file)
    server = await asyncio.get_running_loop().create_server(
        functools.partial(CannedProtocol, options.close, context), "127.0.0.1", options.port, ssl=context
    )
    await server.serve_forever()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    egress = parser.add_mutually_exclusive_group(required=True)
    egress.add_argument("--ca-file", metavar="FILE", help="speak TLS; write the authority to trust here")
    egress.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("--close", action="store_true", help="close after every answer")
    parser.add_argument("--no-tickets", action="store_true", help="hand out no TLS sessions")
    return parser.parse_args()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(parse()))
