"""What other parts of the program may use of the store is named, and there."""

from __future__ import annotations

import resender.store as room
from resender.store import rows


def test_every_name_that_is_offered_is_there() -> None:
    assert [name for name in room.__all__ if not hasattr(room, name)] == []
    assert len(set(room.__all__)) == len(room.__all__)


def test_every_refusal_of_the_store_can_be_named_from_outside() -> None:
    refusals = {
        name for name, value in vars(rows).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    refusals.discard("ResenderError")
    assert refusals <= set(room.__all__)
