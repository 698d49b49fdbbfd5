"""Hands out the files of the pages, to be kept by browsers for good: the URL changes with them.

They tell nothing about this gateway, so nobody has to be logged in. The files are `Assets`.
"""

from __future__ import annotations

from tornado.web import HTTPError

from resender.web.admin.assets import Asset
from resender.web.admin.base import AdminOpenHandler


class _FileHandler(AdminOpenHandler):
    def hand_out(self, asset: Asset | None) -> None:
        if asset is None:
            raise HTTPError(404)
        packed = asset.packed if self._takes_gzip() else None
        # Two forms of one file are two things to a cache between us and the browser.
        etag = f'"{asset.etag}{"-gzip" if packed is not None else ""}"'
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.set_header("ETag", etag)
        if asset.can_pack:
            self.set_header("Vary", "Accept-Encoding")
        known = [
            each.strip().removeprefix("W/")
            for each in self.request.headers.get("If-None-Match", "").split(",")
        ]
        if etag in known or "*" in known:
            self.set_status(304)
            self.finish()
            return
        self.set_header("Content-Type", asset.kind)
        if packed is not None:
            self.set_header("Content-Encoding", "gzip")
        self.finish(asset.body if packed is None else packed)

    def _takes_gzip(self) -> bool:
        for part in self.request.headers.get("Accept-Encoding", "").lower().split(","):
            name, _, parameters = part.strip().partition(";")
            if name.strip() == "gzip":
                return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        return False


class StaticHandler(_FileHandler):
    """`GET /admin/static/<version>/<path>`: our own files."""

    def get(self, version: str, path: str) -> None:
        assets = self.site.assets
        self.hand_out(assets.own.get(path) if version == assets.version else None)

    head = get


class VendorHandler(_FileHandler):
    """`GET /admin/vendor/<version>/<file>`: Bootstrap and the charts."""

    def get(self, version: str, name: str) -> None:
        self.hand_out(self.site.assets.vendor.get(f"{version}/{name}"))

    head = get
