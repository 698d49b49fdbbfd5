"""The kinds' tests run on the loop that does not wait, too: hooks of a folder do not reach below it."""

from __future__ import annotations

from tests.unit.market.conftest import pytest_asyncio_loop_factories, world

__all__ = ["pytest_asyncio_loop_factories", "world"]
