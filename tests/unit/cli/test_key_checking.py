"""Asking Binance what a key may do: what is sent, and what is told of each odd answer."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from resender.account import KeyRefused
from resender.api_keys import Signer, Verifier
from resender.cli.key_checking import ask_binance, check_read_only
from tests.support.authority import client_context
from tests.support.running import make_config
from tests.support.upstream import Peer, RawUpstream, Request, response

KEY = "ApiKey" + "a1B2" * 14 + "wxyz"
SIGNER = Signer.parse("HmacSecret" + "e5F6" * 13 + "zz")
RIGHTS = b'{"ipRestrict":false,"enableReading":true,"enableWithdrawals":false}'
TIME = b"time"


async def ask(
    tmp_path: Path, rights: bytes, *, told: bytes = TIME, status: str = "200 OK", **settings: Any
) -> RawUpstream:
    """Ask a host that says `told` of its time and `rights` of the key."""

    async def answer(request: Request, peer: Peer) -> None:
        if request.target == b"/api/v3/time":
            now = b'{"serverTime":%d}' % (time.time() * 1000)
            await peer.send(response(now if told == TIME else told, status if told != TIME else "200 OK"))
        else:
            await peer.send(response(rights, status if told == TIME else "200 OK"))

    async with RawUpstream(answer=answer) as upstream:
        config = make_config(tmp_path, upstream.url, **settings)
        await ask_binance(config, KEY, SIGNER, ssl_context=client_context())
    return upstream


async def test_key_that_may_only_read_passes_and_is_asked_about_once(tmp_path: Path) -> None:
    upstream = await ask(tmp_path, RIGHTS)
    asked = [request.target.decode() for request in upstream.requests]
    assert asked[0] == "/api/v3/time"
    path, _, query = asked[1].partition("?")
    assert (len(asked), path) == (2, "/sapi/v1/account/apiRestrictions")
    assert upstream.requests[0].header("X-MBX-APIKEY") is None
    assert upstream.requests[1].header("X-MBX-APIKEY") == KEY
    payload, _, signature = query.rpartition("&signature=")
    assert Verifier.of(SIGNER).verify(payload.encode(), signature)
    (timestamp,) = parse_qs(payload)["timestamp"]
    assert abs(int(timestamp) - time.time() * 1000) < 10_000


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        (b'{"enableReading":true,"enableWithdrawals":true}', "may more than read: enableWithdrawals"),
        (b'{"enableReading":true,"enableSomethingNew":1}', "may more than read: enableSomethingNew"),
        (b'{"enableReading":true,"permitsUniversalTransfer":true}', "permitsUniversalTransfer"),
        (b"{}", "cannot be read"),
        (b"<html>", "cannot be read"),
        (b"[]", "cannot be read"),
    ],
)
async def test_everything_else_is_refused(tmp_path: Path, rights: bytes, words: str) -> None:
    with pytest.raises(KeyRefused, match=words):
        await ask(tmp_path, rights)


async def test_refusal_of_binance_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"Binance answered 401 .*: Invalid API-key"):
        await ask(tmp_path, b'{"code":-2015,"msg":"Invalid API-key, IP."}', status="401 Unauthorized")


@pytest.mark.parametrize("told", [b"<html>", b"[]", b"{}", b'{"serverTime":"soon"}', b"\xff"])
async def test_host_that_is_not_binance_never_sees_the_key(tmp_path: Path, told: bytes) -> None:
    with pytest.raises(KeyRefused, match="does not answer like Binance"):
        await ask(tmp_path, RIGHTS, told=told)


async def test_status_of_the_time_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="answered 451 when asked for its time"):
        await ask(tmp_path, RIGHTS, told=b"{}", status="451 Unavailable")


def test_no_answer_is_one_error_and_no_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyRefused, match="could not be asked what this key may do"):
        check_read_only(make_config(tmp_path), KEY, SIGNER)
    assert caplog.records == []
    logging.getLogger("resender").warning("heard again")
    assert len(caplog.records) == 1


def test_market_that_is_switched_off_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="spot is switched off"):
        check_read_only(make_config(tmp_path, upstream_api="off"), KEY, SIGNER)


def test_errors_hold_no_secret(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused) as caught:
        check_read_only(make_config(tmp_path), KEY, SIGNER)
    told = f"{caught.value!r} {caught.value.__context__!r} {SIGNER!r}"
    assert KEY not in told
    assert "HmacSecret" not in told
