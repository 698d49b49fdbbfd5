"""A key of the gateway's own: Binance has to say that it may only read."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from resender.account.key_check import PATH, KeyRefused, KeyTooStrong, check_key, quoted
from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import UpstreamUnreachable

NOW_MS = 1_796_000_000_000
SIGNATURE = "a+b/c=="
READ_ONLY = {
    "ipRestrict": False,
    "enableReading": True,
    "enableFixReadOnly": True,
    "enableWithdrawals": False,
}


class Door:
    def __init__(self, status: int = 200, told: Any = READ_ONLY) -> None:
        self.status, self.told = status, told
        self.asked: list[tuple[Any, ...]] = []

    async def call_with_key(
        self, market: Market, method: str, target: str, api_key: str, *, is_urgent: bool = False
    ) -> tuple[Fetched, str]:
        self.asked.append((market, method, target, api_key, is_urgent))
        if isinstance(self.told, Exception):
            raise self.told
        body = self.told if isinstance(self.told, bytes) else orjson.dumps(self.told)
        return Fetched(self.status, {}, body), "hk"


class Signer:
    def __init__(self) -> None:
        self.signed: list[bytes] = []

    def sign(self, payload: bytes) -> str:
        self.signed.append(payload)
        return SIGNATURE


async def check(door: Door) -> None:
    await check_key(door, "key", Signer(), NOW_MS)


async def test_binance_is_asked_with_the_key_and_what_was_signed() -> None:
    door, signer = Door(), Signer()
    await check_key(door, "key", signer, NOW_MS)
    ((market, method, target, key, is_urgent),) = door.asked
    assert (market, method, key, is_urgent) == (Market.SPOT, "GET", "key", True)
    url = urlsplit(target)
    payload, _, _ = url.query.partition("&signature=")
    assert (url.path, signer.signed) == (PATH, [payload.encode()])
    assert parse_qs(url.query) == {
        "recvWindow": ["10000"], "timestamp": [str(NOW_MS)], "signature": [SIGNATURE],
    }  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"enableWithdrawals": True},
        {"enableSpotAndMarginTrading": True},
        {"permitsUniversalTransfer": True},
        {"enableWhatNobodyKnowsYet": True},
        {"enableFutures": "false"},
        {"enableMargin": None},
    ],
)
async def test_key_that_may_more_than_read_is_too_strong(more: dict[str, Any]) -> None:
    with pytest.raises(KeyTooStrong, match=next(iter(more))):
        await check(Door(told={**READ_ONLY, **more}))


@pytest.mark.parametrize(
    ("status", "told", "words"),
    [
        (401, {"code": -2015, "msg": "Invalid API-key"}, "Binance answered 401 .*Invalid API-key"),
        (503, b"<html>", "Binance answered 503 .*None"),
        (429, [], "Binance answered 429"),
        (200, b"no json", "cannot be read"),
        (200, {}, "cannot be read"),
        (200, {"enableReading": "yes"}, "cannot be read"),
        (200, UpstreamUnreachable("no way out"), "could not be asked .*no way out"),
    ],
)
async def test_key_of_which_nothing_certain_is_told_is_refused_but_not_called_strong(
    status: int, told: Any, words: str
) -> None:
    with pytest.raises(KeyRefused, match=words) as refused:
        await check(Door(status, told))
    assert not isinstance(refused.value, KeyTooStrong)


async def test_words_of_binance_are_cut_and_hold_no_secret() -> None:
    with pytest.raises(KeyRefused) as refused:
        await check(Door(400, {"msg": "x" * 5000}))
    text = str(refused.value)
    assert len(text) < 300
    assert SIGNATURE not in text
    many = {f"enable{number:04}": True for number in range(500)}
    with pytest.raises(KeyTooStrong) as strong:
        await check(Door(told={**READ_ONLY, **many}))
    assert len(str(strong.value)) < 450


def test_signature_is_written_into_a_query_unharmed() -> None:
    assert quoted(SIGNATURE) == "a%2Bb%2Fc%3D%3D"
    assert quoted("0f" * 32) == "0f" * 32
    assert quoted("") == ""
