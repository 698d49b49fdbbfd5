"""What the web layer is handed: every service it uses is there, and none can be exchanged under a handler."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from typing import Any, cast

import pytest

from resender.places import ROOT
from resender.services import Services

NAMES = {field.name for field in fields(Services)}
MADE_OF_THEM = {name for name, value in vars(Services).items() if isinstance(value, property)}


def uses() -> set[str]:
    """Read out of the program which services it takes from a `Services`."""
    folder = ROOT / "resender"
    files = [*(folder / "web").rglob("*.py"), folder / "gauges.py", folder / "cli" / "serve.py"]
    texts = [path.read_text("utf-8") for path in files]
    return {name for text in texts for name in re.findall(r"\bservices\.([a-z_]+)\b", text)}


def test_every_service_a_handler_asks_for_is_there() -> None:
    assert uses() <= NAMES | MADE_OF_THEM


def test_every_service_is_asked_for() -> None:
    assert NAMES - uses() == set()


def test_service_cannot_be_exchanged() -> None:
    services = Services(**cast(Any, dict.fromkeys(NAMES)))
    with pytest.raises(FrozenInstanceError):
        services.cache = cast(Any, object())  # type: ignore[misc]
