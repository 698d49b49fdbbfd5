"""The settings of operation: TLS for clients, who reads figures, what the owner is told.

They are part of `Config`, which inherits them.
"""

from __future__ import annotations

from dataclasses import dataclass

from resender.config_values import (
    integer_between,
    read_text,
    seconds_between,
    setting,
    text_of_at_least,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationSettings:
    """The fields of `Config` that nothing on the path of a call needs."""

    tls_cert: str = setting(
        "",
        read_text,
        "File of the certificate and its chain (PEM) to serve over TLS; read again when it changes. Empty = no TLS.",
    )
    tls_key: str = setting(
        "", read_text, "File of the certificate's private key (PEM); empty = it is in the file of `TLS_CERT`."
    )
    metrics_token: str = setting(
        "",
        text_of_at_least(16),
        "Who sends it as `Authorization: Bearer` may read `/metrics` from any address, 16 characters at least; "
        "empty = only clients of the whitelist may.",
        secret=True,
    )
    alert_egress: str = setting(
        "", read_text, "Name of the egress alerts leave by; empty = the machine's default route."
    )
    alert_cache_s: float = setting(
        120.0,
        seconds_between(10, 86400),
        "An alert tells of market data that has not been live for so long.",
    )
    alert_free_disk_mb: int = setting(
        500,
        integer_between(0, 10_000_000),
        "An alert tells when less is free where `DATA_DIR` lies. Units: MB.",
    )
    alert_refused: int = setting(
        100,
        integer_between(1, 1_000_000),
        "An alert tells of so many refused calls of addresses outside the whitelist within ten minutes.",
    )
