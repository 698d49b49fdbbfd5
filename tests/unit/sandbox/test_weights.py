"""Weights are counted in windows; who goes on after a 429 gets a 418."""

import pytest

from resender.sandbox import weights
from resender.sandbox.config import SandboxConfig


@pytest.mark.parametrize(
    ("limit", "weight"),
    [("1", 1), ("99", 1), ("100", 2), ("499", 2), ("500", 5), ("1000", 5), ("1001", 10), ("", 5), ("x", 5)],
)
def test_futures_kline_weight_follows_the_documented_bands(limit, weight):
    assert weights.kline_weight({"limit": limit}) == weight


@pytest.mark.parametrize(("limit", "weight"), [("100", 5), ("101", 25), ("501", 50), ("1001", 250), ("", 5)])
def test_spot_depth_weight(limit, weight):
    assert weights.spot_depth_weight({"limit": limit}) == weight


def test_weight_counts_then_429_then_418_and_the_window_resets():
    config = SandboxConfig(weight_limits={"futures": 10}, weight_window_s=2, ban_after=2, ban_s=5)
    pools = weights.WeightPools(config)
    start = 1_000_000
    assert pools.spend("a", "futures", 10, start).status == 0
    first = pools.spend("a", "futures", 1, start + 500)
    assert (first.status, first.was_closed, first.retry_after_s) == (429, False, 2)
    second = pools.spend("a", "futures", 1, start + 600)
    assert (second.status, second.was_closed) == (429, True)
    banned = pools.spend("a", "futures", 1, start + 700)
    assert (banned.status, banned.banned_until_ms, banned.retry_after_s) == (418, start + 5700, 5)
    assert pools.spend("b", "futures", 1, start + 700).status == 0
    assert pools.spend("a", "spot", 1, start + 700).status == 0
    still = pools.spend("a", "futures", 1, start + 2100)
    assert (still.status, still.was_closed) == (418, True)
    assert pools.spend("a", "futures", 1, start + 5700).status == 0
    assert pools.used("a", "futures", start + 5700) == 1


def test_429_ends_with_the_window_without_a_ban():
    pools = weights.WeightPools(SandboxConfig(weight_limits={"spot": 1}, weight_window_s=2))
    pools.spend("a", "spot", 2, 4_000)
    assert pools.spend("a", "spot", 1, 5_999).status == 429
    assert pools.spend("a", "spot", 1, 6_000).status == 0


def test_texts_of_1003_match_each_market():
    ban = weights.Verdict(418, 5, True, 3, 123)
    limit = weights.Verdict(429, 5)
    assert "IP banned until 123." in weights.limit_text("api", "1.2.3.4", ban, 6000)
    assert "current limit is 6000 request weight per 1 MINUTE" in weights.limit_text("api", "x", limit, 6000)
    assert "IP(1.2.3.4) banned until 123." in weights.limit_text("dapi", "1.2.3.4", ban, 2400)
    assert "IP(1.2.3.4) is 2400 requests per minute" in weights.limit_text("fapi", "1.2.3.4", limit, 2400)
