"""The least one can write to answer with ready-made bytes on Tornado: the baseline of the cache.

`cache_bare.py PORT FOLDER` reads index.json in the folder ({"target": {"plain": "file", "gzip":
"file"}}) and answers these targets. Nothing else: no whitelist, no query, no header but three.
"""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

from tornado import httputil
from tornado.httpserver import HTTPServer

OK = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")


class Delegate(httputil.HTTPMessageDelegate):
    def __init__(self, connection, answers):
        self.connection, self.answers = connection, answers

    def headers_received(self, start_line, headers):
        kind = "gzip" if "gzip" in headers.get("Accept-Encoding", "") else "plain"
        self.body = self.answers[start_line.path][kind]
        self.headers = httputil.HTTPHeaders({"Content-Type": "application/json;charset=UTF-8"})
        if kind == "gzip":
            self.headers["Content-Encoding"] = "gzip"

    def finish(self):
        self.headers["Content-Length"] = str(len(self.body))
        self.connection.write_headers(OK, self.headers, self.body)
        self.connection.finish()


class Server(httputil.HTTPServerConnectionDelegate):
    def __init__(self, answers):
        self.answers = answers

    def start_request(self, server_conn, request_conn):
        return Delegate(request_conn, self.answers)


async def main(port, folder):
    index = json.loads((folder / "index.json").read_text())
    answers = {
        target: {kind: (folder / name).read_bytes() for kind, name in kinds.items()}
        for target, kinds in index.items()
    }
    HTTPServer(Server(answers)).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(int(sys.argv[1]), Path(sys.argv[2])))
