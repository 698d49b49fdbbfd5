"""Bulk files: which egress is asked, what is tried again, and that nothing but the path is the client's."""

from __future__ import annotations

import ssl
from typing import Any, cast

import pytest

from resender.core.egress.spec import parse_egress
from resender.errors import RouteError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream.connector import EgressUnusable
from resender.upstream.downloads import Downloads
from tests.support.authority import client_context
from tests.support.ports import free_port
from tests.support.upstream import RawUpstream
from tests.unit.upstream.fakes import FakeAnswer, FakeClient

URL = "https://data.invalid"


def downloads(url: str = URL, egress: str = "default", *, context: ssl.SSLContext | None = None) -> Downloads:
    context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Downloads(url, parse_egress(egress.split(",")), connect_s=2, read_s=2, ssl_context=context)


def with_fakes(egress: str, *clients: FakeClient) -> Downloads:
    """Make downloads whose clients are made by hand."""
    made = downloads(egress=egress)
    names = [name for name, _ in made._clients]
    assert len(names) == len(clients)
    made._clients = cast(Any, list(zip(names, clients, strict=True)))
    return made


async def get(made: Downloads, target: str = "/data/x.zip") -> Any:
    return await made.get("GET", target, [("Range", "bytes=0-1")])


async def test_egresses_are_asked_in_turn() -> None:
    fakes = FakeClient(), FakeClient()
    made = with_fakes("a=10.0.0.1,b=10.0.0.2", *fakes)
    answers = [(await get(made)).egress for _ in range(4)]
    assert sorted(answers[:2]) == ["a", "b"]
    assert answers[:2] == answers[2:]
    assert [len(fake.sent) for fake in fakes] == [2, 2]
    assert fakes[0].sent[0] == ("GET", "/data/x.zip", [("Range", "bytes=0-1")])


@pytest.mark.parametrize("error", [UpstreamUnreachable("no"), EgressUnusable("no")])
async def test_egress_that_cannot_connect_is_passed_over(error: Exception) -> None:
    bad, good = FakeClient(*[error] * 4), FakeClient()
    made = with_fakes("a=10.0.0.1,b=10.0.0.2", bad, good)
    assert [(await get(made)).egress for _ in range(4)] == ["b"] * 4
    assert len(bad.sent) == 2, "it is asked when it is its turn, and not before"


async def test_every_egress_is_tried_once_and_the_last_failure_is_told() -> None:
    fakes = [FakeClient(UpstreamUnreachable(f"no {name}")) for name in "abc"]
    made = with_fakes("a=10.0.0.1,b=10.0.0.2,c=10.0.0.3", *fakes)
    with pytest.raises(UpstreamUnreachable, match="no a"):
        await get(made)
    assert [len(fake.sent) for fake in fakes] == [1, 1, 1]


@pytest.mark.parametrize("error", [UpstreamLost("gone"), UpstreamTimeout("slow")])
async def test_what_has_been_sent_is_not_sent_again(error: Exception) -> None:
    fakes = FakeClient(error), FakeClient(error)
    made = with_fakes("a=10.0.0.1,b=10.0.0.2", *fakes)
    with pytest.raises(type(error)):
        await get(made)
    assert sum(len(fake.sent) for fake in fakes) == 1


@pytest.mark.parametrize("status", [302, 403, 404, 500, 503])
async def test_answer_of_any_status_is_an_answer(status: int) -> None:
    fakes = FakeClient(FakeAnswer(status=status)), FakeClient(FakeAnswer(status=status))
    assert (await get(with_fakes("a=10.0.0.1,b=10.0.0.2", *fakes))).status == status
    assert sum(len(fake.sent) for fake in fakes) == 1


async def test_another_gateway_is_charged_for_no_file() -> None:
    made = with_fakes("resender://10.0.0.9:8000,b=10.0.0.2", FakeClient())
    assert (await get(made)).egress == "b"
    with pytest.raises(RouteError, match="no egress can fetch them"):
        await get(downloads(egress="resender://10.0.0.9:8000"))


async def test_without_a_url_nothing_is_served_and_nothing_started() -> None:
    made = downloads("")
    await made.start()
    with pytest.raises(RouteError, match="UPSTREAM_DATA is off"):
        await get(made)
    await made.stop()


async def test_all_clients_are_started_and_stopped() -> None:
    fakes = FakeClient(), FakeClient()
    made = with_fakes("a=10.0.0.1,b=10.0.0.2", *fakes)
    await made.start()
    assert all(fake.is_started for fake in fakes)
    await made.stop()
    await made.stop()
    assert not any(fake.is_started for fake in fakes)


async def test_stop_without_a_start_is_none() -> None:
    await downloads().stop()


@pytest.mark.parametrize(
    "target",
    ["/data/spot/%2e%2e/x.zip?a=%41&b", "//evil.example/x", "/http://evil.example/x", "/@evil.example/x", "/x?a=b?c#d"],
)  # fmt: skip
async def test_path_is_written_byte_for_byte_to_the_one_host(target: str) -> None:
    async with RawUpstream() as upstream:
        made = downloads(upstream.url, context=client_context())
        await made.start()
        try:
            answer = await made.get("GET", target, [("If-None-Match", '"x"')])
            assert answer.egress == "default"
            answer.close()
        finally:
            await made.stop()
        (request,) = upstream.requests
    assert request.target == target.encode()
    assert ("If-None-Match", '"x"') in request.headers


async def test_host_that_is_down_is_told_by_name() -> None:
    made = downloads(f"https://127.0.0.1:{free_port()}", context=client_context())
    await made.start()
    try:
        with pytest.raises(UpstreamUnreachable, match=r"127\.0\.0\.1 cannot be reached"):
            await get(made)
    finally:
        await made.stop()
