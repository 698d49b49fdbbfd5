"""The sessions a TLS context remembers: one for each host, and none that could make a handshake fail."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from resender.upstream import tls
from resender.upstream.tls import ResumingContext, make_context, resumed
from tests.support.authority import AUTHORITY, client_context
from tests.support.upstream import RawUpstream

HOST = "127.0.0.1"


class Established:
    """A connection whose handshake is done."""

    def __init__(self, session: Any, version: str = "TLSv1.3") -> None:
        self._session = session
        self._version = version

    @property
    def session(self) -> Any:
        if isinstance(self._session, Exception):
            raise self._session
        return self._session

    def version(self) -> str:
        return self._version


def context() -> ResumingContext:
    made = make_context(cadata=AUTHORITY.ca_pem.decode("ascii"))
    return cast(ResumingContext, made)


def remember(one: ResumingContext, connection: Any, host: str = HOST) -> None:
    one.remember(host, connection)


TICKET = SimpleNamespace(has_ticket=True)


def test_context_checks_certificates_and_names_and_takes_no_old_version() -> None:
    made = make_context()
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2


def test_named_authority_is_the_only_one_trusted() -> None:
    assert len(context().get_ca_certs()) == 1


def test_session_is_offered_to_its_own_host_only() -> None:
    one = context()
    remember(one, Established(TICKET))
    assert one.session_of(HOST) is TICKET
    assert one.session_of("other.example") is None


@pytest.mark.parametrize("session", [ValueError("gone"), ssl.SSLError("gone"), None])
def test_session_that_cannot_be_had_is_forgotten(session: Any) -> None:
    one = context()
    remember(one, Established(session))
    assert one.session_of(HOST) is None
    assert HOST not in one._established


def test_session_without_a_ticket_waits_in_tls_13_and_is_offered_in_tls_12() -> None:
    one = context()
    plain = SimpleNamespace(has_ticket=False)
    remember(one, Established(plain))
    assert one.session_of(HOST) is None
    assert HOST in one._established, "the ticket may still come"
    remember(one, Established(plain, "TLSv1.2"))
    assert one.session_of(HOST) is plain


def test_session_whose_handshake_never_ends_is_offered_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tls, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one = context()
    remember(one, Established(TICKET))
    assert one.session_of(HOST) is TICKET
    now[0] += 4
    assert one.session_of(HOST) is TICKET
    now[0] += 2
    assert one.session_of(HOST) is None
    remember(one, Established(TICKET))
    assert one.session_of(HOST) is TICKET


async def test_session_openssl_does_not_take_costs_no_connection() -> None:
    """A session belongs to the context it was made with; another one refuses it."""
    used, one = cast(ResumingContext, client_context()), context()
    async with RawUpstream() as upstream:
        connector = aiohttp.TCPConnector(ssl=used, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"{upstream.url}/x") as answer:
                await answer.read()
    foreign = used.session_of(HOST)
    assert foreign is not None
    remember(one, Established(foreign))
    assert one.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), False, HOST).session is None
    assert HOST not in one._established


async def test_second_connection_to_a_host_resumes_the_first_ones_session() -> None:
    made = client_context()
    async with RawUpstream() as upstream:
        found = []
        for _ in range(2):
            connector = aiohttp.TCPConnector(ssl=made, force_close=True)
            async with aiohttp.ClientSession(connector=connector) as session:
                async with session.get(f"{upstream.url}/x") as answer:
                    await answer.read()
            found.append(resumed(made, HOST))
    assert found == [False, True]


async def test_handshake_that_fails_forgets_the_host() -> None:
    made = cast(ResumingContext, client_context())
    remember(made, Established(None))
    stranger = RawUpstream(context=type(AUTHORITY)().server_context())
    async with stranger, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=made)) as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{stranger.url}/x")
    assert HOST not in made._established
