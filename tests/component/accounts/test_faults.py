"""User streams that break, fall silent or tell late: what comes out of memory was true, and it comes again by itself.

Each market is traded by a bot all the while; its answers are judged by the exchange's own history of every state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import Sandbox, SandboxConfig
from resender.sandbox.account_faults import AccountFaults
from tests.support.account_judge import PROOF_MS, Trader
from tests.support.account_lab import AccountLab, account_lab
from tests.support.mute_link import MuteLink
from tests.support.running import make_config, running, wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits, pytest.mark.slow]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
KEY_ONLY = {SPOT: "secret", UM: "key", CM: "key"}
WITH_SECRET = {UM: "secret"}
LIMITS = {"spot": 60_000, "futures": 60_000}
EVERY_WAY = pytest.mark.parametrize("modes", [KEY_ONLY, WITH_SECRET], ids=["key", "secret"])


def exchange(**more: Any) -> SandboxConfig:
    return SandboxConfig(spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits=LIMITS, **more)


@asynccontextmanager
async def traded(
    folder: Path, modes: dict[Market, str], *, config: SandboxConfig | None = None, is_outside: bool = True,
    **settings: Any,
) -> AsyncIterator[tuple[AccountLab, list[Trader]]]:  # fmt: skip
    """Run accounts that are traded and live."""
    settings = {
        "weight_limit_spot": 60_000,
        "weight_limit_futures": 60_000,
        "stream_silence_s": 4,
        **settings,
    }
    async with (
        account_lab(folder, sandbox=config or exchange(), **settings) as lab,
        AsyncExitStack() as stack,
    ):
        traders = []
        for number, (market, mode) in enumerate(modes.items()):
            await lab.add(market.value, mode, name=market.value)
            trader = Trader(lab, market, number, is_outside=is_outside)
            traders.append(await stack.enter_async_context(trader))
        await together(traders, lambda trader: trader.until_hits())
        yield lab, traders


async def together(traders: list[Trader], work: Callable[[Trader], Any]) -> None:
    await asyncio.gather(*(work(trader) for trader in traders))


def faults_of(lab: AccountLab, traders: list[Trader]) -> list[AccountFaults]:
    return [lab.sandbox.faults.accounts[trader.market] for trader in traders]


async def recover(traders: list[Trader], late_ms: float = 0.0) -> None:
    """Wait for answers out of memory again, and judge all there were."""
    await together(traders, lambda trader: trader.until_hits(20))
    for trader in traders:
        trader.check(late_ms)


@EVERY_WAY
async def test_dropped_connection_is_replaced(tmp_path: Path, modes: dict[Market, str]) -> None:
    async with traded(tmp_path, modes) as (lab, traders):
        for _ in range(2):
            accounts = lab.gateway.accounts.all
            await wait_until(lambda: all(account.proof.is_open for account in accounts), 20)  # noqa: B023
            assert sum(fault.drop() for fault in faults_of(lab, traders)) >= len(modes)
            await together(traders, lambda trader: trader.until_miss())
        await recover(traders)


@EVERY_WAY
async def test_mute_connection_proves_nothing_after_three_seconds(
    tmp_path: Path, modes: dict[Market, str]
) -> None:
    async with traded(tmp_path, modes) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.mute = True
        await together(traders, lambda trader: trader.until_miss())
        await asyncio.sleep(2.0)
        for fault in faults_of(lab, traders):
            fault.mute = False
        await recover(traders, PROOF_MS)


@EVERY_WAY
async def test_stream_without_events_is_found_out_by_the_next_own_order(
    tmp_path: Path, modes: dict[Market, str]
) -> None:
    # What others do to the orders meanwhile nobody can know: here nobody does.
    async with traded(tmp_path, modes, is_outside=False) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.silent = True
        await together(traders, lambda trader: trader.until_miss())
        await asyncio.sleep(3.0)
        for fault in faults_of(lab, traders):
            fault.silent = False
        await recover(traders)


@EVERY_WAY
@pytest.mark.parametrize("is_text", [False, True], ids=["number", "text"])
async def test_end_that_is_announced_is_a_new_stream(
    tmp_path: Path, modes: dict[Market, str], is_text: bool
) -> None:
    async with traded(tmp_path, modes) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.expired_as_text = is_text
            assert fault.expire_keys() + fault.terminate()
        await together(traders, lambda trader: trader.until_miss())
        await recover(traders)


@EVERY_WAY
async def test_end_without_notice_is_found_out_by_the_next_own_order(
    tmp_path: Path, modes: dict[Market, str]
) -> None:
    async with traded(tmp_path, modes, is_outside=False) as (lab, traders):
        for fault in faults_of(lab, traders):
            assert fault.expire_keys(notice=False) + fault.terminate(notice=False)
        await together(traders, lambda trader: trader.until_miss())
        await recover(traders)


@EVERY_WAY
async def test_lost_event_of_an_own_order_is_found_out(tmp_path: Path, modes: dict[Market, str]) -> None:
    async with traded(tmp_path, modes, is_outside=False) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.lose_next["(executionReport|ORDER_TRADE_UPDATE) (NEW|CANCELED)"] = 2
        await together(traders, lambda trader: trader.until_miss())
        await recover(traders)
        assert all(fault.lost == 2 for fault in faults_of(lab, traders))


@EVERY_WAY
async def test_events_that_come_twice_count_once(tmp_path: Path, modes: dict[Market, str]) -> None:
    async with traded(tmp_path, modes) as (lab, traders):
        before = [dict(trader.misses) for trader in traders]
        for fault in faults_of(lab, traders):
            fault.twice = True
        await recover(traders)
        await asyncio.sleep(2.0)
        assert not any(account.difference_count for account in lab.gateway.accounts.all)
        # What a COIN-M fill was worth is in no event.
        waited = {"miss; own order not told yet", "miss; order not known whole"}
        for trader, misses in zip(traders, before, strict=True):
            new = {reason for reason, count in trader.misses.items() if count != misses.get(reason)}
            assert new <= waited, new
            trader.check()


@EVERY_WAY
async def test_events_that_are_a_second_late_hold_answers_back(
    tmp_path: Path, modes: dict[Market, str]
) -> None:
    async with traded(tmp_path, modes) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.delay_ms = 1000
        await asyncio.sleep(5.0)
        for trader in traders:
            assert trader.misses.get("miss; own order not told yet"), trader.misses
        for fault in faults_of(lab, traders):
            fault.delay_ms = 0
        await recover(traders, 1000)
        assert not any(account.difference_count for account in lab.gateway.accounts.all)


@EVERY_WAY
async def test_rest_that_lags_two_seconds_is_not_believed(tmp_path: Path, modes: dict[Market, str]) -> None:
    config = exchange()
    async with traded(tmp_path, modes, config=config) as (lab, traders):
        for fault in faults_of(lab, traders):
            fault.rest_lag_ms = 2000
            fault.drop()
        await together(traders, lambda trader: trader.until_miss())
        await recover(traders)


@pytest.mark.parametrize("pause_s", [0.0, 1.0], ids=["at once", "later"])
async def test_server_that_shuts_down_is_left_before_it_does(tmp_path: Path, pause_s: float) -> None:
    async with traded(tmp_path, {SPOT: "secret"}) as (lab, traders):
        api = lab.sandbox.ws_apis[SPOT]
        accepted = api.accepted
        api.announce_shutdown()
        await asyncio.sleep(pause_s)
        lab.sandbox.faults.accounts[SPOT].drop()
        await recover(traders)
        assert api.accepted > accepted


@pytest.mark.parametrize("market", [SPOT, UM, CM], ids=str)
async def test_line_that_stalls_proves_nothing_after_three_seconds(tmp_path: Path, market: Market) -> None:
    setting = "ws_api_spot" if market is SPOT else f"stream_{market}"
    config = exchange()
    modes = {market: KEY_ONLY[market]}
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(
            stalling(tmp_path, config, setting, weight_limit_spot=60_000, weight_limit_futures=60_000)
        )
        await lab.add(market.value, modes[market])
        trader = await stack.enter_async_context(Trader(lab, market))
        await trader.until_hits()
        for _ in range(2):
            lab.link.fall_mute()
            await trader.until_miss()
            await asyncio.sleep(1.0)
            lab.link.speak()
            await recover([trader], PROOF_MS)


class StallingLab(AccountLab):
    """A lab with a line that can stall."""

    link: MuteLink


@asynccontextmanager
async def stalling(
    folder: Path, config: SandboxConfig, setting: str, **settings: Any
) -> AsyncIterator[StallingLab]:
    """Run a lab whose user data comes over a line that can stall."""
    async with Sandbox(config) as sandbox:
        urls = {name.lower(): url for name, url in sandbox.urls.items()}
        async with MuteLink(urls[setting]) as link:
            urls[setting] = link.url
            settings = {"cache_enabled": False, "stream_silence_s": 4, **urls, **settings}
            async with running(make_config(folder, **settings)) as run:
                lab = StallingLab(sandbox, run)
                lab.link = link
                yield lab
