"""One account's stream: how it is opened, what ends it, and when nobody tries any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from resender.account import user_stream as module
from resender.account.ports import AccountOptions
from resender.account.user_stream import NEEDS_KEY, NEEDS_SUBSCRIPTION, UserStream, fresh_s
from resender.aio import Clock, Tasks
from resender.core.account.spec import AccountMarket, Mode
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import UpstreamUnreachable

NOW_MS = 1_796_000_000_000
LISTEN_KEY = "L" * 64
READ_ONLY = {"enableReading": True, "enableWithdrawals": False}
SIGNED = {"apiKey": "key", "timestamp": NOW_MS, "signature": "aa"}
EVENT = {"e": "ORDER_TRADE_UPDATE", "o": {}}


async def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it has not come")


class Connection:
    egress = "hk"

    def __init__(self, *, is_alive: bool = True, answer: dict[str, Any] | None = None) -> None:
        self.is_alive = is_alive
        self.answer = answer
        self.coming: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.is_closed = False
        self.sign: Callable[[], None] = lambda: None

    def watch(self, ping_every_s: float, silent_s: float, on_sign: Callable[[], None]) -> None:
        self.sign = on_sign

    async def receive(self) -> str | bytes | None:
        return await self.coming.get()

    async def send(self, message: str | bytes) -> bool:
        request = orjson.loads(message)
        self.sent.append(request)
        if self.answer is not None:
            self.tell({"id": request["id"], **self.answer})
        return True

    async def ping(self) -> bool:
        if self.is_alive:
            self.sign()
        return True

    async def close(self, code: int = 1000) -> None:
        self.is_closed = True

    def tell(self, message: Any) -> None:
        self.coming.put_nowait(message if message is None else orjson.dumps(message).decode())


class World:
    """A stream, its owner, and Binance.

    Shape: `answers` by method and path: status and what is told, or an error.
    """

    def __init__(
        self, market: AccountMarket = AccountMarket.UM, mode: Mode = Mode.KEY, key: str | None = "key",
        *connections: Connection,
    ) -> None:  # fmt: skip
        self.label, self.market, self.mode, self.api_key = "desk", market, mode, key
        self.signer: Any = SimpleNamespace(sign=lambda payload: f"over {payload.decode()}")
        self.told: list[Any] = []
        self.connections = list(connections) or [Connection()]
        self.opened_with: list[tuple[str, str, dict[str, Any]]] = []
        self.listen_keys: list[tuple[str, str]] = []
        self.ended_desks = 0
        self.asked: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {
            "/fapi/v1/listenKey": (200, {"listenKey": LISTEN_KEY}),
            "/papi/v1/listenKey": (200, {"listenKey": LISTEN_KEY}),
            "/sapi/v1/account/apiRestrictions": (200, READ_ONLY),
            "/sapi/v1/userListenToken": (200, {"token": "tok"}),
        }
        mono = asyncio.get_running_loop().time
        self.tasks = Tasks()
        self.stream = UserStream(
            self, AccountOptions(silence_s=0.06), door=self, opener=self,
            clock=Clock(now_ms=lambda: NOW_MS, mono=mono), exchange_clock=ExchangeClock.guess(NOW_MS, mono()),
            tasks=self.tasks,
        )  # fmt: skip

    # The owner.

    def opening(self) -> None:
        self.told.append("opening")

    def opened(self) -> None:
        self.told.append("opened")

    def heard(self) -> None: ...

    def closed(self, why: str) -> None:
        self.told.append(("closed", why))

    def message(self, event: dict[str, Any]) -> None:
        self.told.append(event)

    # The door and the opener.

    async def call_with_key(
        self, market: Market, method: str, target: str, api_key: str, *, is_urgent: bool = False
    ) -> tuple[Fetched, str]:
        path = target.partition("?")[0]
        self.asked.append((method, path))
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        status, told = answer
        return Fetched(status, {}, orjson.dumps(told)), "hk"

    async def open(self, host: str, target: str, market: Market, **more: Any) -> Any:
        self.opened_with.append((host, target, more))
        return self.connections[len(self.opened_with) - 1]

    def desk(self, market: Market, egress: Any, client: str) -> Any:
        return SimpleNamespace(admit=lambda request: None, note=lambda message: None, end=self._end_desk)

    def _end_desk(self) -> None:
        self.ended_desks += 1

    def note_listen_key(self, listen_key: str, egress: str) -> None:
        self.listen_keys.append((listen_key, egress))

    # The tests.

    @property
    def line(self) -> Connection:
        return self.connections[len(self.opened_with) - 1]

    async def until(self, *wanted: Any) -> None:
        await wait_until(lambda: self.told[-len(wanted) :] == list(wanted))


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    world.stream.start()
    try:
        yield world
    finally:
        await world.stream.stop()
        await world.tasks.cancel()


# --- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "begins"), [(AccountMarket.UM, "/private/ws"), (AccountMarket.PM, f"/pm/ws/{LISTEN_KEY}")]
)
async def test_stream_waits_for_its_key_and_opens_with_a_listen_key(
    market: AccountMarket, begins: str
) -> None:
    async with running(World(market, Mode.KEY, None)) as world:
        await world.until(("closed", NEEDS_KEY))
        assert world.asked == []
        world.api_key = "key"
        world.stream.wake()
        await world.until("opening", "opened")
        assert world.asked == [("POST", f"/{'papi' if market is AccountMarket.PM else 'fapi'}/v1/listenKey")]
        assert world.listen_keys == [(LISTEN_KEY, "hk")]
        host, target, more = world.opened_with[0]
        assert host == "stream_um"
        assert target.startswith(begins)
        assert (more["api_key"], more["listen_key"], more["purpose"]) == ("key", LISTEN_KEY, "account")


async def test_connection_without_a_sign_of_life_proves_nothing() -> None:
    async with running(World(AccountMarket.UM, Mode.KEY, "key", Connection(is_alive=False))) as world:
        await world.until("opening", ("closed", "the connection gives no sign of life"))
        assert world.line.is_closed
        assert "opened" not in world.told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((401, {"code": -2015, "msg": "Invalid é"}), "Binance refuses the key: Invalid ?"),
        ((400, {"code": -1125}), "the listenKey does not exist any more"),
        ((503, {}), "Binance answered 503"),
        ((200, {"listenKey": ""}), "Binance gave no listenKey"),
        ((200, []), "Binance answered 200"),
        (UpstreamUnreachable("no way"), "no way"),
    ],
)
async def test_why_it_was_not_opened_is_told_and_it_is_not_tried_again_at_once(answer: Any, why: str) -> None:
    world = World()
    world.answers["/fapi/v1/listenKey"] = answer
    async with running(world):
        await world.until("opening", ("closed", why))
        await asyncio.sleep(0.02)
        assert len(world.asked) == 1
        world.answers["/fapi/v1/listenKey"] = (200, {"listenKey": LISTEN_KEY})
        world.stream.wake()
        await world.until("opening", "opened")


async def test_key_of_its_own_is_checked_and_signs_the_subscription() -> None:
    connection = Connection(answer={"status": 200, "result": {}})
    async with running(World(AccountMarket.SPOT, Mode.SECRET, "key", connection)) as world:
        await world.until("opening", "opened")
        assert world.asked == [("GET", "/sapi/v1/account/apiRestrictions")]
        (request,) = connection.sent
        assert request["method"] == "userDataStream.subscribe.signature"
        params = request["params"]
        payload = f"apiKey=key&recvWindow=10000&timestamp={params['timestamp']}"
        assert params["signature"] == f"over {payload}"
    assert connection.is_closed
    assert world.ended_desks == 1


async def test_key_that_may_more_than_read_opens_nothing() -> None:
    world = World(AccountMarket.SPOT, Mode.SECRET)
    world.answers["/sapi/v1/account/apiRestrictions"] = (200, {**READ_ONLY, "enableWithdrawals": True})
    async with running(world):
        await wait_until(lambda: len(world.told) == 2)
        assert "enableWithdrawals" in world.told[-1][1]
        assert world.opened_with == []


async def test_key_that_cannot_be_checked_now_was_good_when_it_was_added() -> None:
    connection = Connection(answer={"status": 200})
    world = World(AccountMarket.SPOT, Mode.SECRET, "key", connection)
    world.answers["/sapi/v1/account/apiRestrictions"] = UpstreamUnreachable("no way")
    async with running(world):
        await world.until("opening", "opened")


async def test_margin_is_subscribed_with_a_token() -> None:
    connection = Connection(answer={"status": 200})
    async with running(World(AccountMarket.MARGIN, Mode.SECRET, "key", connection)) as world:
        await world.until("opening", "opened")
        assert connection.sent[0]["method"] == "userDataStream.subscribe.listenToken"
        assert connection.sent[0]["params"] == {"listenToken": "tok"}


# --- what clients sign ----------------------------------------------------------------------------


async def test_signature_of_a_client_opens_once() -> None:
    connection = Connection(answer={"status": 200})
    async with running(World(AccountMarket.SPOT, Mode.SIGNED, "key", connection)) as world:
        await world.until(("closed", NEEDS_SUBSCRIPTION))
        first = asyncio.create_task(world.stream.subscribe(SIGNED))
        await asyncio.sleep(0)
        assert await world.stream.subscribe(SIGNED) == "another subscription of this account is under way"
        assert await first is None
        assert (connection.sent[0]["params"], world.told[-1]) == (SIGNED, "opened")
        connection.tell(None)
        await world.until(("closed", "upstream lost"), ("closed", NEEDS_SUBSCRIPTION))
        assert len(world.opened_with) == 1, "the signature has been used"


async def test_refusal_of_a_signature_is_told_to_its_client() -> None:
    refusal = {"status": 400, "error": {"code": -1022, "msg": "Signature is not valid."}}
    async with running(World(AccountMarket.SPOT, Mode.SIGNED, "key", Connection(answer=refusal))) as world:
        await world.until(("closed", NEEDS_SUBSCRIPTION))
        problem = await world.stream.subscribe(SIGNED)
        assert problem == "Binance refused the subscription: Signature is not valid."
        await world.until(("closed", problem), ("closed", NEEDS_SUBSCRIPTION))
        assert world.line.is_closed


# --- life -----------------------------------------------------------------------------------------


async def test_events_are_handed_over_with_or_without_their_wrapping() -> None:
    async with running(World()) as world:
        await world.until("opened")
        for message in ({"id": 1}, EVENT, {"subscriptionId": 0, "event": EVENT}, [1], {"event": "x"}):
            world.line.tell(message)
        world.line.coming.put_nowait(b"binary")
        world.line.coming.put_nowait("no json")
        await world.until("opened", EVENT, EVENT)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"e": "listenKeyExpired", "listenKey": LISTEN_KEY}, "listenKey expired"),
        ({"e": "listenKeyExpired"}, "listenKey expired"),
        ({"event": {"e": "eventStreamTerminated"}}, "subscription ended by Binance"),
        (None, "upstream lost"),
    ],
)
async def test_end_of_the_stream_is_told_at_once(event: Any, why: str) -> None:
    async with running(World()) as world:
        await world.until("opened")
        world.line.tell({"e": "listenKeyExpired", "listenKey": "of another time"})
        world.line.tell(event)
        await world.until("opened", ("closed", why))
        assert world.line.is_closed
        assert all(method != "DELETE" for method, _ in world.asked), "others may use the listenKey"


async def test_stream_that_is_not_trusted_is_given_up() -> None:
    async with running(World()) as world:
        await world.until("opened")
        world.stream.restart()
        await world.until("opened", ("closed", "given up"))


async def test_before_a_shutdown_another_connection_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OVERLAP_S", 0.04)
    world = World(AccountMarket.UM, Mode.KEY, "key", Connection(), Connection())
    old, new = world.connections
    async with running(world):
        await world.until("opened")
        old.tell({"e": "serverShutdown"})

        def is_over() -> bool:
            old.sign()  # it lives on until the end
            return old.is_closed

        await wait_until(is_over)
        new.tell(EVENT)
        await world.until("opened", EVENT)
        assert not new.is_closed


async def test_what_a_faster_second_connection_tells_waits_for_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_OVERLAP_S", 0.2)
    world = World(AccountMarket.UM, Mode.KEY, "key", Connection(), Connection())
    old, new = world.connections
    first, second, third = ({**EVENT, "number": number} for number in (1, 2, 3))
    async with running(world):
        await world.until("opened")
        old.tell({"e": "serverShutdown"})
        new.tell(second)  # at once
        new.tell(third)
        await asyncio.sleep(0.05)
        old.tell(first)
        old.tell(second)
        await world.until("opened", first, second)

        def is_over() -> bool:
            old.sign()
            return old.is_closed

        await wait_until(is_over)
        await world.until("opened", first, second, second, third)


async def test_second_connection_that_tells_too_much_in_between_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_OVERLAP_S", 0.2)
    monkeypatch.setattr(module, "_MAX_HELD", 2)
    world = World(AccountMarket.UM, Mode.KEY, "key", Connection(), Connection())
    old, new = world.connections
    async with running(world):
        await world.until("opened")
        old.tell({"e": "serverShutdown"})
        await asyncio.sleep(0.04)
        for _ in range(3):
            new.tell(EVENT)
        await wait_until(lambda: (old.sign(), old.is_closed)[1])
        await world.until(
            "opened", EVENT, EVENT, ("closed", "more events than are held between two connections")
        )


async def test_old_connection_that_fell_silent_meanwhile_leaves_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_OVERLAP_S", 0.02)
    world = World(AccountMarket.UM, Mode.KEY, "key", Connection(), Connection())
    async with running(world):
        await world.until("opened")
        world.connections[0].tell({"e": "serverShutdown"})
        await world.until("opened", ("closed", "a gap between two connections"), "opened")


async def test_stream_that_is_stopped_closes_its_connection() -> None:
    world = World()
    async with running(world):
        await world.until("opened")
    assert world.line.is_closed


@pytest.mark.parametrize(("silence_s", "fresh"), [(10.0, 3.0), (2.0, 2.0)])
def test_silence_proves_nothing_after_three_seconds_at_most(silence_s: float, fresh: float) -> None:
    assert fresh_s(AccountOptions(silence_s=silence_s)) == fresh
