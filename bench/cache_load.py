"""`load.measure` with or without `Accept-Encoding: gzip`.

It adds the header to those of load.py; everything else, wrk and the generator of its own, is
there.
"""

from __future__ import annotations

import json
import sys

import load
from load import Load


def measure(url: str, connections: int, seconds: int, python: str, *, gzip: bool) -> Load:
    """Call `url` on kept connections for some seconds.

    Raises: LoadError unless every single call was answered with 200.
    """
    if load.generator() == "wrk":
        before = dict(load.HEADERS)
        try:
            if gzip:
                load.HEADERS["Accept-Encoding"] = "gzip"
            return load.measure(url, connections, seconds, python)
        finally:
            load.HEADERS.clear()
            load.HEADERS.update(before)
    command = [python, __file__, url, str(connections), str(seconds), *(["gzip"] if gzip else [])]
    return Load(**json.loads(load._run(command, seconds)))


if __name__ == "__main__":
    if sys.argv[4:] == ["gzip"]:
        load.HEADERS["Accept-Encoding"] = "gzip"
    load._main()
