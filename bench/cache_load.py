"""`load.measure` with more headers, `Accept-Encoding: gzip` for one.

It adds them to those of load.py; everything else, wrk and the generator of its own, is
there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import load
from load import Load


def measure(url: str, connections: int, seconds: int, python: str, *, headers: Mapping[str, str]) -> Load:
    """Call `url` on kept connections for some seconds.

    Raises: LoadError unless every single call was answered with 200.
    """
    if load.generator() == "wrk":
        before = dict(load.HEADERS)
        try:
            load.HEADERS.update(headers)
            return load.measure(url, connections, seconds, python)
        finally:
            load.HEADERS.clear()
            load.HEADERS.update(before)
    command = [python, __file__, url, str(connections), str(seconds), json.dumps(dict(headers))]
    return Load(**json.loads(load._run(command, seconds)))


if __name__ == "__main__":
    load.HEADERS.update(json.loads(sys.argv[4]) if sys.argv[4:] else {})
    load._main()
