"""The throw-away authority: what its certificates are good for, and what becomes of its keys."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from resender.sandbox.authority import LOOPBACK_NAMES, Authority, throwaway_authority

NOW = datetime.datetime.now(datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)


def trusting(authority: Authority) -> ssl.SSLContext:
    """A client that is as strict as Python 3.13 is by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority.ca_pem.decode())
    context.set_alpn_protocols(["http/1.1"])
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """Make a handshake in memory; return the client's end."""
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0]


@pytest.mark.parametrize("host", LOOPBACK_NAMES)
def test_loopback_is_what_a_certificate_is_for_by_default(host: str) -> None:
    authority = Authority()
    end = shake_hands(trusting(authority), authority.server_context(), host)
    assert end.version() == "TLSv1.3"
    assert end.selected_alpn_protocol() == "http/1.1"


def test_other_names_are_only_those_asked_for() -> None:
    authority = Authority()
    server = authority.server_context("api.example.test", "192.0.2.1")
    for host in ("api.example.test", "192.0.2.1"):
        assert shake_hands(trusting(authority), server, host).version()
    for host in ("127.0.0.1", "example.test", "192.0.2.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            shake_hands(trusting(authority), server, host)


def test_two_authorities_are_strangers() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting(Authority()), Authority().server_context(), "localhost")


@pytest.mark.parametrize(
    ("not_before", "not_after", "words"),
    [
        (None, NOW - HOUR, "expired"),
        (NOW - 2 * HOUR, NOW - HOUR, "expired"),
        (NOW + HOUR, None, "not yet valid"),
        (None, NOW + HOUR, ""),
    ],
)
def test_time_of_a_certificate_can_be_chosen(
    not_before: datetime.datetime | None, not_after: datetime.datetime | None, words: str
) -> None:
    authority = Authority()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue("localhost", not_before=not_before, not_after=not_after).load_into(server)
    if words:
        with pytest.raises(ssl.SSLCertVerificationError, match=words):
            shake_hands(trusting(authority), server, "localhost")
    else:
        assert shake_hands(trusting(authority), server, "localhost").version()


def test_no_key_is_left_in_a_file_or_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    authority = Authority()
    authority.server_context()
    assert not list(tmp_path.iterdir())
    certificate = authority.issue("localhost")
    assert b"PRIVATE KEY" in certificate.key_pem
    assert "PRIVATE KEY" not in repr(certificate) + repr(authority)
    authority.write_ca(tmp_path / "ca.pem")
    assert (tmp_path / "ca.pem").read_bytes() == authority.ca_pem
    assert b"PRIVATE KEY" not in authority.ca_pem


def test_process_has_one_authority() -> None:
    assert throwaway_authority() is throwaway_authority()
    assert throwaway_authority().ca_pem != Authority().ca_pem
