"""No secret is written down."""

from __future__ import annotations

import pytest

from resender.core.redact import MASK, path_only, redact

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /api/v3/order?symbol=X&signature={KEY}&a=1",
        f"signature={KEY}",
        f"PUT /fapi/v1/listenKey?listenKey={KEY}",
        f"wss://fstream.binance.com/private/ws?listenKey={KEY}&events=X",
        f"wss://dstream.binance.com/ws/{KEY}",
        f"X-MBX-APIKEY: {KEY}",
        f"{{'X-MBX-APIKEY': '{KEY}'}}",
        f"(b'x-mbx-apikey', b'{KEY}')",
        f'{{"apiKey":"{KEY}"}}',
        f"Cookie: session={KEY}",
        f"Authorization: Bearer {KEY}",
        f"postgresql://user:{KEY}@db/name",
        f"password={KEY}",
    ],
)
def test_secret_is_masked(text: str) -> None:
    assert KEY not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize("secret", ["abc", "short-secret", "pa55:word", "%2Fab%3D%3D"])
def test_short_secret_is_masked_too(secret: str) -> None:
    assert secret not in redact(f"/x?a=1&signature={secret}&b=2")
    assert secret not in redact(f"X-MBX-APIKEY: {secret}")
    assert secret.partition(":")[0] not in redact(f"socks5://me:{secret}@10.0.0.1:1080")


def test_harmless_text_stays() -> None:
    text = "GET /api/v3/klines?symbol=BTCUSDT&interval=1m from 203.0.113.5 took 12 ms"
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "write redis://user:password@host/0, redis://:password@host or postgresql://user@host",
        "the private key is sealed with a password; store it without one",
        "fields.token: It is needed.",
    ],
)
def test_our_own_hints_stay(text: str) -> None:
    assert redact(text) == text


def test_path_only_has_no_query_and_no_key() -> None:
    assert path_only("/api/v3/order?signature=abc") == "/api/v3/order"
    assert path_only(f"/ws/{KEY}") == f"/ws/{MASK}"
