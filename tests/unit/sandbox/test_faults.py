"""Which call a fault hits, and how long it lasts."""

from resender.core.binance.markets import Market
from resender.sandbox.faults import Fault, Faults


def test_faults_match_by_host_method_and_path_and_wear_off():
    faults = Faults()
    fault = faults.add(Fault("reset_before", match=r"v3/order$", host="api", method="POST", times=2))
    assert faults.strike("fapi", "POST", "/api/v3/order") == []
    assert faults.strike("api", "GET", "/api/v3/order") == []
    assert faults.strike("api", "POST", "/api/v3/order/test") == []
    assert faults.strike("api", "POST", "/api/v3/order") == [fault]
    assert faults.strike("api", "POST", "/api/v3/order") == [fault]
    assert faults.strike("api", "POST", "/api/v3/order") == []
    assert fault.hits == 2


def test_delays_add_to_another_fault_and_a_lasting_fault_stays_until_removed():
    faults = Faults()
    slow = faults.add(Fault("delay", times=None))
    bad = faults.add(Fault("status", times=None))
    unused = faults.add(Fault("html", times=None))
    assert faults.strike("api", "GET", "/x") == [slow, bad]
    faults.remove(bad)
    assert faults.strike("api", "GET", "/x") == [slow, unused]
    faults.stream(Market.UM).silent = True
    held = faults.stream(Market.UM)
    faults.clear()
    assert faults.strike("api", "GET", "/x") == []
    assert held.silent is False
