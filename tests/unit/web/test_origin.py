"""Whether a browser sent a request on behalf of another site: values of headers in, a reason out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.web.origin import foreign_origin


@pytest.mark.parametrize(
    ("origin", "fetch_site", "hosts"),
    [
        (None, None, ["a:8000"]),
        (None, "same-origin", ["a"]),
        (None, "none", ["a"]),
        ("http://a:8000", None, ["a:8000"]),
        ("https://A.example", None, ["a.example"]),
        ("https://a.example", None, ["a.example:443"]),
        ("http://a.example:80", None, ["a.example"]),
        ("http://[::1]:8000", "none", ["[::1]:8000"]),
        ("https://gw.example", None, ["127.0.0.1:8000", "gw.example"]),
        # The browser knows better than a proxy that has rewritten Host.
        ("https://gw.example", "same-origin", ["127.0.0.1:8000"]),
    ],
)
def test_own_origin_passes(origin: str | None, fetch_site: str | None, hosts: list[str]) -> None:
    assert foreign_origin(origin, fetch_site, hosts) is None


@pytest.mark.parametrize(
    ("origin", "fetch_site", "hosts"),
    [
        (None, "cross-site", ["a"]),
        (None, "same-site", ["a"]),
        (None, "", ["a"]),
        (None, "Same-Origin", ["a"]),
        ("http://a", "cross-site", ["a"]),
        ("http://b", None, ["a"]),
        ("http://b", "none", ["a"]),
        ("null", None, ["a"]),
        ("", None, ["a"]),
        ("http://", None, [""]),
        ("http://a:81", None, ["a"]),
        ("https://a", None, ["a:80"]),
        ("http://a.evil", None, ["a"]),
        ("http://a, http://b", None, ["a"]),
        ("http://[", None, ["a"]),
        ("http://a:x", None, ["a"]),
        ("file://a", None, ["a"]),
        ("http://a", None, []),
    ],
)
def test_foreign_origin_is_refused_with_a_reason(
    origin: str | None, fetch_site: str | None, hosts: list[str]
) -> None:
    assert foreign_origin(origin, fetch_site, hosts)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_check_of_the_origin(origin: str, host: str) -> None:
    foreign_origin(origin, None, [host])
