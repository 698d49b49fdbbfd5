"""The gateway as an assembly: what is joined with what, and that a start that fails leaves nothing running."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.errors import StoreError
from resender.gateway import Gateway
from resender.store import PreloadRow, open_repository
from resender.upstream.closures import CLOSED_KEY
from tests.support.authority import client_context
from tests.support.running import make_config


def make(tmp_path: Path, **settings: Any) -> Gateway:
    return Gateway(make_config(tmp_path, **settings), ssl_context=client_context())


def rule(number: int, market: str, what: str = "1m") -> PreloadRow:
    return PreloadRow(number, market, "BTCUSDT", what, 0)


async def test_services_are_those_the_gateway_owns(tmp_path: Path) -> None:
    gateway = make(tmp_path)
    services = gateway.services
    assert services.access is gateway.access
    assert services.dispatch.egress is gateway.egress
    assert services.cache is gateway.cache is not None
    assert services.clock is gateway.clock
    assert services.user_agent.startswith("binance-resender/")


async def test_settings_reach_the_services_that_keep_to_them(tmp_path: Path) -> None:
    gateway = make(
        tmp_path,
        weight_limit_spot=1234,
        backfill_weight_share=0.25,
        upstream_papi="off",
        egress="a=127.0.0.2,b=127.0.0.3;markets=um",
        cache_enabled=False,
    )
    assert gateway.egress.governor.limit("spot") == 1234
    assert gateway.status.own_share == 0.25
    assert Market.PM not in gateway.egress.markets
    assert ("b", Market.UM) in gateway.egress.clients
    assert ("b", Market.SPOT) not in gateway.egress.clients
    assert gateway.cache is None


async def test_gateway_takes_calls_from_its_start_to_its_stop(tmp_path: Path) -> None:
    gateway = make(tmp_path)
    assert not gateway.calls.is_open
    await gateway.start()
    assert gateway.calls.is_open
    assert gateway.access.whitelist.match("127.0.0.1") is not None
    await gateway.stop()
    assert not gateway.calls.is_open
    assert len(gateway.tasks) == 0
    await gateway.stop()  # a second time does nothing


async def test_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "resender.db").write_bytes(b"this is no database at all, whatever it is" * 50)
    gateway = make(tmp_path)
    before = set(threading.enumerate())
    with pytest.raises(StoreError):
        await gateway.start()
    assert not gateway.calls.is_open
    assert len(gateway.tasks) == 0
    assert set(threading.enumerate()) - before == set()


async def test_pool_closed_at_the_end_is_closed_again_at_the_next_start(tmp_path: Path) -> None:
    first = make(tmp_path)
    await first.start()
    governor = first.egress.governor
    governor.close_pool(governor.egresses[0], "spot", 418, first.clock.mono() + 3600)
    await first.stop()
    with open_repository(first.config.database) as repository:
        assert "418" in (repository.state_get(CLOSED_KEY) or "")
    second = make(tmp_path)
    await second.start()
    assert second.egress.governor.closed_s(Market.SPOT, "spot", second.clock.mono()) > 3000
    await second.stop()


async def test_egress_with_an_address_the_machine_lacks_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make(tmp_path, egress="default,lost=192.0.2.7")
    with caplog.at_level(logging.ERROR, "resender.gateway"):
        await gateway.start()
    assert "egress lost cannot be used: cannot bind 192.0.2.7" in caplog.text
    assert gateway.calls.is_open
    await gateway.stop()


async def test_rules_of_the_settings_and_of_the_database_are_in_force_together(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make(tmp_path, preload="spot:BTCUSDT@1m;cm:BTCUSD_PERP@1m", upstream_dapi="off")
    assert gateway.cache is not None
    seen: list[list[Market]] = []
    gateway.cache.set_rules = lambda rules: seen.append([each.market for each in rules])  # type: ignore[method-assign]
    gateway._set_preload((rule(1, "um"),))
    assert seen == [], "before the start nothing is asked of an exchange"
    await gateway.start()
    await asyncio.sleep(0)
    assert seen[-1] == [Market.SPOT], "the market that is off has no rules; the database has none yet"
    gateway._set_preload((rule(1, "um"), rule(2, "nowhere"), rule(3, "cm")))
    assert seen[-1] == [Market.SPOT, Market.UM]
    assert "preload rule 2 is left out" in caplog.text
    await gateway.stop()


def folder(gateway: Gateway) -> Path:
    assert gateway.cache is not None
    assert gateway.cache._files is not None
    return gateway.cache._files._files.folder


async def test_candles_of_another_exchange_lie_in_another_folder(tmp_path: Path) -> None:
    one, same = make(tmp_path), make(tmp_path)
    other = make(tmp_path, upstream_fapi="https://testnet.invalid")
    assert folder(one) == folder(same)
    assert folder(one) != folder(other)
    assert folder(one).parent == tmp_path / "candles"


async def test_limits_are_left_to_the_cache_only_where_it_follows_the_market(tmp_path: Path) -> None:
    gateway = make(tmp_path)
    assert not gateway._is_followed(Market.SPOT), "nothing has been asked yet"
    assert not gateway._is_followed(Market.PM)
    assert not make(tmp_path, cache_enabled=False)._is_followed(Market.SPOT)
