"""The files of the admin pages: our own from `admin_static/`, Bootstrap and the charts from where
they are installed.

Read once at the start and kept in memory, packed when first asked for; nothing outside the two
lists can be reached. One `Assets` belongs to one `AdminSite`.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

logger = logging.getLogger("resender.admin")

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
_PACKED_TYPES = (".css", ".js", ".json", ".svg", ".txt")
# What a page asks for, the packages that may bring it, and how the file is called there.
_VENDOR = {
    "bootstrap.min.css": (("bootstrap-wrapper", "XStatic-Bootstrap"), ("bootstrap.min.css",)),
    "bootstrap.bundle.min.js": (("bootstrap-wrapper", "XStatic-Bootstrap"), ("bootstrap.bundle.min.js",)),
    "lightweight-charts.js": (
        ("litecharts",),
        ("lightweight-charts.standalone.production.js", "lightweight-charts.js"),
    ),
}
_CHARTS = "lightweight-charts.js"


@dataclass(slots=True)
class Asset:
    """One file; `etag` tells its content."""

    kind: str
    body: bytes
    etag: str = field(init=False)
    can_pack: bool = False
    _packed: bytes | None = None

    def __post_init__(self) -> None:
        self.etag = hashlib.sha256(self.body).hexdigest()[:20]

    @property
    def packed(self) -> bytes | None:
        """The body in gzip, if that is worth it."""
        if self._packed is None and self.can_pack:
            self._packed = gzip.compress(self.body, 9, mtime=0)
        return self._packed


class Assets:
    """All files of the pages.

    Shape: `own` by their path below the folder, `vendor` by `<version>/<name>`. `version` is one
        hash over all our own files, because the scripts import each other by relative paths.
    """

    def __init__(self, folder: Path) -> None:
        self.own: dict[str, Asset] = {}
        self.vendor: dict[str, Asset] = {}
        self._vendor_urls: dict[str, str] = {}
        for path in _files(folder):
            self.own[path.relative_to(folder).as_posix()] = _read(path)
        total = hashlib.sha256()
        for name, asset in sorted(self.own.items()):
            total.update(f"{name} {asset.etag}\n".encode())
        self.version = total.hexdigest()[:12]
        for name, (packages, files) in _VENDOR.items():
            self._find_vendor(name, packages, files)

    def url(self, path: str) -> str:
        """Return the URL of one of our own files."""
        return f"/admin/static/{self.version}/{path}"

    def vendor_url(self, name: str) -> str:
        """Return the URL of a file that comes from a package."""
        if name.startswith("lightweight-charts"):
            name = _CHARTS
        return self._vendor_urls.get(name, f"/admin/vendor/missing/{name}")

    def _find_vendor(self, name: str, packages: Iterable[str], files: Iterable[str]) -> None:
        for package in packages:
            try:
                found = distribution(package)
            except PackageNotFoundError:
                continue
            listed = {path.name: path for path in reversed(found.files or [])}
            for file in files:
                path = Path(str(listed[file].locate())) if file in listed else None
                if path is not None and path.is_file():
                    self.vendor[f"{found.version}/{name}"] = _read(path)
                    self._vendor_urls[name] = f"/admin/vendor/{found.version}/{name}"
                    return
        logger.error(
            "the admin pages miss %s: install %s (see requirements.txt)", name, " or ".join(packages)
        )


def _files(folder: Path) -> list[Path]:
    """List what browsers may have: not the templates, and nothing hidden."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix in TYPES
        and path.relative_to(folder).parts[0] != "templates"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _read(path: Path) -> Asset:
    return Asset(TYPES[path.suffix], path.read_bytes(), can_pack=path.suffix in _PACKED_TYPES)
