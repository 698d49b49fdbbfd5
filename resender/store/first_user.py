"""The first account of a new database, and the one time its password is said.

Later accounts are made by those who have one (`resender.store.users`). It holds no state.
"""

from __future__ import annotations

import logging
import sys

from resender.errors import StoreUnfit
from resender.passwords import WeakPassword, check_password, generate_password, hash_password
from resender.store.repository import Repository
from resender.store.users import FIRST_USER

logger = logging.getLogger("resender.store")


def make_first_user(repository: Repository, password: str) -> None:
    """Make the account if the database is new; say its password if it had to be made up.

    Shape: an empty `password` has one made up, which has to be changed at the first log-in.
    Raises: StoreUnfit if the password is too weak or cannot be used.
    """
    chosen = password or generate_password()

    def make() -> tuple[str, bool]:
        try:
            if password:
                check_password(password, FIRST_USER)
            return hash_password(chosen), not password
        except WeakPassword as error:
            raise StoreUnfit(
                f"ADMIN_PASSWORD is too weak ({error}): choose a better one, or leave it empty and have one made"
            ) from None
        except ValueError as error:
            raise StoreUnfit(f"ADMIN_PASSWORD cannot be used: {error}") from None

    user = repository.user_seed(make)
    if user is None:
        return
    if not password:
        _say(f"Admin pages: log in as {user.username} with the password {chosen}")
        _say("It is shown only now and must be changed at the first log-in.")


def _say(line: str) -> None:
    # Not by the log, which may be switched down or kept for years.
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        # Without a standard output somebody must still be able to log in.
        logger.warning("%s", line)
