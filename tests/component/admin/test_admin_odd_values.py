"""Queries, ids and values that are nearly right: nothing is cleared, found or made by a slip."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.admin import Browser, assert_error
from tests.support.running import Running

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?older_than=", None),
        ("?older_than=%20", None),
        ("?olderthan=1767225600000", None),
        ("?ip=203.0.113.5", None),
        ("?older_than=1&ip=203.0.113.5", None),
        ("?x", None),
        ("", {"older_than": 1767225600000}),
    ],
)
async def test_log_is_not_cleared_by_a_slip_of_the_pen(
    root: Browser, admin: Running, query: str, body: dict[str, Any] | None
) -> None:
    assert_error(await root.send("DELETE", f"logs{query}", body), 400, -4)
    assert not await admin.gateway.store.audit_list(action="log.clear")


@pytest.mark.parametrize(
    "path",
    ["whitelist/999999999999999", "users/999999999999999", "tokens/999999999999999", "sessions/4294967296",
     "preload/9223372036854775808", "logs/9223372036854775808"],
)  # fmt: skip
async def test_ids_no_row_can_have_are_404(root: Browser, path: str) -> None:
    method = "GET" if path.startswith("logs") else "DELETE"
    assert_error(await root.send(method, path), 404, -3)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name":"t","expires":1' + b"0" * 400 + b"}",
        b'{"name":"t","expires":9223372036854775808}',
        b'{"name":"t","expires":18446744073709551616}',
        b'{"name":"t","expires":1e400}',
        b'{"name":"t","expires":1e15}',
        b'{"name":"t","expires":NaN}',
        b'{"name":"t","expires":Infinity}',
        b'{"name":"t","expires":true}',
        b'{"name":"t","expires":-1}',
        b'{"name":"t","expires":"9000000000000"}',
        b'{"name":"\\ud800","expires":null}',
        b'{"name":null}',
        b'{"name":{}}',
    ],
)
async def test_numbers_and_types_no_token_takes_are_400(root: Browser, raw: bytes) -> None:
    assert_error(await root.send("POST", "tokens", raw=raw), 400, -4)
