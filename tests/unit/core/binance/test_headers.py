"""Which headers pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.headers import headers_down, headers_up
from resender.errors import BadRequest

token = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzABCDEFXMB-0123456789"), min_size=1, max_size=24)
value = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
NEVER_UP = {
    "host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "forwarded",
    "x-real-ip", "via", "cookie", "authorization", "origin", "referer", "expect", "trailer",
}  # fmt: skip


@given(st.lists(st.tuples(st.one_of(token, st.sampled_from(sorted(NEVER_UP))), value), max_size=12))
def test_only_known_headers_go_up_and_the_needed_ones_always_do(received: list[tuple[str, str]]) -> None:
    try:
        up = headers_up(received, "agent/1")
    except BadRequest:  # one of Binance's own headers with bytes that cannot be sent on
        assert any(n.lower().startswith("x-mbx-") and not v.isascii() for n, v in received)
        return
    names = [name.lower() for name, _ in up]
    assert not NEVER_UP & set(names)
    assert not any(name.startswith(("x-forwarded", "proxy-", "x-resender", "cf-")) for name in names)
    assert names.count("accept-encoding") == 1
    assert "user-agent" in names
    values = [v for n, v in received if n.lower() == "x-mbx-apikey"]
    assert [v for n, v in up if n == "X-MBX-APIKEY"] == values


def test_repeated_accept_encoding_is_one_list() -> None:
    up = dict(headers_up([("Accept-Encoding", "gzip"), ("accept-encoding", "br")], "a"))
    assert up["Accept-Encoding"] == "gzip, br"


def test_empty_accept_encoding_means_identity() -> None:
    assert dict(headers_up([("Accept-Encoding", " ")], "a"))["Accept-Encoding"] == "identity"


@given(st.lists(st.tuples(token, value), max_size=12))
def test_headers_down_keep_names_values_and_order(received: list[tuple[str, str]]) -> None:
    raw = [(name.encode(), val.encode("latin-1")) for name, val in received]
    down = headers_down(raw)
    it = iter(received)
    assert all(pair in it for pair in down), "something was changed, added or moved"
    for name in ("x-mbx-used-weight-1m", "retry-after", "content-type", "content-encoding", "date"):
        assert [v for n, v in down if n.lower() == name] == [v for n, v in received if n.lower() == name]


def test_connection_header_cannot_take_needed_headers_away() -> None:
    raw = [(b"connection", b"close, retry-after, x-hop"), (b"Retry-After", b"7"), (b"X-Hop", b"1")]
    assert headers_down(raw) == [("Retry-After", "7")]
