"""The ways out are made as the settings say."""

from __future__ import annotations

from pathlib import Path

from resender.aio import Clock
from resender.core.cluster.worker import shared_egresses
from resender.upstream.egress_making import make_egress
from tests.support.authority import client_context
from tests.support.running import make_config


def test_settings_make_the_ways_out_unless_others_are_given(tmp_path: Path) -> None:
    config = make_config(tmp_path, egress="a=127.0.0.2,b=127.0.0.3", weight_limit_spot=1234)
    governor = make_egress(config, Clock(), client_context()).governor
    assert list(governor.by_name) == ["a", "b"]
    assert governor.limit("spot") == 1234
    shared = shared_egresses(config.egresses, "gw1")
    governor = make_egress(config, Clock(), client_context(), egresses=shared).governor
    assert [egress.spec.shared for egress in governor.egresses] == ["gw1 a", "gw1 b"]
