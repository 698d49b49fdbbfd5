"""The layers of the program, read from its imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "resender"

# A module imports only layers of a lower letter, or siblings in its own package.
LAYERS = {
    "core": "A",
    "errors": "A",
    "places": "A",
    "config_values": "AB",
    "config": "ABB",
    "config_loading": "BC",
    "settings_file": "B",
    "aio": "B",
    "turns": "B",
    "metrics": "B",
    "passwords": "B",
    "api_keys": "B",
    "secret_box": "B",
    "log": "B",
    "lock": "B",
    "savings": "C",
    "loop_lag": "B",
    "systemd": "B",
    "config_operations": "ABA",
    "server_tls": "B",
    "backups": "B",
    "access": "C",
    "name_watch": "C",
    "alerts": "E",
    "assembly": "F",
    "account": "C",
    "calls": "C",
    "cluster": "C",
    "upstream": "C",
    "fanout": "C",
    "market": "C",
    "store": "C",
    "workers": "D",
    "snapshots": "CD",
    "status": "D",
    "services": "F",
    "doctor": "E",
    "machine_check": "E",
    "changes": "B",
    "account_gauges": "E",
    "nodes": "E",
    "gauges": "G",
    "web": "H",
    "gateway": "H",
    "cli": "I",
    "launch": "I",
    "__main__": "I",
    "sandbox": "sandbox",
}
# What the web layer may know of the services' packages: their front, not what is behind it.
FRONTS = (
    "resender.market", "resender.upstream", "resender.store", "resender.fanout", "resender.account",
    "resender.cluster", "resender.workers", "resender.alerts",
)  # fmt: skip
# Third-party packages and the parts of the program that may import them.
OWNERS = {
    "aiohttp": {"upstream", "sandbox"},
    "yarl": {"upstream", "sandbox"},
    "aiohttp_socks": {"upstream"},
    "python_socks": {"upstream"},
    "peewee": {"store"},
    "playhouse": {"store"},
    "redis": {"cluster"},
    "argon2": {"passwords"},
    "cryptography": {"sandbox", "secret_box", "api_keys", "server_tls"},
    "tornado": {"web", "cli"},
    "prometheus_client": {"metrics", "gauges", "account_gauges"},
}
NOT_IN_CORE = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "os",
    "pathlib",
    "threading",
    "logging",
    "tornado",
    "aiohttp",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part(path: Path) -> str:
    """Return the part of the program a module belongs to: its package or its own name."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the absolute names a module imports, wherever in its code."""
    names: set[str] = set()
    package = ["resender", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names if module == "resender"}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_layer_may(path: Path) -> None:
    mine = part(path)
    if mine == "__init__":
        assert not imports(path)
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top in OWNERS:
            assert mine in OWNERS[top], f"{mine} imports {name}"
        if mine == "core":
            assert top not in NOT_IN_CORE, f"core imports {name}"
        if top != "resender" or not rest:
            continue
        other = rest.split(".")[0]
        if other in (mine, "__version__"):
            continue
        if mine == "sandbox":
            assert rest.startswith("core.binance.markets"), f"the sandbox imports {name}"
        elif other == "sandbox":
            assert path.name == "demo.py", f"{mine} imports the sandbox"
        elif mine == "core":
            assert other == "errors", f"core imports {name}"
        elif mine == "errors":
            raise AssertionError(f"errors imports {name}")
        else:
            assert LAYERS[other] < LAYERS[mine] or LAYERS[mine] == "I", f"{mine} imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if part(p) == "web"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_web_knows_the_services_only_by_their_front(path: Path) -> None:
    inner = {name for name in imports(path) if name.startswith(tuple(f"{front}." for front in FRONTS))}
    assert not inner


def graph() -> dict[str, set[str]]:
    """Return which module imports which, wherever in its code, imports for types left out."""
    names = {}
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        tree = ast.parse(path.read_text())
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, node.module] if node.module else above)
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    found[name].add(full if full in names else base)
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
        found[name] = {each for each in found[name] if each in names and each != name}
    return found


def test_no_circle_of_imports_not_even_inside_a_package_or_a_function() -> None:
    imported = graph()
    assert len(imported) > 150
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for each in sorted(imported[name]):
                visit(each, (*above, name))
            done.add(name)

    for name in imported:
        visit(name, ())


def test_every_part_has_its_layer() -> None:
    found = {part(path) for path in modules()} - {"__init__"}
    assert found == set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    if "migrations" not in path.parts:
        assert ast.get_docstring(ast.parse(text)), "a module starts with what it is"


def test_aiohttp_session_is_made_only_where_repeating_is_switched_off() -> None:
    makers = [p for p in modules() if "ClientSession(" in p.read_text() and part(p) != "sandbox"]
    assert [p.name for p in makers] == ["rest.py"]
    assert "_retry_connection = False" in makers[0].read_text()


def test_tasks_are_started_only_where_they_are_owned() -> None:
    for path in modules():
        if part(path) in ("sandbox", "aio"):
            continue
        text = path.read_text()
        assert "asyncio.create_task" not in text, path
        assert "ensure_future" not in text, path
