"""The demo: what it serves with, whom it lets in, and what it keeps away from a real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resender.cli import demo as module
from resender.cli.demo import demo
from resender.config import Config
from resender.core.access.whitelist import Whitelist
from resender.passwords import hash_password, verify_password
from resender.sandbox import API_SECRET
from resender.store import open_repository
from resender.store.users import FIRST_USER
from tests.support.running import make_config


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, dict[str, Any]]]:
    """Take what would be served, instead of serving it."""
    found: list[tuple[Config, dict[str, Any]]] = []

    async def serve(config: Config, **options: Any) -> int:
        found.append((config, options))
        options["prepare"]()
        options["announce"]("http://127.0.0.1:8000")
        return 0

    monkeypatch.setattr(module, "serve", serve)
    return found


async def test_every_upstream_and_stream_is_the_sandbox(tmp_path: Path, served) -> None:
    assert await demo(make_config(tmp_path, upstream_papi="off")) == 0
    ((config, options),) = served
    urls = [*config.upstreams.values(), config.stream_spot, config.stream_um, config.stream_cm]
    assert all(url.startswith(("https://127.0.0.1:", "wss://127.0.0.1:")) for url in urls)
    assert len(options["ssl_context"].get_ca_certs()) == 1, "the sandbox' own authority alone is trusted"


async def test_demo_touches_nothing_of_the_real_gateway(tmp_path: Path, served) -> None:
    real = make_config(
        tmp_path,
        database_url="postgresql://me@db.invalid/real",
        egress="a=127.0.0.2",
        egress_pins="AAAABBBB=a",
    )
    await demo(real)
    ((config, _),) = served
    assert config.database == f"sqlite:///{tmp_path / 'demo' / 'resender.db'}"
    assert [spec.name for spec in config.egresses] == ["default"]
    assert not config.pins
    assert not (tmp_path / "resender.db").exists()


async def test_this_machine_may_call_even_if_it_was_shut_out_in_an_earlier_demo(
    tmp_path: Path, served
) -> None:
    config = make_config(tmp_path)
    await demo(config)
    with open_repository(served[0][0].database) as repository:
        (entry,) = [each for each in repository.whitelist_list() if each.address == "::1"]
        repository.whitelist_update(entry.id, enabled=False)
    await demo(config)
    with open_repository(served[0][0].database) as repository:
        whitelist = Whitelist(repository.whitelist_list())
    assert whitelist.match("127.0.0.1") is not None
    assert whitelist.match("::1") is not None


async def test_account_of_an_earlier_demo_gets_a_new_password_that_is_told(
    tmp_path: Path, served, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path)
    await demo(config)
    assert "with the password" not in capsys.readouterr().out, "a new database gets its account at the start"
    with open_repository(served[0][0].database) as repository:
        repository.user_add(FIRST_USER, hash_password("an older password"))
    await demo(config)
    out = capsys.readouterr().out
    password = out.partition("with the password ")[2].split()[0]
    with open_repository(served[0][0].database) as repository:
        user = repository.user_get(FIRST_USER)
    assert user is not None
    assert verify_password(user.password_hash, password)
    assert user.must_change


async def test_announcement_names_what_one_needs_to_try_it(
    tmp_path: Path, served, capsys: pytest.CaptureFixture[str]
) -> None:
    await demo(make_config(tmp_path))
    out = capsys.readouterr().out
    for text in (
        "http://127.0.0.1:8000/api/v3/ticker/bookTicker",
        "/admin",
        API_SECRET,
        "not real",
        "Ctrl+C",
    ):
        assert text in out
