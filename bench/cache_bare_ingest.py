"""The least one can write to keep the newest event of each stream: the baseline of the ingest.

`cache_bare_ingest.py ADDRESS NAME...` subscribes the streams on one connection, decodes each
frame and puts its data into a dict. Nothing is checked and nothing is served.
"""

import asyncio
import contextlib
import sys

import aiohttp
import orjson


async def main(url, names):
    newest = {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=0, decode_text=False, autoping=False) as socket,
    ):
        await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                frame = orjson.loads(message.data)
                if "stream" in frame:
                    newest[frame["stream"]] = frame["data"]
            elif message.type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
            else:
                return


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(sys.argv[1], sys.argv[2:]))
