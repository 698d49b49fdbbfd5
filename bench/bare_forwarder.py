"""The least one can write to forward with Tornado and aiohttp: the baseline of the gateway.

It keeps what makes such a program fast (one pooled session, uvloop, raw URL, no decoding, no
logging, small answers in one write) and does nothing else: no whitelist, no header rules, no
error answers, no metrics. Not for use. It runs until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from tornado.web import Application, RequestHandler
from yarl import URL

HOP_BY_HOP = {"host", "connection", "keep-alive", "content-length", "transfer-encoding"}


class ForwardHandler(RequestHandler):
    def initialize(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session, self.base = session, base

    def compute_etag(self) -> None:
        return None

    async def get(self) -> None:
        request = self.request
        url = URL(self.base + request.uri, encoded=True)
        headers = [(n, v) for n, v in request.headers.get_all() if n.lower() not in HOP_BY_HOP]
        async with self.session.request(
            request.method, url, headers=headers, data=request.body or None, allow_redirects=False
        ) as response:
            self.set_status(response.status, response.reason)
            for name, value in response.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.set_header(name, value)
            while chunk := await response.content.readany():
                self.write(chunk)
                if not response.content.at_eof():
                    await self.flush()

    post = put = delete = head = get


async def main(port: int, base: str) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        routes = [(".*", ForwardHandler, {"session": session, "base": base})]
        Application(routes, log_function=lambda handler: None).listen(port, "127.0.0.1")
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
