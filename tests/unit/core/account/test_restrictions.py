"""What a key may do, as Binance says it: anything beyond reading is too much, known or not."""

from __future__ import annotations

import pytest

from resender.core.account.restrictions import may_do

# Source: developers.binance.com, "Get API Key Permission", its example with everything switched off.
READS = {
    "ipRestrict": False, "createTime": 1698645219000, "enableReading": True, "enableWithdrawals": False,
    "enableInternalTransfer": False, "enableMargin": False, "enableFutures": False,
    "permitsUniversalTransfer": False, "enableVanillaOptions": False, "enableFixApiTrade": False,
    "enableFixReadOnly": True, "enableSpotAndMarginTrading": False, "enablePortfolioMarginTrading": False,
}  # fmt: skip
PERMISSIONS = [name for name, value in READS.items() if name.startswith(("enable", "permits")) and not value]


def test_key_that_may_only_read_may_do_nothing_else() -> None:
    assert may_do(READS) == []
    assert may_do(READS | {"ipRestrict": True, "tradingAuthorityExpirationTime": 1628985600000}) == []
    assert may_do({"enableReading": True}) == []


@pytest.mark.parametrize("name", PERMISSIONS)
def test_each_permission_is_too_much(name: str) -> None:
    assert may_do(READS | {name: True}) == [name]


@pytest.mark.parametrize("name", ["enableNewThing", "permitsAnything", "enable"])
def test_permission_that_nobody_knows_yet_is_too_much(name: str) -> None:
    assert may_do(READS | {name: True}) == [name]
    assert may_do(READS | {name: False}) == []


@pytest.mark.parametrize("value", ["true", "false", 1, 0, None, "", [], {}])
def test_permission_that_is_not_plainly_off_is_too_much(value: object) -> None:
    assert may_do(READS | {"enableWithdrawals": value}) == ["enableWithdrawals"]


def test_all_of_them_are_named() -> None:
    found = may_do(READS | dict.fromkeys(PERMISSIONS, True))
    assert found == sorted(PERMISSIONS)


@pytest.mark.parametrize(
    "answer",
    [None, [], [READS], "enableReading", 1, {}, {"enableWithdrawals": False}, {"enableReading": "true"},
     {"enableReading": None}, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}],
)  # fmt: skip
def test_answer_that_names_no_permissions_is_told(answer: object) -> None:
    with pytest.raises(ValueError, match="names no permissions"):
        may_do(answer)
