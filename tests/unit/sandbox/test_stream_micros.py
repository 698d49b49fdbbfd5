"""Times of events in microseconds; what only looks like a time stays."""

import json

import pytest

from resender.sandbox.stream_micros import in_micros, moment_us

AT = 1_791_374_430_500


@pytest.mark.parametrize(
    ("event", "times", "boundaries"),
    [
        ({"e": "trade", "E": AT, "s": "X", "t": 17, "p": "1", "T": AT - 1, "m": True}, ["E", "T"], []),
        ({"e": "aggTrade", "E": AT, "a": 5, "f": 3, "l": 4, "T": AT - 2}, ["E", "T"], []),
        (
            {"e": "24hrTicker", "E": AT, "c": "1", "O": AT - 9, "C": AT, "F": 1, "L": 2, "n": 2},
            ["E", "O", "C"],
            [],
        ),
        ({"lastUpdateId": 5, "bids": [["1", "2"]], "asks": []}, [], []),
        ({"u": 5, "s": "X", "b": "1"}, [], []),
    ],
)
def test_only_times_are_turned(event, times, boundaries):
    turned = json.loads(in_micros(json.dumps(event, separators=(",", ":"))))
    assert turned == {key: moment_us(value) if key in times else value for key, value in event.items()}
    assert all(turned[key] // 1000 == event[key] for key in times)


def test_candles_close_one_microsecond_before_the_next():
    text = '{"e":"kline","E":1,"k":{"t":60000,"T":119999,"f":100,"L":200,"x":true}}'
    turned = json.loads(in_micros(text))
    assert turned["k"] == {"t": 60_000_000, "T": 119_999_999, "f": 100, "L": 200, "x": True}
