"""The files of the pages: which ones browsers may have, under which URLs, and packed."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest

from resender.places import STATIC
from resender.web.admin.assets import _VENDOR, TYPES, Asset, Assets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "js/app.js": "let a = 1;",
        "css/app.css": "a{}",
        "icons/logo.png": "no picture",
        "templates/base.html": "<html>",
        "templates/secret.js": "x",
        ".hidden.js": "x",
        "js/.git/config.js": "x",
        "front.html": "<html>",
        "notes.md": "x",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_only_files_of_known_kinds_are_handed_out_and_nothing_hidden(folder: Path) -> None:
    assets = Assets(folder)
    assert sorted(assets.own) == ["css/app.css", "icons/logo.png", "js/app.js"]
    assert assets.own["js/app.js"].kind == TYPES[".js"]


def test_one_version_stands_in_the_urls_of_all_and_changes_with_any(folder: Path) -> None:
    before = Assets(folder)
    assert before.url("js/app.js") == f"/admin/static/{before.version}/js/app.js"
    assert Assets(folder).version == before.version
    (folder / "css/app.css").write_text("b{}")
    after = Assets(folder)
    assert after.version != before.version
    assert after.own["js/app.js"].etag == before.own["js/app.js"].etag


def test_renamed_file_is_another_version(folder: Path) -> None:
    before = Assets(folder).version
    (folder / "js/app.js").rename(folder / "js/other.js")
    assert Assets(folder).version != before


def test_text_is_packed_once_and_a_picture_never(folder: Path) -> None:
    assets = Assets(folder)
    script = assets.own["js/app.js"]
    assert script.packed is not None
    assert gzip.decompress(script.packed) == script.body
    assert script.packed is script.packed
    assert assets.own["icons/logo.png"].packed is None


def test_packed_form_is_the_same_at_every_start() -> None:
    assert Asset("x", b"body" * 100, can_pack=True).packed == Asset("x", b"body" * 100, can_pack=True).packed


def test_files_of_packages_are_found_where_they_are_installed() -> None:
    assets = Assets(STATIC)
    for name in _VENDOR:
        url = assets.vendor_url(name)
        version, _, file = url.removeprefix("/admin/vendor/").partition("/")
        assert version != "missing"
        assert f"{version}/{file}" in assets.vendor


def test_any_name_of_the_charts_leads_to_the_one_there_is() -> None:
    assets = Assets(STATIC)
    assert assets.vendor_url("lightweight-charts.standalone.production.js") == assets.vendor_url(
        "lightweight-charts.js"
    )


def test_package_that_is_not_installed_is_named_and_stops_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(_VENDOR, "bootstrap.min.css", (("no-such-package",), ("bootstrap.min.css",)))
    with caplog.at_level(logging.ERROR, "resender.admin"):
        assets = Assets(folder)
    assert "miss bootstrap.min.css: install no-such-package" in caplog.text
    assert assets.vendor_url("bootstrap.min.css") == "/admin/vendor/missing/bootstrap.min.css"
