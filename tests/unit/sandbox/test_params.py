"""Lists of symbols are read as strictly as the exchange reads them."""

import pytest

from resender.sandbox.model import ApiError
from resender.sandbox.params import read_symbols


@pytest.mark.parametrize(
    ("text", "code"),
    [('["BTCUSDT", "ETHUSDT"]', -1100), ('["btcusdt"]', -1100), ("BTCUSDT", -1100), ('["A","A"]', -1151),
     ("[]", -1102), ("[1]", -1100)],
)  # fmt: skip
def test_bad_symbols_lists_are_refused(text, code):
    with pytest.raises(ApiError) as caught:
        read_symbols(text)
    assert caught.value.code == code


def test_good_symbols_list_is_read():
    assert read_symbols('["BTCUSDT","币安人生USDT"]') == ["BTCUSDT", "币安人生USDT"]
