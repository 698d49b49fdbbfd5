"""How old an answer may be: what the setting can name, and that the client's own word counts before it."""

from __future__ import annotations

import pytest

from resender.core.binance.markets import BY_MARKET, Market
from resender.core.market.consent import MAX_AGE_MS, NAMES, PATHS, max_age_ms, parse_consent

DAY = "/api/v3/ticker/24hr"
OI = "/fapi/v1/openInterest"


# --- what there is --------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "market", "name"), [(path, *what) for path, what in PATHS.items()])
def test_path_belongs_to_its_market_and_ends_with_its_name(path: str, market: Market, name: str) -> None:
    assert path.split("/")[1] in BY_MARKET[market].roots
    assert path.endswith(f"/{name}")
    assert name in NAMES


def test_every_name_has_paths() -> None:
    assert {name for _, name in PATHS.values()} == set(NAMES)


# --- the setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([], {}),
        (["avgPrice=500"], {"/api/v3/avgPrice": 500}),
        (["um:premiumIndex=1000"], {"/fapi/v1/premiumIndex": 1000}),
        (["premiumIndex=1000"], {"/fapi/v1/premiumIndex": 1000, "/dapi/v1/premiumIndex": 1000}),
        (["um:ticker/price=7"], {"/fapi/v1/ticker/price": 7, "/fapi/v2/ticker/price": 7}),
        (
            ["ticker/24hr=2000"],
            {DAY: 2000, "/fapi/v1/ticker/24hr": 2000, "/dapi/v1/ticker/24hr": 2000},
        ),
        ([" cm : openInterest = 1 "], {"/dapi/v1/openInterest": 1}),
        ([f"fundingInfo={MAX_AGE_MS}", "um:fundingInfo=1"],
         {"/fapi/v1/fundingInfo": 1, "/dapi/v1/fundingInfo": MAX_AGE_MS}),
        (["spot:exchangeInfo=5", "avgPrice=6"], {"/api/v3/exchangeInfo": 5, "/api/v3/avgPrice": 6}),
    ],
)  # fmt: skip
def test_age_is_read_for_each_path_that_is_meant(items: list[str], found: dict[str, int]) -> None:
    assert parse_consent(items) == found


@pytest.mark.parametrize("name", NAMES)
def test_name_without_a_market_means_all_its_paths(name: str) -> None:
    assert parse_consent([f"{name}=9"]) == {path: 9 for path, (_, of) in PATHS.items() if of == name}


@pytest.mark.parametrize(
    "item", ["=5", "", "klines=1000", "depth=5", "um:klines=5", "Ticker/24hr=5", "/ticker/24hr=5", "ticker=1", DAY]
)  # fmt: skip
def test_what_cannot_be_named_is_told_with_what_can(item: str) -> None:
    name = item.partition("=")[0].rpartition(":")[2]
    with pytest.raises(ValueError) as caught:
        parse_consent([item])
    assert str(caught.value) == f"{name!r} cannot be named here; there are {', '.join(NAMES)}"


@pytest.mark.parametrize(
    "age",
    [
        "", "=", "= ", "=0", "=00", "=-5", "=+5", "=1.5", "=1e3", "=1_000", "=x", "=5ms", "=5 5", f"={MAX_AGE_MS + 1}",
        f"={'9' * 5000}", "=²", "=１０", "=5=5",
    ],
)  # fmt: skip
def test_age_that_is_no_number_of_milliseconds_is_refused_in_words(age: str) -> None:
    item = f"um:openInterest{age}"
    with pytest.raises(ValueError) as caught:
        parse_consent([item])
    assert str(caught.value) == (
        f"{item[:60]!r} does not say how many milliseconds, from 1 to 86400000: openInterest=1000"
    )


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("um:avgPrice=5", "avgPrice is a path of spot, not of 'um'"),
        ("spot:premiumIndex=5", "premiumIndex is a path of um, cm, not of 'spot'"),
        ("options:ticker/24hr=5", "ticker/24hr is a path of spot, um, cm, not of 'options'"),
        (":ticker/24hr=5", "ticker/24hr is a path of spot, um, cm, not of ''"),
        ("a:b:ticker/24hr=5", "ticker/24hr is a path of spot, um, cm, not of 'a:b'"),
        (f"{'x' * 90}:avgPrice=5", f"avgPrice is a path of spot, not of '{'x' * 20}'"),
    ],
)
def test_market_that_has_no_such_path_is_refused_in_words(item: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_consent(["avgPrice=5", item])
    assert str(caught.value) == text


def test_what_is_wrong_is_not_repeated_at_length() -> None:
    for item in ("x" * 5000, f"openInterest={'x' * 5000}", f"{'x' * 5000}:openInterest=5"):
        with pytest.raises(ValueError) as caught:
            parse_consent([item])
        assert len(str(caught.value)) < 300


# --- a call ---------------------------------------------------------------------------------------


def test_without_a_word_of_anybody_nothing_may_be_old() -> None:
    assert [path for path in PATHS if max_age_ms(path, [], {}) is not None] == []


def test_setting_counts_for_the_paths_it_names_only() -> None:
    by_path = parse_consent(["um:openInterest=700"])
    assert max_age_ms(OI, [("Accept", "*/*")], by_path) == 700
    assert max_age_ms("/dapi/v1/openInterest", [], by_path) is None


@pytest.mark.parametrize(
    ("value", "age_ms"),
    [
        ("max-age=3", 3000),
        ("MAX-AGE=3", 3000),
        ("public, max-age=3", 3000),
        ("public,max-age=3,must-revalidate", 3000),
        ("public max-age=3", 3000),
        ('max-age="3"', 3000),
        ("max-age = 3", 3000),
        ("max-age=86400", MAX_AGE_MS),
        ("max-age=86401", MAX_AGE_MS),
        (f"max-age={'9' * 40}", MAX_AGE_MS),
        ("max-age=0", None),
        ("max-age=00", None),
        ("no-cache", None),
        ("No-Store", None),
        ("max-age=3, no-cache", None),
        ("no-store, max-age=3", None),
        # What is no word of the client's about an age leaves it to the setting.
        ("", 700),
        ("public", 700),
        ("max-age", 700),
        ("max-age=", 700),
        ("max-age=-1", 700),
        ("max-age=x", 700),
        ("s-maxage=3", 700),
        ("x-max-age=3", 700),
    ],
)
def test_clients_word_counts_before_the_setting(value: str, age_ms: int | None) -> None:
    for name in ("Cache-Control", "cache-control", "CACHE-CONTROL"):
        assert max_age_ms(OI, [("Accept", "*/*"), (name, value)], {OI: 700}) == age_ms


def test_client_needs_no_setting_for_what_it_consents_to_itself() -> None:
    assert max_age_ms(DAY, [("Cache-Control", "max-age=2")], {}) == 2000


def test_only_cache_control_is_a_word_about_an_age() -> None:
    assert max_age_ms(OI, [("Pragma", "max-age=2"), ("X-Cache-Control", "max-age=2")], {OI: 700}) == 700


def test_of_several_headers_the_first_that_says_something_counts() -> None:
    headers = [("Cache-Control", "public"), ("Cache-Control", "max-age=2"), ("Cache-Control", "max-age=9")]
    assert max_age_ms(OI, headers, {OI: 700}) == 2000
    assert max_age_ms(OI, [("Cache-Control", "no-cache"), *headers], {OI: 700}) is None


@pytest.mark.parametrize(
    "path", ["/api/v3/klines", "/api/v3/depth", "/api/v3/time", "/api/v3/account", "/api/v3/ticker/24hr/", "", "/"]
)  # fmt: skip
def test_path_that_is_none_of_these_may_never_be_old(path: str) -> None:
    assert max_age_ms(path, [("Cache-Control", "max-age=60")], {path: 700}) is None
