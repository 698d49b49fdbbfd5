"""Each route says by its base class who may use it, and no handler is without a route."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest
from tornado.routing import URLSpec

import resender.web.admin as package
from resender.web.admin.base import AdminBase, AdminHandler, AdminOpenHandler
from resender.web.admin.pages.pages import UnknownPageHandler
from resender.web.admin.routes import API, admin_routes
from tests.unit.web.serving import make_services


@pytest.fixture
async def routes() -> list[URLSpec]:
    services = make_services()
    found = admin_routes(services)
    await services.tasks.cancel()
    return found


def handlers() -> Iterator[type[AdminBase]]:
    """Find every handler below /admin that answers something."""
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        for _, thing in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(thing, AdminBase) and thing.methods() and not thing.__name__.startswith("_"):
                yield thing


def path(route: URLSpec) -> str:
    return route.regex.pattern.removesuffix("$")


async def test_only_the_log_in_and_the_files_of_its_page_are_open(routes: list[URLSpec]) -> None:
    open_ones = {path(route) for route in routes if issubclass(route.handler_class, AdminOpenHandler)}
    assert open_ones == {
        f"{API}login",
        "/admin/login",
        "/admin/static/([0-9a-f]{12})/(.+)",
        "/admin/vendor/([^/]+)/([^/]+)",
    }
    assert all(issubclass(route.handler_class, (AdminOpenHandler, AdminHandler)) for route in routes)


async def test_every_handler_has_a_route(routes: list[URLSpec]) -> None:
    assert set(handlers()) - {route.handler_class for route in routes} == set()


async def test_all_handlers_share_one_site_and_one_reader_of_figures(routes: list[URLSpec]) -> None:
    assert len({id(route.kwargs["site"]) for route in routes}) == 1
    assert len({id(route.kwargs["live"]) for route in routes if "live" in route.kwargs}) == 1


async def test_whatever_has_no_route_comes_last(routes: list[URLSpec]) -> None:
    assert routes[-1].handler_class is UnknownPageHandler
    assert routes[-1].regex.fullmatch("/admin/api/nowhere")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (f"{API}whitelist/7", "WhitelistEntryHandler"),
        (f"{API}whitelist/bulk", "WhitelistBulkHandler"),
        (f"{API}whitelist/{'9' * 16}", "UnknownPageHandler"),
        (f"{API}logs/{'9' * 19}", "LogRowHandler"),
        (f"{API}logs/-1", "UnknownPageHandler"),
        (f"{API}logs/export", "LogExportHandler"),
        ("/admin", "HomeHandler"),
        ("/admin/", "HomeHandler"),
        ("/admin/Dashboard", "UnknownPageHandler"),
    ],
)
async def test_target_finds_its_handler(routes: list[URLSpec], target: str, name: str) -> None:
    found = next(route for route in routes if route.regex.fullmatch(target))
    assert found.handler_class.__name__ == name
