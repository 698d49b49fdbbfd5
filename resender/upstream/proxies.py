"""Connections through SOCKS and HTTP proxies, end to end: the proxy sees ciphertext and host names.

It knows no calls; a `ProxyConnector` is the connection pool of one `RestClient`. The handshake
with a SOCKS proxy is python-socks'. The one with an HTTP proxy is here, because python-socks
takes the first packet of the answer for the whole of it. TLS with the upstream is left to
aiohttp, so certificates, session resumption and its errors are as without a proxy.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from typing import Any

import aiohttp
import aiohttp_socks
import python_socks
from python_socks.async_.asyncio import Proxy

from resender.core.egress.spec import EgressSpec
from resender.upstream.connector import Connector, EgressFault, current_attempt

_SOCKS = {"socks5": python_socks.ProxyType.SOCKS5, "socks4": python_socks.ProxyType.SOCKS4}
_MAX_ANSWER_BYTES = 65_536
_NO_LIMIT_S = 86_400.0  # the time-out of the connect phase ends it; python-socks has one of its own
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
_BAD_LOGIN = "the proxy wants another user name or password"
_BROKE_OFF = "the proxy closed the connection in the middle of the handshake"
_UNREADABLE = "the proxy answers with something that is not {}"

# RFC 1928 section 6. These are about the upstream, not about the proxy.
_SOCKS5_REPLIES = {
    1: "the proxy cannot connect to it",
    2: "the proxy's rules do not allow it",
    3: "the proxy says the network is unreachable",
    4: "the proxy says the host is unreachable, or cannot resolve its name",
    5: "the proxy says it refused the connection",
    6: "the proxy says it does not answer",
    7: "the proxy does not know CONNECT",
    8: "the proxy does not know this kind of address",
}
_SOCKS4_REPLIES = {
    91: "the proxy cannot connect to it or refuses to",
    92: _BAD_LOGIN,
    93: _BAD_LOGIN,
}


class ProxyConnector(Connector, aiohttp_socks.ProxyConnector):
    """A pool of connections through one proxy, which also resolves the names."""

    def __init__(self, spec: EgressSpec, **options: Any) -> None:
        self._spec = spec
        options["use_dns_cache"] = False  # names are not resolved here
        super().__init__(host=spec.host, port=spec.port, **options)

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[Any], req: Any, timeout: Any,
        client_error: type[Exception] = aiohttp.ClientConnectorError, **options: Any,
    ) -> Any:  # fmt: skip
        host, port = addr_infos[0][4][:2]
        attempt = current_attempt.get()
        attempt.waits_for = "answer of the proxy"
        sock = await open_tunnel(self._spec, host.rstrip("."), port)
        attempt.waits_for = ""
        return await self._wrap_existing_connection(
            *args, req=req, timeout=timeout, client_error=client_error, sock=sock, **options
        )


async def open_tunnel(spec: EgressSpec, host: str, port: int) -> socket.socket:
    """Connect to a proxy and have it connect to a host; the caller limits the time.

    Raises: EgressFault in words that hold no secret.
    """
    try:
        if spec.scheme == "http":
            return await _through_http(spec, host, port)
        return await _through_socks(spec, host, port)
    except (EgressFault, asyncio.TimeoutError):
        raise
    except UnicodeError:
        raise EgressFault("SOCKS carries only ASCII user names, passwords and host names") from None
    except (OSError, EOFError):
        raise EgressFault(_BROKE_OFF, is_certain=False) from None
    except Exception:
        raise EgressFault(_UNREADABLE.format("SOCKS" if spec.scheme != "http" else "HTTP")) from None


def _no_proxy(error: BaseException | None) -> EgressFault:
    if isinstance(error, socket.gaierror):
        return EgressFault("the proxy's name cannot be resolved")
    if isinstance(error, ConnectionRefusedError):
        return EgressFault("the proxy refused the connection")
    return EgressFault("the proxy cannot be reached")


async def _through_socks(spec: EgressSpec, host: str, port: int) -> socket.socket:
    proxy = Proxy(
        _SOCKS[spec.scheme], spec.host, spec.port, spec.username or None, spec.password or None, rdns=True
    )
    try:
        return await proxy.connect(host, port, timeout=_NO_LIMIT_S)
    except python_socks.ProxyConnectionError as error:
        raise _no_proxy(error.__cause__) from None
    except python_socks.ProxyError as error:
        raise _explain_socks(spec, error) from None


def _explain_socks(spec: EgressSpec, error: python_socks.ProxyError) -> EgressFault:
    replies = _SOCKS5_REPLIES if spec.scheme == "socks5" else _SOCKS4_REPLIES
    code = error.error_code
    if code is not None:
        text = replies.get(int(code), "the proxy refused")
        return EgressFault(text, is_whole=text == _BAD_LOGIN)
    text = str(error).lower()
    # These have no code; a test with a real handshake notices when their wording changes.
    if "authentication failure" in text:
        return EgressFault(_BAD_LOGIN)
    if "no acceptable authentication" in text:
        return EgressFault(_BAD_LOGIN if spec.username else "the proxy wants a user name and password")
    if "closed" in text:
        return EgressFault(_BROKE_OFF, is_certain=False)
    return EgressFault(_UNREADABLE.format("SOCKS"))


async def _through_http(spec: EgressSpec, host: str, port: int) -> socket.socket:
    sock = await _dial(spec.host, spec.port)
    try:
        await _ask_http(sock, spec, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except BaseException:
        sock.close()
        raise
    return sock


async def _dial(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _no_proxy(error) from None
    for family, kind, proto, _, address in found:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise _no_proxy(failure)


async def _ask_http(sock: socket.socket, spec: EgressSpec, authority: str) -> None:
    """Have an HTTP proxy connect. Source: RFC 9110 section 9.3.6."""
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if spec.username or spec.password:
        login = base64.b64encode(f"{spec.username}:{spec.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    answer = b""
    # Not a byte behind the head is taken: a mail server speaks first.
    while not answer.endswith(b"\r\n\r\n") and len(answer) <= _MAX_ANSWER_BYTES:
        data = await loop.sock_recv(sock, 1)
        if not data:
            raise EOFError
        answer += data
    found = _STATUS.match(answer)
    if found is None:
        raise EgressFault(_UNREADABLE.format("HTTP"))
    status = int(found.group(1))
    if status == 407:
        has_login = bool(spec.username or spec.password)
        raise EgressFault(_BAD_LOGIN if has_login else "the proxy wants a user name and password")
    if not 200 <= status < 300:
        what = {403: "the proxy's rules do not allow it"}.get(
            status, "the proxy cannot or will not connect to it"
        )
        raise EgressFault(f"{what} (HTTP {status})", is_whole=False)
    if not answer.endswith(b"\r\n\r\n"):
        raise EgressFault(_UNREADABLE.format("HTTP"))
