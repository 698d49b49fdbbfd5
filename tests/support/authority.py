"""The certificate authority of the tests: one for each process, the simulated exchange's own.

Whatever plays an exchange shows a certificate of it (`AUTHORITY.server_context()`), a gateway in the
test's own process trusts it with `client_context()`, one that is a process of its own with the
environment variable SSL_CERT_FILE. A test of a stranger makes another `Authority()`.
"""

from __future__ import annotations

import atexit
import functools
import os
import ssl
import tempfile
from typing import Any

import aiohttp

from resender.sandbox.authority import Authority, throwaway_authority
from resender.upstream.tls import make_context

__all__ = ["AUTHORITY", "Authority", "ca_file", "client_context", "connector"]

AUTHORITY = throwaway_authority()


@functools.cache
def ca_file() -> str:
    """Return the path of a file with the authority's certificate; it lasts as long as the process."""
    handle, path = tempfile.mkstemp(prefix="resender-tests-", suffix=".pem")
    os.close(handle)
    atexit.register(os.unlink, path)
    AUTHORITY.write_ca(path)
    return path


def client_context() -> ssl.SSLContext:
    """Make the gateway's own kind of context, trusting only the tests' authority."""
    return make_context(ca_file())


def connector(**options: Any) -> aiohttp.TCPConnector:
    """Make the connector of a plain client that talks to an exchange of the tests."""
    return aiohttp.TCPConnector(ssl=client_context(), **options)
