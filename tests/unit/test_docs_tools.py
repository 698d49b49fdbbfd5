"""What writes and judges the documentation: `tools/docs_tables.py`, `docs_site.py` and `docs_hooks.py`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from resender.config import SETTINGS
from resender.core.binance.markets import Market
from resender.core.binance.stream_urls import resolve_stream
from tools import docs_hooks, docs_site, docs_tables
from tools.stream_shapes import KEY, SHAPES

WORDS = {"list": "list", "text": "text"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("PORT", "0 … 65,535"),
        ("CONNECT_TIMEOUT_S", "0.05 … 300 s"),
        ("MAX_BODY_BYTES", "0 … 1,073,741,824 bytes"),
        ("ORDER_WEIGHT_RESERVE", "0 … 0.9"),
        ("BACKFILL_WEIGHT_SHARE", "> 0 … 1"),
        ("LOG_FORMAT", "`text`, `json`"),
        ("UPSTREAM_PAPI", "`http://`, `https://`, `off`"),
        ("STREAM_SPOT", "`ws://`, `wss://`"),
        ("CACHE_ENABLED", "`true`, `false`"),
        ("WHITELIST", "list"),
        ("HOST", "text"),
    ],
)
def test_limits_of_a_setting_are_read_from_its_reader(name: str, shown: str) -> None:
    assert docs_tables.limits(SETTINGS[name], WORDS) == shown


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("SQLite in DATA_DIR. 0 = off.", "SQLite in `DATA_DIR`. `0` = off."),
        ("什么是 DATA_DIR 里的；off = 不提供。", "什么是 `DATA_DIR` 里的；`off` = 不提供。"),
        ("Later: run.py whitelist.", "Later: `run.py whitelist`."),
        ("`um:*USDT@1m` and um:*USDT@1m,bookTicker.", "`um:*USDT@1m` and `um:*USDT@1m,bookTicker`."),
        ("REST and TLS stay; DEBUG, INFO", "REST and TLS stay; `DEBUG`, `INFO`"),
    ],
)
def test_names_in_a_sentence_are_set_as_code_once(text: str, marked: str) -> None:
    assert docs_tables.as_code(text) == marked
    assert docs_tables.as_code(marked) == marked


def test_a_bar_in_a_cell_does_not_part_the_row() -> None:
    assert docs_tables.table(["a"], [["x|y"]]).splitlines()[2] == r"| x\|y |"


@pytest.mark.parametrize(("base", "target"), [(base, one) for _, base, targets in SHAPES for one in targets])
def test_addresses_of_streams_told_lead_where_they_say(base: str, target: str) -> None:
    route = resolve_stream(target.replace(KEY, "a1B2" * 16))
    hosts = {"stream": Market.SPOT, "fstream": Market.UM, "dstream": Market.CM}
    hosts |= {"ws-api": Market.SPOT, "ws-fapi": Market.UM, "ws-dapi": Market.CM}
    hosts |= dict.fromkeys(("public", "market", "private"), Market.UM)
    assert route.market is hosts[(base or target).strip("/").replace(".", "/").partition("/")[0]]
    wanted = "ws_api" if "/ws-" in target else "user" if KEY in target else "market"
    assert route.what == wanted
    assert not any("=" in name or "?" in name for name in route.names)


def test_settings_file_gets_the_tables_sentences_and_keeps_values_and_headings() -> None:
    before = '"""Head."""\n\n# --- Part one ---\n\n# Old words.\nPORT = 9000\nHOST = "::"  # mine\n'
    after = docs_tables.settings_file(before)
    assert "Old words" not in after
    assert '"""Head."""\n\n# --- Part one ---\n' in after
    assert "\nPORT = 9000\n" in after
    assert '\nHOST = "::"  # mine\n' in after
    assert f"# {SETTINGS['PORT'].help}\n" in after
    assert docs_tables.settings_file(after) == after


def test_a_setting_has_one_english_sentence_once_settings_py_is_written_from_the_table() -> None:
    if docs_tables.SETTINGS_MARK in (docs_tables.ROOT / "settings.py").read_text("utf-8"):
        texts = docs_tables.Texts("en")
        plain = {name: setting.help.replace("`", "") for name, setting in SETTINGS.items()}
        assert plain == {name: texts.page(f"settings.help.{name}").replace("`", "") for name in SETTINGS}


def test_every_sentence_that_is_missing_or_idle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = docs_tables.Texts("en")
    assert texts.get("head.name") == "Name"
    assert texts.get("no.such.key", "from the program") == "from the program"
    assert texts.missing == []
    texts.get("no.such.key")
    assert texts.missing == ["en: no.such.key"]
    assert "en: head.name" not in texts.unused()
    assert "en: head.default" in texts.unused()


# --- the built site ------------------------------------------------------------------------------


def judge(folder: Path, **pages: str) -> list[str]:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return list(docs_site.faults(folder))


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img src="http://pictures.example/x.png">',
        '<p style="background: url(https://pictures.example/x.png)"></p>',
        '<iframe src="https://frames.example/"></iframe>',
    ],
)
def test_whatever_a_page_fetches_from_another_host_is_told(tmp_path: Path, tag: str) -> None:
    assert len(judge(tmp_path, index=tag)) == 1


def test_a_style_sheet_that_fetches_from_another_host_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@import 'https://fonts.example/css'; a { b: url(../x.png) }", "utf-8")
    assert judge(tmp_path, index="") == ["x.css: fetches https://fonts.example/css"]


def test_links_inside_have_to_lead_somewhere_and_links_outside_may(tmp_path: Path) -> None:
    page = (
        '<a href="https://developers.example/">out</a> <a href="other.html#there">in</a>'
        '<a href="other.html#gone">no place</a> <a href="gone.html">no page</a>'
        '<link rel="alternate" href="https://host.example/zh/"> <script src="x.js"></script>'
    )
    assert judge(tmp_path, index=page, other='<h2 id="there">x</h2>') == [
        "index.html: no such place: other.html#gone",
        "index.html: no such page: gone.html",
    ]


def test_a_site_without_pages_is_a_fault(tmp_path: Path) -> None:
    assert len(judge(tmp_path)) == 1


# --- hooks ---------------------------------------------------------------------------------------


def rendered(markdown: str, page: str) -> str:
    return docs_hooks.on_page_markdown(
        markdown, SimpleNamespace(file=SimpleNamespace(src_uri=page)), None, None
    )


def test_links_out_of_the_documentation_become_code_and_links_within_stay() -> None:
    text = "[nginx](../../deploy/nginx.conf) [deploy/Caddyfile](../../deploy/Caddyfile) [TLS](../operate/x.md#tls)"
    assert rendered(text, "use/monitoring.md") == "nginx `deploy/Caddyfile` [TLS](../operate/x.md#tls)"
    code = "```\n[a](../../deploy/x)\n```\n"
    assert rendered(code, "use/monitoring.md") == code


@pytest.mark.parametrize(
    ("page", "link"),
    [("changelog.md", "start/install.md#update"), ("changelog.zh.md", "start/install.zh.md")],
)
def test_changelog_is_included_without_its_title_and_its_links_lead_into_the_pages(
    page: str, link: str
) -> None:
    text = rendered("# Changelog\n\n<!-- include: CHANGELOG.md -->\n", page)
    assert text.count("# Changelog\n") == 1
    assert f"]({link})" in text
    assert "](docs/" not in text
