"""The handshake: what is one, what is agreed on compression, how long a message may be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.routing import Rule
from tornado.websocket import WebSocketProtocol13

from resender.core.binance.markets import Market
from resender.core.fanout.frames import DEFLATE_BITS
from resender.web.client.streams import StreamHandler, UpgradeMatcher, wants_upgrade
from tests.unit.web.serving import make_services, served

NO_CONTEXT = "server_no_context_takeover; client_no_context_takeover"
AGREED = f"permessage-deflate; {NO_CONTEXT}; server_max_window_bits={DEFLATE_BITS}"


@pytest.mark.parametrize(
    ("method", "headers", "is_one"),
    [
        ("GET", {"Upgrade": "websocket", "Connection": "Upgrade"}, True),
        ("GET", {"Upgrade": " WebSocket ", "Connection": "keep-alive, UPGRADE"}, True),
        ("POST", {"Upgrade": "websocket", "Connection": "Upgrade"}, False),
        ("HEAD", {"Upgrade": "websocket", "Connection": "Upgrade"}, False),
        ("GET", {"Upgrade": "h2c", "Connection": "Upgrade"}, False),
        ("GET", {"Upgrade": "websocket", "Connection": "keep-alive"}, False),
        ("GET", {"Upgrade": "websocket", "Connection": "upgraded"}, False),
        ("GET", {"Upgrade": "websocket"}, False),
        ("GET", {"Connection": "Upgrade"}, False),
        ("GET", {}, False),
    ],
)
def test_handshake_is_told_by_its_method_and_two_headers(
    method: str, headers: dict[str, str], is_one: bool
) -> None:
    assert wants_upgrade(method, HTTPHeaders(headers)) == is_one
    connection: Any = SimpleNamespace(context=None)
    start = RequestStartLine(method, "/any/path?x", "HTTP/1.1")
    sent = HTTPHeaders(headers | {"Host": "x"})
    request = HTTPServerRequest(headers=sent, connection=connection, start_line=start)
    assert UpgradeMatcher().match(request) == ({} if is_one else None)


def handler(offer: str | None, *, deflate: bool = True, is_relay: bool = False) -> StreamHandler:
    made = StreamHandler.__new__(StreamHandler)
    headers = HTTPHeaders() if offer is None else HTTPHeaders({"Sec-WebSocket-Extensions": offer})
    made.request = cast(Any, SimpleNamespace(headers=headers))
    made.services = cast(Any, SimpleNamespace(config=SimpleNamespace(stream_deflate=deflate)))
    made.relay = cast(Any, object()) if is_relay else None
    return made


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        'permessage-deflate; server_max_window_bits="15"',
        f"permessage-deflate; server_max_window_bits={DEFLATE_BITS}",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-deflate; server_max_window_bits=9, permessage-deflate",
    ],
)
def test_compression_is_agreed_on_without_context_whatever_was_offered(offer: str) -> None:
    made = handler(offer)
    assert made.get_compression_options() is not None
    assert made.is_deflated
    # What Tornado reads of it.
    ((name, words),) = WebSocketProtocol13._parse_extensions_header(cast(Any, None), made.request.headers)
    assert name == "permessage-deflate"
    assert words["server_max_window_bits"] == str(DEFLATE_BITS)
    assert words.keys() == {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
    }


async def test_client_reads_of_compression_what_was_agreed_on() -> None:
    """Go's gorilla/websocket connects to nobody who does not promise both."""
    services = make_services(stream_deflate=True)
    services.relays = None
    matcher = UpgradeMatcher()
    async with served(services, [Rule(matcher, StreamHandler, {"services": services})]) as port:  # type: ignore[list-item]
        for offer, answer in (("permessage-deflate; client_max_window_bits", AGREED), ("", None)):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = (
                "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            )  # fmt: skip
            offered = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
            writer.write(f"{head}{offered}\r\n".encode())
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            assert lines[0].startswith("HTTP/1.1 101")
            found = [line.partition(": ")[2] for line in lines if line.startswith("Sec-Websocket-Extensions")]
            assert found == ([answer] if answer else [])
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(
    "offer",
    [
        None, "", "permessage-bzip2", "permessage-deflate; server_max_window_bits=8",
        f"permessage-deflate; server_max_window_bits={DEFLATE_BITS - 1}", "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=x", "permessage-deflate; server_max_window_bits=-15",
    ],
)  # fmt: skip
def test_nothing_is_compressed_for_who_does_not_offer_it_so(offer: str | None) -> None:
    made = handler(offer)
    assert made.get_compression_options() is None
    assert not made.is_deflated


def test_nothing_is_compressed_where_the_settings_say_no_or_a_connection_is_relayed() -> None:
    for made in (handler("permessage-deflate", deflate=False), handler("permessage-deflate", is_relay=True)):
        assert made.get_compression_options() is None
        assert not made.is_deflated


def test_messages_of_relayed_connections_may_be_longer() -> None:
    assert handler(None).max_message_size == 131_072
    assert handler(None, is_relay=True).max_message_size == 4 << 20


@pytest.mark.parametrize(
    ("address", "is_hop", "is_insider", "is_shared"),
    [
        ("203.0.113.5", False, False, True),
        ("worker 1 shared", False, True, True),
        # Asked for by another node, of this process or of the worker beside it: never of a third one.
        ("worker node", True, True, False),
        ("203.0.113.5", True, False, False),
        ("worker 1", False, True, False),
    ],
)
@pytest.mark.parametrize("is_micro", [False, True])
def test_only_streams_for_own_clients_come_from_another_node(
    address: str, is_hop: bool, is_insider: bool, is_shared: bool, is_micro: bool
) -> None:
    made = handler("")
    made.ip, made.is_hop, made.is_insider = address, is_hop, is_insider
    made.route = cast(Any, SimpleNamespace(market=Market.UM, is_microsecond=is_micro))
    own = "microsecond" if is_micro else ""
    made.services.shared_streams = None
    assert made._role() == own
    made.services.shared_streams = SimpleNamespace(role=lambda market, role: f"{market} {role}")
    assert made._role() == (f"um {own}" if is_shared else own)
