"""Answers that are larger than anybody expects."""

import orjson

from resender.sandbox.http_faults import large_parts


def test_large_answer_is_valid_json_of_the_announced_size():
    size, parts = large_parts(0.25)
    body = b"".join(parts)
    assert len(body) == size
    assert orjson.loads(body)[-1] == "end"
