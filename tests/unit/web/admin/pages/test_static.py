"""The files of the pages: kept by browsers for good, packed for who takes that, and no others."""

from __future__ import annotations

import gzip

import pytest

from tests.support.admin import assert_error
from tests.support.client import Reply
from tests.unit.web.serving import Admin, administered


def script(one: Admin) -> str:
    name = next(name for name in one.site.assets.own if name.endswith(".js"))
    return one.site.assets.url(name)


async def fetch(one: Admin, path: str, **headers: str) -> Reply:
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return await one.send("GET", path, None, *given)


async def test_file_needs_no_log_in_and_is_kept_for_good() -> None:
    async with administered() as one:
        one.cookies = {}
        reply = await fetch(one, script(one))
    assert reply.status == 200
    assert reply.header("content-type") == "text/javascript; charset=utf-8"
    assert reply.header("cache-control") == "public, max-age=31536000, immutable"
    assert reply.header("vary") == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("br", False),
        ("", False),
    ],
)
async def test_file_is_packed_for_who_takes_that(accepted: str, is_packed: bool) -> None:
    async with administered() as one:
        plain = await fetch(one, script(one))
        reply = await fetch(one, script(one), Accept_Encoding=accepted)
    assert reply.header("content-encoding") == ("gzip" if is_packed else None)
    assert (gzip.decompress(reply.body) if is_packed else reply.body) == plain.body
    assert (reply.header("etag") != plain.header("etag")) is is_packed


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
async def test_file_the_browser_has_is_not_sent_again(form: str) -> None:
    async with administered() as one:
        etag = (await fetch(one, script(one))).header("etag") or ""
        reply = await fetch(one, script(one), If_None_Match=form.format(etag))
        assert (reply.status, reply.body) == (304, b"")
        other = await fetch(one, script(one), If_None_Match=form.format(etag), Accept_Encoding="gzip")
        assert other.status == (304 if form == "*" else 200), "packed it is another thing"


async def test_file_of_another_version_or_outside_the_folder_is_not_there() -> None:
    async with administered() as one:
        url, version = script(one), one.site.assets.version
        for path in (
            url.replace(version, "0" * 12),
            f"/admin/static/{version}/templates/base.html",
            f"/admin/static/{version}/../settings.py",
            f"/admin/static/{version}/%2e%2e/settings.py",
            f"/admin/static/{version}//etc/passwd",
            "/admin/vendor/0/bootstrap.min.css",
        ):
            assert_error(await fetch(one, path), 404, -3)


async def test_files_of_packages_are_handed_out_by_their_version() -> None:
    async with administered() as one:
        reply = await fetch(one, one.site.assets.vendor_url("bootstrap.min.css"))
    assert (reply.status, reply.header("content-type")) == (200, "text/css; charset=utf-8")
