from __future__ import annotations

import pytest

from resender.core.reachability import UNKNOWN, UNREACHABLE, kind_of, text_of


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "ok"), (304, "ok"), (400, "ok"), (401, "ok"), (404, "ok"), (403, "firewall"), (418, "banned"),
        (429, "limited"), (451, "region"), (500, "fault"), (503, "fault"),
    ],
)  # fmt: skip
def test_status_of_an_upstream_becomes_a_word(status: int, kind: str) -> None:
    assert kind_of(status) == kind


@pytest.mark.parametrize("kind", ["ok", "firewall", "banned", "limited", "region", "fault", "timeout"])
def test_every_word_has_a_sentence(kind: str) -> None:
    text = text_of(kind, 502)
    assert text.endswith(".")
    assert "{" not in text


def test_region_block_is_said_in_plain_words() -> None:
    assert "country" in text_of("region", 451)
    assert "502" in text_of("fault", 502)
    assert text_of(UNKNOWN, None) != text_of(UNREACHABLE, None)
