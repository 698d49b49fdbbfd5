"""Signatures, times and keys are judged as the exchange judges them."""

import hashlib
import hmac

import pytest

from resender.sandbox import signing
from resender.sandbox.model import ApiError

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
