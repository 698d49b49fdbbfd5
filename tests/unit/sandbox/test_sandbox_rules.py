"""Signatures, weights, parameters, stream names and control messages, as values."""

import hashlib
import hmac

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.sandbox import signing, stream_control, weights
from resender.sandbox.config import SandboxConfig
from resender.sandbox.faults import Fault, Faults
from resender.sandbox.http_faults import large_parts
from resender.sandbox.model import ApiError
from resender.sandbox.params import read_symbols
from resender.sandbox.prices import trades_after
from resender.sandbox.stream_connection import frame
from resender.sandbox.stream_names import parse_stream, parse_url
from resender.sandbox.symbols import build_symbols, quarter_codes

NOW = 1_791_374_430_500


@pytest.mark.parametrize(
    ("raw", "rest"),
    [
        (b"a=1&signature=x", b"a=1"),
        (b"signature=x&a=1", b"a=1"),
        (b"a=1&signature=x&b=2", b"a=1&b=2"),
        (b"signature=x", b""),
        (b"a=1&b=%2C", b"a=1&b=%2C"),
        (b"mysignature=x", b"mysignature=x"),
    ],
)
def test_signature_parameter_is_cut_out_and_nothing_else(raw, rest):
    assert signing.strip_signature(raw) == rest


def test_signature_covers_the_exact_bytes_of_query_and_body():
    query, body = b"symbols=%5B%22A%22%5D&timestamp=1", b"b=%40"
    expected = hmac.new(b"secret", query + body, hashlib.sha256).hexdigest()
    signing.check_signature("secret", query + b"&signature=" + expected.encode(), body, expected.upper())
    for other in (query.replace(b"%5B", b"["), query.lower(), query + b"&"):
        with pytest.raises(ApiError, match="-1022"):
            signing.check_signature("secret", other, body, expected)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"timestamp": str(NOW)}, 0),
        ({"timestamp": str(NOW - 5000)}, 0),
        ({"timestamp": str(NOW - 5001)}, -1021),
        ({"timestamp": str(NOW + 999)}, 0),
        ({"timestamp": str(NOW + 1000)}, -1021),
        ({"timestamp": str(NOW * 1000)}, 0),
        ({"timestamp": str(NOW - 9000), "recvWindow": "9000"}, 0),
        ({"timestamp": str(NOW), "recvWindow": "60001"}, -1131),
        ({"timestamp": "soon"}, -1100),
        ({}, -1102),
    ],
)
def test_timestamp_and_recv_window(params, code):
    if not code:
        signing.check_time(params, NOW)
        return
    with pytest.raises(ApiError) as caught:
        signing.check_time(params, NOW)
    assert caught.value.code == code


@pytest.mark.parametrize(("key", "code"), [(None, -2014), ("", -2014), ("a b", -2014), ("abc", -2015)])
def test_bad_keys_are_refused_with_401(key, code):
    with pytest.raises(ApiError) as caught:
        signing.check_key(key, {"known": "s"})
    assert (caught.value.code, caught.value.status) == (code, 401)


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


@pytest.mark.parametrize(
    ("text", "code"),
    [('["BTCUSDT", "ETHUSDT"]', -1100), ('["btcusdt"]', -1100), ("BTCUSDT", -1100), ('["A","A"]', -1151),
     ("[]", -1102), ("[1]", -1100)],
)  # fmt: skip
def test_bad_symbols_lists_are_refused(text, code):
    with pytest.raises(ApiError) as caught:
        read_symbols(text)
    assert caught.value.code == code


def test_good_symbols_list_is_read():
    assert read_symbols('["BTCUSDT","币安人生USDT"]') == ["BTCUSDT", "币安人生USDT"]


@pytest.mark.parametrize(
    ("market", "name", "kind"),
    [
        (Market.SPOT, "btcusdt@kline_1m", "kline"),
        (Market.SPOT, "btcusdt@kline_1M", "kline"),
        (Market.SPOT, "btcusdt@kline_1s", "kline"),
        (Market.UM, "btcusdt@kline_1s", None),
        (Market.SPOT, "btcusdt@kline_1d@+08:00", "kline"),
        (Market.UM, "btcusdt@kline_1d@+08:00", None),
        (Market.UM, "BTCUSDT@kline_1m", None),
        (Market.UM, "btcusdt@kline_7m", None),
        (Market.UM, "币安人生usdt@bookTicker", "bookTicker"),
        (Market.UM, "btcusdt@bookticker", None),
        (Market.UM, "btcusdt_perpetual@continuousKline_1m", "continuousKline"),
        (Market.SPOT, "!bookTicker", None),
        (Market.UM, "!bookTicker", "allBookTicker"),
        (Market.UM, "btcusdt@depth5@250ms", None),
        (Market.UM, "nonsense", None),
    ],
)
def test_stream_names_are_case_sensitive_and_per_market(market, name, kind):
    found = parse_stream(name, market)
    assert (found.kind if found else None) == kind


def test_um_paths_split_the_streams():
    everything = {"public", "market", "private"}
    assert parse_url("/ws/a@b", Market.UM).access == {"public"}
    assert parse_url("/stream?streams=a", Market.UM).access == {"public"}
    assert parse_url("/market/ws/a", Market.UM).access == {"market"}
    assert parse_url("/public/stream?streams=a/b", Market.UM).names == ("a", "b")
    assert parse_url("/ws/a", Market.CM).access == everything
    assert parse_url("/market/ws/a", Market.CM) is None
    assert parse_url("/", Market.SPOT) is None
    url = parse_url("/stream?streams=btcusdt@kline_1d@%2B08:00", Market.SPOT)
    assert (url.is_combined, url.names) == (True, ("btcusdt@kline_1d@+08:00",))
    assert parse_url("/private/ws?listenKey=abc&events=X", Market.UM).listen_key == "abc"


def control(text, names=(), combined=False, is_spot=True):
    outcome = stream_control.handle(text, list(names), combined, is_spot)
    return outcome, orjson.loads(outcome.answer)


def test_control_messages_are_answered_in_binances_words():
    outcome, answer = control('{"method":"SUBSCRIBE","params":["a@b"],"id":7}')
    assert (outcome.subscribe, answer) == (["a@b"], {"result": None, "id": 7})
    outcome, answer = control('{"method":"UNSUBSCRIBE","params":["a@b"],"id":8}')
    assert (outcome.unsubscribe, answer) == (["a@b"], {"result": None, "id": 8})
    assert control('{"method":"LIST_SUBSCRIPTIONS","id":9}', ["x"])[1] == {"result": ["x"], "id": 9}
    outcome, _ = control('{"method":"SET_PROPERTY","params":["combined",true],"id":1}')
    assert outcome.combined is True
    got = control('{"method":"GET_PROPERTY","params":["combined"],"id":1}', combined=True)[1]
    assert got == {"result": True, "id": 1}


@pytest.mark.parametrize(
    ("text", "code", "start"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 2, "Invalid request"),
        ('{"method":"NOPE","params":[],"id":1}', 2, "Invalid request: unknown variant"),
        ('{"params":[],"id":1}', 2, "Invalid request: missing field"),
        ('{"method":"SUBSCRIBE","id":1}', 2, "Invalid request: missing field"),
        ('{"method":"SUBSCRIBE","params":"a","id":1}', 2, "Invalid request: invalid type"),
        ('{"method":"SUBSCRIBE","params":[],"id":1,"x":2}', 2, "Invalid request: too many parameters"),
        ('{"method":"SET_PROPERTY","params":["color",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1, "Invalid value type"),
    ],
)
def test_bad_control_messages_are_flat_on_spot_and_nested_on_futures(text, code, start):
    flat = control(text)[1]
    assert flat["code"] == code
    assert flat["msg"].startswith(start)
    assert control(text, is_spot=False)[1]["error"] == {"code": code, "msg": flat["msg"]}


def test_request_id_may_be_text_on_spot_only():
    text = '{"method":"LIST_SUBSCRIPTIONS","id":"abc"}'
    assert control(text)[1] == {"result": [], "id": "abc"}
    assert control(text, is_spot=False)[1]["error"]["code"] == 2


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_carry_their_length_in_the_right_form(size):
    data = frame(b"x" * size)
    assert data[0] == 0x81
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(data) == head + size
    length = data[1] if size < 126 else int.from_bytes(data[2:head], "big")
    assert length == size


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
def test_hundreds_of_symbols_can_be_made(market):
    specs = build_symbols(market, 450, NOW)
    assert len({spec.symbol for spec in specs}) == 450
    assert all(spec.price_ticks >= 5_000 and spec.listed_ms < NOW for spec in specs)


def test_default_symbols_hold_the_promised_ones():
    names = {market: {s.symbol for s in build_symbols(market, None, NOW)} for market in list(Market)[:3]}
    usual = {"BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"}
    assert usual <= names[Market.SPOT]
    assert usual | {"币安人生USDT", "BTCUSDT_261225"} <= names[Market.UM]
    assert {"BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD_261225"} <= names[Market.CM]


@pytest.mark.parametrize(
    ("now", "codes"),
    [(NOW, ("261225", "270326")), (1_798_300_000_000, ("270326", "270625")),
     (1_782_400_000_000, ("260626", "260925"))],
)  # fmt: skip
def test_quarterly_contracts_end_on_the_last_friday(now, codes):
    assert quarter_codes(now) == codes


@given(st.integers(1, 5000))
@settings(max_examples=40)
def test_trades_of_a_minute_are_spread_over_it_without_loss(trades):
    counts = [trades_after(trades, q) for q in range(241)]
    assert counts[0] == 0
    assert counts[-1] == trades
    assert counts == sorted(counts)


def test_faults_match_by_host_method_and_path_and_wear_off():
    faults = Faults()
    fault = faults.add(Fault("reset_before", match=r"v3/order$", host="api", method="POST", times=2))
    assert faults.strike("fapi", "POST", "/api/v3/order") == []
    assert faults.strike("api", "GET", "/api/v3/order") == []
    assert faults.strike("api", "POST", "/api/v3/order/test") == []
    assert faults.strike("api", "POST", "/api/v3/order") == [fault]
    assert faults.strike("api", "POST", "/api/v3/order") == [fault]
    assert faults.strike("api", "POST", "/api/v3/order") == []
    assert fault.hits == 2


def test_delays_add_to_another_fault_and_a_lasting_fault_stays_until_removed():
    faults = Faults()
    slow = faults.add(Fault("delay", times=None))
    bad = faults.add(Fault("status", times=None))
    unused = faults.add(Fault("html", times=None))
    assert faults.strike("api", "GET", "/x") == [slow, bad]
    faults.remove(bad)
    assert faults.strike("api", "GET", "/x") == [slow, unused]
    faults.stream(Market.UM).silent = True
    held = faults.stream(Market.UM)
    faults.clear()
    assert faults.strike("api", "GET", "/x") == []
    assert held.silent is False


def test_large_answer_is_valid_json_of_the_announced_size():
    size, parts = large_parts(0.25)
    body = b"".join(parts)
    assert len(body) == size
    assert orjson.loads(body)[-1] == "end"
