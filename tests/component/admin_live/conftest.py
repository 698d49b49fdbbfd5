"""Every gateway of these tests has admin pages."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _admin_pages(with_admin_pages: None) -> None:
    """Switch them on."""
