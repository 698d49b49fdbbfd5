"""What REDIS_URL may be."""

from __future__ import annotations

import pytest

from resender.core.cluster.redis_url import RedisAddress, parse_redis_url


@pytest.mark.parametrize(
    ("text", "address", "where"),
    [
        ("redis://host", RedisAddress("host"), "host:6379"),
        ("redis://host:7000/2", RedisAddress("host", 7000, db=2), "host:7000"),
        ("redis://host?db=3", RedisAddress("host", db=3), "host:6379"),
        ("redis://:p%40ss%2F@[::1]:1/", RedisAddress("::1", 1, password="p@ss/"), "[::1]:1"),
        ("rediss://me:word@h/1", RedisAddress("h", is_tls=True, db=1, user="me", password="word"), "h:6379"),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k",
            RedisAddress("h", is_tls=True, ca_file="/ca.pem", cert_file="/c", key_file="/k"),
            "h:6379",
        ),
        ("unix:///run/r.sock", RedisAddress(path="/run/r.sock"), "/run/r.sock"),
        ("unix://:w@/run/r.sock?db=1", RedisAddress(path="/run/r.sock", db=1, password="w"), "/run/r.sock"),
    ],
)
def test_address_is_read(text: str, address: RedisAddress, where: str) -> None:
    found = parse_redis_url(text)
    assert found == address
    assert found.where == where


@pytest.mark.parametrize(
    "text",
    [
        "host:6379", "http://host", "redis://", "redis://:secret@", "redis://host:0", "redis://host:99999",
        "redis://host/one", "redis://host/1/2", "redis://secret@host", "redis://host#x", "redis://ho st",
        "redis://:sécret@host", "redis://host?ssl_ca_certs=/x", "rediss://host?ssl_cert_reqs=none", "unix://",
        "unix:///", "unix://host/path", "unix:///p?x=1", "redis://host?db", "redis://[::1", "redis://host?db=-1",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_redis_url(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_password_is_not_in_what_is_printed_of_an_address() -> None:
    assert "secret" not in repr(parse_redis_url("redis://:secret@host"))
