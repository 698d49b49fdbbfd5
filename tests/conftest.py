"""Fixtures for all tests, and what becomes of tests that lack a program.

- `upstream`: a raw HTTPS server that records exact bytes (tests/support/upstream.py).
- `gateway`: a running gateway that forwards every market to `upstream` and whitelists loopback.
- `trusted`: what trusts the system's certificate authorities trusts the tests' one.
- `recorded`: the folder of recorded Binance responses; tests that need it skip where it is absent.

A test that lacks a Debian package or a heavy client library skips itself; the end of the run says
which ones. In CI a package may not be missing.
"""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from resender.store import connection
from tests.support.authority import ca_file
from tests.support.running import Running, make_config, running, with_admin_pages
from tests.support.upstream import RawUpstream
from tests.support.wanting import MORE_CLIENTS, in_words, wanted

ROOT = Path(__file__).resolve().parent.parent
__all__ = ["with_admin_pages"]

# How long an example takes is the machine's matter.
settings.register_profile("resender", deadline=None)
settings.load_profile("resender")


# What the program says is read in English, whatever the locale of this machine.
for _name in ("LC_ALL", "LC_MESSAGES", "LANG"):
    if os.environ.get(_name, "").lower().startswith("zh"):
        os.environ[_name] = "C.UTF-8"

# The soak comes first where tests run one after another.
_BEGINS = ("tests/e2e/", "tests/browser/", "tests/component/", "tests/unit/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See that the marks of `make test` stand where it looks for them, and nowhere else."""
    items.sort(key=_turn)
    for item in items:
        path = item.path.as_posix()
        if item.get_closest_marker("waits") is not None:
            folders = ("truth", "accounts", "nodes")
            assert any(f"/component/{name}/" in path for name in folders), item.nodeid
        if item.get_closest_marker("machine") is not None:
            assert item.path.name in ("test_container.py", "test_install.py"), item.nodeid
        if item.get_closest_marker("alone") is not None:
            assert "tests/component/" in path or "tests/e2e/" in path, item.nodeid


# While tests are found nothing becomes garbage: looking for it would take two thirds of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Have the collector of garbage look no more at the thousands of tests that have been found."""
    _look_no_more()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on there is garbage, also in the process that only hands out tests."""
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, bool, bool]:
    """Nor at what a module leaves behind: many tests end with a look at all there is."""
    _Databases.are_copied = "store" not in item.path.parts
    result = yield
    if nextitem is None or nextitem.path != item.path:
        _look_no_more()
    return result


def _look_no_more() -> None:
    gc.collect()
    gc.freeze()


class _Databases:
    """Who does not test the store starts with the copy of a new database: a tenth of the work."""

    are_copied = False
    prepare = staticmethod(connection._prepare_file)
    folder = tempfile.TemporaryDirectory(prefix="resender-new-database-")

    @classmethod
    def prepared(cls, path: str, create: bool) -> None:
        is_new = cls.are_copied and create and not os.path.exists(path)
        cls.prepare(path, create)
        if is_new:
            shutil.copyfile(cls._new(), path)

    @classmethod
    def _new(cls) -> str:
        path = os.path.join(cls.folder.name, "new.db")
        if not os.path.exists(path):
            cls.are_copied = False
            connection.close_quietly(connection.open_database(f"sqlite:///{path}"))
            cls.are_copied = True
        return path


connection._prepare_file = _Databases.prepared


class _Authorities:
    """The system's authorities are one here, as no test gets to a server that any of them vouches for.

    To read all 140 takes 30 ms, and each gateway of a test does. A test that names other ones gets those.
    """

    variables = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    named = tuple(os.environ.get(name) for name in variables)
    load = ssl.SSLContext.load_default_certs
    one = Path(tempfile.mkstemp(prefix="resender-authority-")[1])

    @classmethod
    def make(cls) -> None:
        """Choose the first of the system's; where there is none all stays as it is."""
        context = ssl.create_default_context()
        found = context.get_ca_certs(binary_form=True)[:1]
        atexit.register(cls.one.unlink, missing_ok=True)
        if found:
            cls.one.write_text(ssl.DER_cert_to_PEM_cert(found[0]), "ascii")
            ssl.SSLContext.load_default_certs = _load_default_certs  # type: ignore[method-assign]


def _load_default_certs(context: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
    if tuple(os.environ.get(name) for name in _Authorities.variables) == _Authorities.named:
        context.load_verify_locations(_Authorities.one)
    else:
        _Authorities.load(context, purpose)


_Authorities.make()


def _turn(item: pytest.Item) -> int:
    path = item.path.as_posix()
    return next((n for n, folder in enumerate(_BEGINS) if folder in path), len(_BEGINS))


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with RawUpstream() as server:
        yield server


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(make_config(tmp_path, upstream.url)) as run:
        yield run


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file())


@pytest.fixture
def recorded() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of recorded Binance responses is not beside the repository")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (name := wanted(report)) and name not in MORE_CLIENTS and os.environ.get("CI"):
        assert isinstance(report.longrepr, tuple)
        report.outcome, report.longrepr = "failed", f"In CI no program may be missing. {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    yield  # below everything else
    if hasattr(config, "workerinput"):  # one of several side by side: the one that started them knows all
        return
    names = [name for report in terminalreporter.stats.get("skipped", ()) if (name := wanted(report))]
    # `make test` runs pytest several times and says it once.
    if together := os.environ.get("SKIPPED_TO"):
        with Path(together).open("a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)
    elif names:
        terminalreporter.write_line(in_words(names))
