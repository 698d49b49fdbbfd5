"""What checks signatures of an account's keys in full: registered public keys, and the own secret. No state."""

from __future__ import annotations

import logging

from resender.account.watched import WatchedAccount
from resender.api_keys import Signer, Verifier, digest_of
from resender.core.account.spec import AccountSpec

logger = logging.getLogger("resender.account")


def own_verifier(account: WatchedAccount) -> dict[str, Verifier]:
    """Return what checks signatures of the key of its own, by digest; nothing if it has none."""
    key, signer = account.api_key, account.signer
    return {digest_of(key): Verifier.of(signer)} if key is not None and isinstance(signer, Signer) else {}


def verifiers_of(spec: AccountSpec, own: dict[str, Verifier]) -> dict[str, Verifier]:
    """Return what checks signatures in full, by digest."""
    found = dict(own)
    for digest, text in spec.public_keys.items():
        try:
            found[digest] = Verifier.parse(text)
        except ValueError as error:
            logger.error("account %s: a public key cannot be read: %s", spec.name, error)
    return found
