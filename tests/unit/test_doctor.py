"""The doctor's verdicts in words, its table, and which checks a fault of an egress makes needless."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.egress.spec import parse_egress
from resender.doctor import Examination, _EgressFailed, _judge, examine, table
from tests.support.authority import Authority, client_context
from tests.support.running import make_config
from tests.support.upstream import Peer, RawUpstream, Request, response

MINE = parse_egress(["default"])[0]
PROXY = parse_egress(["via=socks5://127.0.0.1:9"])[0]
THERE = parse_egress(["there=resender://127.0.0.1:9"])[0]


def verdict(status: int, spec=MINE, body: bytes = b"{}", **headers: str) -> Examination:
    found = Examination(Market.SPOT, "https://api.example", status=status)
    _judge(found, spec, body, {name.replace("_", "-").encode(): value for name, value in headers.items()})
    return found


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "spec", "words"),
    [
        (451, MINE, "does not serve this machine's country, move the server"),
        (451, PROXY, "does not serve the country of the proxy, use another one"),
        (451, THERE, "does not serve the country of that Binance Resender, use another one"),
        (418, MINE, "banned (418): this address sent too much; it ends in ? s"),
        (429, MINE, "over the weight limit (429); try again in ? s"),
        (403, MINE, "refused by Binance's firewall (403)"),
        (500, MINE, "it answers with HTTP 500: {}"),
    ],
)
def test_refusal_is_told_with_what_helps(status: int, spec, words: str) -> None:
    found = verdict(status, spec)
    assert words in found.verdict
    assert not found.is_ok


def test_answer_is_ok() -> None:
    found = verdict(200)
    assert (found.verdict, found.is_ok) == ("ok", True)


def test_time_to_wait_is_told() -> None:
    assert verdict(418, retry_after="77").verdict.endswith("it ends in 77 s")


def test_long_or_binary_answer_is_cut_short() -> None:
    assert len(verdict(500, body=b"\xff" * 10_000).verdict) < 200


def test_gateway_that_does_not_know_this_machine_is_a_fault_of_the_egress() -> None:
    body = orjson.dumps({"code": -1, "msg": "Forbidden IP: 192.0.2.1.", "data": {}})
    with pytest.raises(_EgressFailed, match=r"\(Forbidden IP: 192\.0\.2\.1\): run `run.py whitelist add"):
        verdict(403, THERE, body, x_resender_error="forbidden")


def test_what_another_gateway_says_itself_is_told_as_its_own() -> None:
    body = orjson.dumps({"code": -8, "msg": "Too  many\ncalls.", "data": {}})
    found = verdict(503, THERE, body, x_resender_error="busy")
    assert found.verdict == "that Binance Resender answers 503 busy: Too many calls"


def test_header_of_a_gateway_in_an_answer_of_binance_means_nothing() -> None:
    assert "firewall" in verdict(403, MINE, x_resender_error="forbidden").verdict


# --- the table ------------------------------------------------------------------------------------


def test_table_has_a_column_for_each_figure_and_ends_with_the_verdict() -> None:
    results = [
        Examination(
            Market.SPOT, "https://api.example", dns_ms=1.04, tcp_ms=2, tls_ms=3, ping_ms=4.25, skew_ms=-12.4,
            stream_ms=900, used_weight="7", verdict="ok", is_ok=True,
        ),
        Examination(Market.OPTIONS, "https://e.example", "home", verdict="the connection was refused"),
    ]  # fmt: skip
    head, first, second = table(results)
    assert first.split() == [
        "spot", "https://api.example", "default", "1.0", "2.0", "3.0", "4.2", "-12", "900.0", "7", "ok",
    ]  # fmt: skip
    assert second.split()[2:10] == ["home", *["-"] * 7]
    assert head.index("verdict") == first.index("ok") == second.index("the connection was refused")


def test_clock_that_is_ahead_has_a_sign() -> None:
    assert " +12 " in table([Examination(Market.SPOT, "u", skew_ms=12.4)])[1]


def test_table_of_nothing_is_its_head() -> None:
    assert len(table([])) == 1


# --- examining ------------------------------------------------------------------------------------


async def run(config) -> list[Examination]:
    return [result async for result in examine(config, ssl_context=client_context())]


async def test_address_the_machine_lacks_is_told_for_each_market_and_nothing_is_tried(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        config = make_config(tmp_path, upstream.url, egress="lost=192.0.2.7,default", upstream_eapi="off",
                             upstream_papi="off", cache_enabled=False, max_stream_clients=0)  # fmt: skip
        upstream.answer = answer_like_binance
        results = await run(config)
    assert [(each.egress, each.market) for each in results] == [
        (name, market) for name in ("lost", "default") for market in (Market.SPOT, Market.UM, Market.CM)
    ]
    assert all("add it to a network interface or correct EGRESS" in each.verdict for each in results[:3])
    assert [each.verdict for each in results[3:]] == ["ok"] * 3
    assert all(each.dns_ms is None for each in results[:3])


async def answer_like_binance(request: Request, peer: Peer) -> None:
    if request.target.endswith(b"/time"):
        await peer.send(response(b'{"serverTime":%d}' % (time.time() * 1000)))
    else:
        headers = (("content-type", "application/json"), ("x-mbx-used-weight-1m", "3"))
        await peer.send(response(b"{}", headers=headers))


async def examined(tmp_path: Path, upstream: RawUpstream, **settings) -> Examination:
    off = dict.fromkeys(("upstream_fapi", "upstream_dapi", "upstream_eapi", "upstream_papi"), "off")
    config = make_config(tmp_path, upstream.url, cache_enabled=False, max_stream_clients=0, **off, **settings)
    (result,) = await run(config)
    return result


async def test_upstream_that_answers_is_measured_in_every_step(tmp_path: Path) -> None:
    async with RawUpstream(answer=answer_like_binance) as upstream:
        result = await examined(tmp_path, upstream)
    assert result.is_ok
    assert result.used_weight == "3"
    figures = (result.dns_ms, result.tcp_ms, result.tls_ms, result.ping_ms, result.skew_ms)
    assert None not in figures
    assert result.stream_ms is None
    assert [request.target for request in upstream.requests] == [b"/api/v3/ping"] * 2 + [b"/api/v3/time"]


@pytest.mark.parametrize("ahead_ms", [5000, -5000])
async def test_clock_that_is_off_is_told_beside_the_ok(tmp_path: Path, ahead_ms: int) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        body = b'{"serverTime":%d}' % (time.time() * 1000 - ahead_ms)
        await peer.send(response(body if request.target.endswith(b"/time") else b"{}"))

    async with RawUpstream(answer=answer) as upstream:
        result = await examined(tmp_path, upstream)
    assert result.is_ok
    assert "clock is off" in result.verdict
    assert (result.skew_ms or 0) * ahead_ms > 0


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"serverTime":"soon"}'])
async def test_host_that_is_not_binance_is_told(tmp_path: Path, body: bytes) -> None:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(body))

    async with RawUpstream(answer=answer) as upstream:
        result = await examined(tmp_path, upstream)
    assert not result.is_ok
    assert result.verdict == "it answers, but not like Binance: is the URL right?"


async def test_certificate_of_a_stranger_is_told_and_nothing_is_sent(tmp_path: Path) -> None:
    async with RawUpstream(context=Authority().server_context()) as upstream:
        result = await examined(tmp_path, upstream)
    assert "an authority this machine does not trust" in result.verdict
    assert result.tcp_ms is not None
    assert result.tls_ms is None
    assert upstream.requests == []
