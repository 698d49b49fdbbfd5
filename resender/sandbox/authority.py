"""A throw-away certificate authority, so that the simulated exchange speaks TLS as the real one does.

Keys live in memory and end with the process; only the authority's own certificate is meant to be
given away. It is no key store and renews nothing. `throwaway_authority` is the process's own one.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# What a server on loopback is called by its clients.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1", *(f"127.0.0.{number}" for number in range(2, 6)))
_VALID = datetime.timedelta(days=3650)  # a demo may run for long
_BACK = datetime.timedelta(days=1)  # the clock may be set back meanwhile


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate and its private key, PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a server's context show this certificate."""
        # The ssl module reads keys from files only: a private one, gone again at once.
        handle, name = tempfile.mkstemp(prefix="resender-", suffix=".pem")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.key_pem + self.certificate_pem)
            context.load_cert_chain(name)
        finally:
            os.unlink(name)


class Authority:
    """A certificate authority made on the spot. Shape: `ca_pem` is what a client has to trust."""

    def __init__(self, name: str = "Simulated exchange, throw-away authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = _now()
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), now - _BACK, now + _VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> Certificate:
        """Make a key and a server's certificate for these host names and IP addresses.

        Shape: without times it is valid for as long as the authority, from a day before now.
        """
        now = _now()
        until = not_after or now + _VALID
        since = not_before or min(now, until) - _BACK
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        public = key.public_key()
        certificate = (
            _builder(subject, self._name, public, since, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Certificate(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Make a server's context with a certificate for these names; without any for loopback."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.issue(*(names or LOOPBACK_NAMES)).load_into(context)
        return context

    def write_ca(self, path: str | Path) -> None:
        """Write what a client has to trust into a file (PEM)."""
        Path(path).write_bytes(self.ca_pem)

    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


@functools.cache
def throwaway_authority() -> Authority:
    """Return the one authority of this process."""
    return Authority()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
