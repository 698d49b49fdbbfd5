"""The services that alerts go to, imitated over TLS: each takes what its public documentation takes, and nothing else.

Sources (2026-11): core.telegram.org/bots/api "sendMessage" and "Making requests"; open.feishu.cn "Custom bot usage
guide"; open.dingtalk.com "Custom robot"; developer.work.weixin.qq.com "Message push"; github.com/Finb/bark-server
docs/API_V2.md; docs.slack.dev "Sending messages using incoming webhooks"; docs.discord.com "Execute Webhook" and
"User Agent". The webhook is what `alerts.help.webhook` promises.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.alert_events import FIELDS
from tests.support.upstream import Answer, Peer, RawUpstream, Request, response

ROBOTS = ("telegram", "feishu", "dingtalk", "wecom", "bark", "slack", "discord", "webhook")
SIGNING = ("feishu", "dingtalk", "webhook")
_HOUR_S = 3600


class Refused(Exception):
    """What the service says instead of taking a message."""

    def __init__(self, status: str, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass
class Robot:
    """One service. Shape: `fields` are those of a channel that leads here; `answer` may stand in for the service.

    `texts` holds the messages taken, `documents` their bodies, `peers` where the requests came from.
    """

    kind: str
    needs_agent: bool = False
    now_s: Callable[[], float] = time.time
    answer: Answer | None = None
    texts: list[str] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    _server: RawUpstream = field(default_factory=RawUpstream)

    async def __aenter__(self) -> Robot:
        self._server.answer = self._serve
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def requests(self) -> list[Request]:
        return self._server.requests

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a channel that leads here."""
        fields = dict(FIELDS[self.kind])
        name = "server" if "server" in fields else "url"
        parts = urlsplit(fields[name])
        fields[name] = self.url + parts.path + (f"?{parts.query}" if parts.query else "")
        return fields

    async def _serve(self, request: Request, peer: Peer) -> None:
        self.peers.append(peer.writer.get_extra_info("peername")[0])
        if self.answer is not None:
            await self.answer(request, peer)
            return
        try:
            status, body = self._take(request)
        except Refused as error:
            self.refusals.append(error.status)
            status, body = error.status, error.body
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        await peer.send(response(data if body is not None else b"", status, (("content-type", kind),)))

    def _take(self, request: Request) -> tuple[str, Any]:
        target = urlsplit(request.target.decode())
        if request.method != "POST":
            raise Refused("405 Method Not Allowed", "")
        if not (request.header("content-type") or "").startswith("application/json"):
            raise Refused("415 Unsupported Media Type", "")
        try:
            document = json.loads(request.body)
        except ValueError:
            raise Refused("400 Bad Request", "invalid_payload") from None
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        take: Callable[[str, Mapping[str, str], dict[str, Any], Request], tuple[str, Any]]
        take = getattr(self, f"_{self.kind}")
        status, body = take(target.path, query, document, request)
        self.documents.append(document)
        return status, body

    def _accept(self, text: object) -> None:
        assert isinstance(text, str)
        self.texts.append(text)

    # --- one method for each service ------------------------------------------------------------

    def _telegram(self, path: str, query: Any, document: dict[str, Any], request: Request) -> tuple[str, Any]:
        def refuse(code: int, words: str) -> Refused:
            return Refused(f"{code} {words}", {"ok": False, "error_code": code, "description": words})

        own = FIELDS["telegram"]
        if not path.startswith("/bot") or not path.endswith("/sendMessage"):
            raise refuse(404, "Not Found")
        if path != f"/bot{own['token']}/sendMessage":
            raise refuse(401, "Unauthorized")
        if str(document.get("chat_id")) != own["chat_id"]:
            raise refuse(400, "Bad Request: chat not found")
        text = document.get("text") or ""
        if not text.strip():
            raise refuse(400, "Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) > 2 * 4096:
            raise refuse(400, "Bad Request: message is too long")
        assert "parse_mode" not in document, "markup would have to be escaped"
        self._accept(text)
        return "200 OK", {"ok": True, "result": {"message_id": 1, "chat": {"id": 1}, "text": text}}

    def _feishu(self, path: str, query: Any, document: dict[str, Any], request: Request) -> tuple[str, Any]:
        def refuse(code: int, words: str) -> Refused:
            return Refused("200 OK", {"code": code, "msg": words, "data": {}})

        own = FIELDS["feishu"]
        if path != urlsplit(own["url"]).path:
            raise refuse(19001, "param invalid: incoming webhook access token invalid")
        stamp, sign = str(document.get("timestamp", "")), str(document.get("sign", ""))
        key = f"{stamp}\n{own['secret']}".encode()
        wanted = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
        if not stamp.isdigit() or abs(self.now_s() - int(stamp)) > _HOUR_S or sign != wanted:
            raise refuse(19021, "sign match fail or timestamp is not within one hour from current time")
        if len(request.body) > 20 * 1024:
            raise refuse(9499, "Bad Request")
        if document.get("msg_type") != "text" or not document.get("content", {}).get("text"):
            raise refuse(9499, "Bad Request")
        self._accept(document["content"]["text"])
        return "200 OK", {
            "StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success",
        }  # fmt: skip

    def _dingtalk(
        self, path: str, query: Mapping[str, str], document: dict[str, Any], request: Request
    ) -> tuple[str, Any]:
        def refuse(code: int, words: str) -> Refused:
            return Refused("200 OK", {"errcode": code, "errmsg": words})

        own = FIELDS["dingtalk"]
        wanted = parse_qs(urlsplit(own["url"]).query)["access_token"][0]
        if path != "/robot/send" or query.get("access_token") != wanted:
            raise refuse(300005, "token is not exist")
        stamp = query.get("timestamp", "")
        if not stamp.isdigit() or abs(self.now_s() * 1000 - int(stamp)) > _HOUR_S * 1000:
            raise refuse(310000, "invalid timestamp")
        digest = hmac.new(own["secret"].encode(), f"{stamp}\n{own['secret']}".encode(), hashlib.sha256)
        if query.get("sign") != base64.b64encode(digest.digest()).decode():
            raise refuse(310000, "sign not match")
        if document.get("msgtype") != "text" or not document.get("text", {}).get("content"):
            raise refuse(40035, "缺少参数 json")
        if len(request.body) > 20_000:
            raise refuse(430104, "send too large")
        self._accept(document["text"]["content"])
        return "200 OK", {"errcode": 0, "errmsg": "ok"}

    def _wecom(
        self, path: str, query: Mapping[str, str], document: dict[str, Any], request: Request
    ) -> tuple[str, Any]:
        def refuse(code: int, words: str) -> Refused:
            return Refused("200 OK", {"errcode": code, "errmsg": f"{words}, hint: [1], from ip: 127.0.0.1"})

        wanted = parse_qs(urlsplit(FIELDS["wecom"]["url"]).query)["key"][0]
        if path != "/cgi-bin/webhook/send" or query.get("key") != wanted:
            raise refuse(93000, "invalid webhook url")
        if document.get("msgtype") != "text":
            raise refuse(40008, "invalid message type")
        text = document.get("text", {}).get("content", "")
        if not text:
            raise refuse(44004, "empty content")
        if len(text.encode()) > 2048:
            raise refuse(45002, "content size out of limit")
        self._accept(text)
        return "200 OK", {"errcode": 0, "errmsg": "ok"}

    def _bark(self, path: str, query: Any, document: dict[str, Any], request: Request) -> tuple[str, Any]:
        def refuse(code: int, words: str) -> Refused:
            return Refused(f"{code} Refused", {"code": code, "message": words, "timestamp": 1})

        if path != "/push":
            raise refuse(404, f"Cannot POST {path}")
        key = document.get("device_key", "")
        if key != FIELDS["bark"]["key"]:
            raise refuse(400, f"failed to get device token: failed to get [{key}] device token from database")
        if len(request.body) > 4096:
            raise refuse(500, "push failed: PayloadTooLarge")
        self._accept(f"{document['title']}\n{document['body']}")
        return "200 OK", {"code": 200, "message": "success", "timestamp": 1}

    def _slack(self, path: str, query: Any, document: dict[str, Any], request: Request) -> tuple[str, Any]:
        if path != urlsplit(FIELDS["slack"]["url"]).path:
            raise Refused("403 Forbidden", "invalid_token")
        if not document.get("text"):
            raise Refused("400 Bad Request", "no_text")
        self._accept(document["text"])
        return "200 OK", "ok"

    def _discord(self, path: str, query: Any, document: dict[str, Any], request: Request) -> tuple[str, Any]:
        if self.needs_agent and not request.header("user-agent"):
            raise Refused("403 Forbidden", "error code: 1010")
        if path != urlsplit(FIELDS["discord"]["url"]).path:
            raise Refused("404 Not Found", {"message": "Unknown Webhook", "code": 10015})
        text = document.get("content", "")
        if not text:
            raise Refused("400 Bad Request", {"message": "Cannot send an empty message", "code": 50006})
        if len(text) > 2000:
            raise Refused("400 Bad Request", {"message": "Invalid Form Body", "code": 50035})
        assert document["allowed_mentions"] == {"parse": []}, "no value of an alert calls everybody"
        self._accept(text)
        return "204 No Content", None

    def _webhook(
        self, path: str, query: Mapping[str, str], document: dict[str, Any], request: Request
    ) -> tuple[str, Any]:
        own = FIELDS["webhook"]
        target = urlsplit(own["url"])
        if request.target.decode() != f"{target.path}?{target.query}":
            raise Refused("404 Not Found", "no such hook")
        stamp = request.header("resender-timestamp") or ""
        digest = hmac.new(own["secret"].encode(), stamp.encode() + b"." + request.body, hashlib.sha256)
        wanted = f"sha256={digest.hexdigest()}"
        given = request.header("resender-signature") or ""
        if not hmac.compare_digest(wanted, given):
            raise Refused("401 Unauthorized", {"message": "the signature does not fit"})
        if abs(self.now_s() * 1000 - int(stamp)) > 300_000:
            raise Refused("401 Unauthorized", {"message": "the time stamp is too old"})
        self._accept(f"{document['title']}\n{document['text']}")
        return "202 Accepted", "queued"


class RobotThread:
    """A robot on a loop and a thread of its own, for tests that block while a process runs."""

    def __init__(self, kind: str) -> None:
        self.robot = Robot(kind)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="robot", daemon=True)

    def __enter__(self) -> Robot:
        self._thread.start()
        self._run(self.robot.__aenter__())
        return self.robot

    def __exit__(self, *exc: object) -> None:
        self._run(self.robot.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, coro: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coro, self._loop).result(10)
