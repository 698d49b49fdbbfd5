from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.cluster.homes import Homes
from resender.core.cluster.node_info import NodeEgress, NodeInfo
from resender.core.egress.spec import Pins, parse_pins, place_of
from resender.errors import Denied, EgressAway

UM = Market.UM
KEYS = [f"{number:064}" for number in range(60)]
EVERY = tuple(market.value for market in Market)


def node(
    name: str, *egresses: str, down: tuple[str, ...] = (), markets: tuple[str, ...] = EVERY, **more: object
) -> NodeInfo:
    told = tuple(NodeEgress(each, "address", f"{name}/{each}", markets, down) for each in egresses or ("ip",))
    return NodeInfo(f"id-{name}", name, f"http://{name}:8000/", egresses=told, **more)  # type: ignore[arg-type]


def homes(
    name: str,
    *others: NodeInfo,
    own: tuple[str, ...] = ("ip",),
    pins: Pins | None = None,
    is_front: bool = False,
) -> Homes:
    made = Homes(
        name, pins or Pins(), lambda market: [place_of(name, each) for each in own], is_front=is_front
    )
    made.learn(others)
    return made


def where(made: Homes, key: str, mono: float = 0.0, market: Market = UM) -> str:
    peer = made.home(market, key, mono)
    return made.node if peer is None else peer.name


def test_every_node_computes_the_same_and_all_have_their_part() -> None:
    names = ("a", "b", "c")
    all_of_them = [homes(name, *(node(other) for other in names if other != name)) for name in names]
    found = Counter()
    for key in KEYS:
        (home,) = {where(one, key) for one in all_of_them}
        found[home] += 1
    assert set(found) == set(names)
    assert min(found.values()) > 8


@given(count=st.integers(2, 6), gone=st.integers(0, 5), seed=st.integers(0, 10_000))
def test_only_the_keys_of_a_node_that_is_gone_move(count: int, gone: int, seed: int) -> None:
    names = [f"n{number}" for number in range(count)]
    away = names[gone % count]
    asked = next(name for name in names if name != away)
    before = homes(asked, *(node(name) for name in names if name != asked))
    after = homes(asked, *(node(name) for name in names if name not in (asked, away)))
    for number in range(20):
        key = f"{seed}-{number}"
        old = where(before, key)
        assert where(after, key) == old or old == away


def test_egress_that_is_down_in_a_market_loses_its_keys_there_only() -> None:
    one = homes("a", node("b", down=("um",)))
    assert {where(one, key) for key in KEYS} == {"a"}
    assert {where(one, key, market=Market.SPOT) for key in KEYS} == {"a", "b"}
    assert {where(homes("a", node("b", markets=("spot",))), key) for key in KEYS} == {"a"}


def test_node_without_a_good_egress_of_its_own_sends_through_others_or_tries_it() -> None:
    assert {where(homes("a", node("b"), own=()), key) for key in KEYS} == {"b"}
    assert {where(homes("a", own=()), key) for key in KEYS} == {"a"}


def test_one_address_of_several_nodes_is_used_at_home() -> None:
    shared = (NodeEgress("ip", "proxy", "nat", EVERY),)
    other = NodeInfo("id-b", "b", "http://b:8000", egresses=shared)
    one = Homes("a", Pins(), lambda market: ["nat"], is_front=False)
    one.learn([other])
    assert {where(one, key) for key in KEYS} == {"a"}


@pytest.mark.parametrize(
    "other",
    [
        node("b", seen_ms=60_000),
        NodeInfo("id-b", "b", "", egresses=(NodeEgress("ip", "address"),)),
        node("b", roles=("front", "admin")),
        node("a/1"),
    ],
    ids=["gone", "without a URL", "front", "own worker"],
)
def test_who_cannot_send_for_others_has_no_keys(other: NodeInfo) -> None:
    one = homes("a", other)
    assert {where(one, key) for key in KEYS} == {"a"}
    assert not one.has_others
    assert one.collector(0.0) is None


def test_workers_of_a_node_are_one() -> None:
    one = homes("a", node("b"), node("b/1"), node("b/2"))
    assert [peer.name for peer in one.peers] == ["b"]
    assert one.peers[0].url == "http://b:8000"


def test_node_of_an_older_version_serves_all_markets_under_its_own_names() -> None:
    old = NodeInfo("id-b", "b", "http://b:8000", egresses=(NodeEgress("ip", "address"),))
    newer = homes("a", node("b"))
    assert [where(homes("a", old), key) for key in KEYS] == [where(newer, key) for key in KEYS]


def test_keys_leave_a_node_that_is_drained_as_all_see_it_unless_they_are_pinned() -> None:
    pins = parse_pins([f"{KEYS[0]}=b/ip"])
    beside = homes("a", node("b", is_drained=True), node("c"), pins=pins)
    itself = homes("b", node("a"), node("c"), pins=pins)
    itself.is_drained = True
    for key in KEYS[1:]:
        assert where(beside, key) == where(itself, key) != "b"
    assert where(beside, KEYS[0]) == where(itself, KEYS[0]) == "b"
    alone = homes("b")
    alone.is_drained = True
    assert {where(alone, key) for key in KEYS} == {"b"}


def streams_of(made: Homes, mono: float = 0.0) -> str:
    peer = made.streams_of(mono)
    return made.node if peer is None else peer.name


def test_streams_for_the_clients_of_all_are_one_nodes_as_all_see_it() -> None:
    names = ("a", "b", "c")
    for drained, expected in ((set(), "a"), ({"a"}, "b"), ({"a", "b"}, "c"), (set(names), "a")):
        for name in names:
            others = [node(other, is_drained=other in drained) for other in names if other != name]
            one = homes(name, *others, own=() if name == "b" else ("ip",))
            one.is_drained = name in drained
            assert streams_of(one) == expected
        everybody = [node(name, is_drained=name in drained) for name in names]
        assert streams_of(homes("f", *everybody, is_front=True)) == expected


def test_node_that_cannot_reach_whoever_has_the_streams_goes_on_by_itself_or_by_the_next() -> None:
    for name, expected in (("b", "b"), ("c", "b")):
        one = homes(name, *(node(other) for other in ("a", "b", "c") if other != name))
        one.avoid(one.peers[0], 0.0)
        assert streams_of(one, 4.9) == expected
        assert streams_of(one, 5.1) == "a"


def test_nobody_but_who_can_open_streams_has_them() -> None:
    others = (node("a", roles=("front",)), node("aa", seen_ms=10**9))
    assert streams_of(homes("b", *others)) == "b"
    assert homes("f", *others, is_front=True).streams_of(0.0) is None


def test_node_that_could_not_be_reached_is_passed_over_for_some_seconds() -> None:
    one = homes("a", node("b"), node("c"))
    key = next(key for key in KEYS if where(one, key) == "b")
    one.avoid(one.home(UM, key, 0.0) or one.peers[0], 0.0)
    assert where(one, key, 4.9) != "b"
    assert where(one, key, 5.1) == "b"


def test_pinned_key_goes_to_its_node_and_nowhere_else() -> None:
    pins = parse_pins([f"{KEYS[0]}=b/ip", f"{'x' * 10}=a/ip", f"{'y' * 10}=ip"])
    one = homes("a", node("b"), pins=pins)
    assert where(one, KEYS[0]) == "b"
    assert where(one, "x" * 64) == "a"
    assert where(one, "y" * 64) == "a"
    one.avoid(one.peers[0], 0.0)
    with pytest.raises(EgressAway, match="b/ip"):
        one.home(UM, KEYS[0], 1.0)
    with pytest.raises(EgressAway):
        homes("a", node("b", "other"), pins=pins).home(UM, KEYS[0], 0.0)
    assert where(homes("a", node("b"), pins=pins), KEYS[0]) == "b"


def test_front_finds_a_pin_without_a_node_by_the_name_of_the_egress() -> None:
    pins = parse_pins([f"{'y' * 10}=two"])
    one = homes("f", node("a", "one"), node("b", "two"), pins=pins, own=(), is_front=True)
    assert where(one, "y" * 64) == "b"


@pytest.mark.parametrize("key", [None, ""])
def test_call_without_a_key_leaves_here_and_from_a_front_through_the_first_collector(key: str | None) -> None:
    assert homes("a", node("b")).home(UM, key, 0.0) is None
    front = homes("f", node("c"), node("b"), node("d", is_drained=True), own=(), is_front=True)
    names = []
    for _ in range(3):
        peer = front.home(UM, key, 0.0)
        assert peer is not None
        names.append(peer.name)
        front.avoid(peer, 0.0)
    assert names == ["b", "c", "d"]
    with pytest.raises(EgressAway):
        front.home(UM, key, 0.0)


def test_front_that_knows_nobody_says_so() -> None:
    front = homes("f", own=(), is_front=True)
    for key in (None, KEYS[0]):
        with pytest.raises(EgressAway, match="nothing was sent"):
            front.home(UM, key, 0.0)


def test_call_of_another_node_is_taken_unless_its_key_is_bound_elsewhere() -> None:
    pins = parse_pins([f"{KEYS[0]}=b/ip", f"{'x' * 10}=a/ip"])
    one = homes("a", node("b"), pins=pins)
    for key in (None, "", KEYS[1], "x" * 64):
        one.check(key)
    with pytest.raises(Denied, match="EGRESS_PINS"):
        one.check(KEYS[0])
    with pytest.raises(Denied):
        homes("f", node("b"), own=(), is_front=True).check(None)


@pytest.mark.parametrize(
    "pin", [lambda digest: [], lambda digest: [f"sha256:{digest}=b/ip"]], ids=["free", "pinned"]
)
def test_account_is_watched_by_one_node(pin: Callable[[str], list[str]]) -> None:
    for key in KEYS[:10]:
        digest = hashlib.sha256(key.encode()).hexdigest()
        pins = parse_pins(pin(digest))
        nodes = {name: homes(name, node("b" if name == "a" else "a"), pins=pins) for name in ("a", "b")}
        watching = [name for name, one in nodes.items() if one.may_watch(UM, digest, 0.0)]
        assert watching == [where(nodes["a"], key)]
        assert not homes("f", node("a"), own=(), is_front=True).may_watch(UM, digest, 0.0)


def test_account_whose_pinned_node_is_gone_is_watched_by_nobody() -> None:
    digest = hashlib.sha256(b"key").hexdigest()
    assert not homes("a", pins=parse_pins([f"sha256:{digest}=b/ip"])).may_watch(UM, digest, 0.0)


def test_change_is_told_once() -> None:
    one = homes("a", node("b"))
    assert not one.learn([node("b")])
    assert one.learn([node("b", down=("um",))])
    assert one.learn([])
    with pytest.raises(EgressAway):
        one.peer("b", 0.0)


def test_node_is_found_by_its_name_while_it_can_be_reached() -> None:
    one = homes("a", node("b"))
    peer = one.peer("b", 0.0)
    one.avoid(peer, 0.0)
    with pytest.raises(EgressAway, match="node b"):
        one.peer("b", 1.0)
