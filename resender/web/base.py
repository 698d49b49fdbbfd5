"""Base classes of Tornado handlers: a route is public or for clients; `web/admin/base.py` has the rest.

They hold nothing but the gateway they were given. Errors leave as our JSON shape only.
"""

from __future__ import annotations

import logging
from typing import Any

from tornado.web import HTTPError, RequestHandler

from resender.errors import ANSWERS, AnswerError, Forbidden, InternalError, error_body
from resender.services import Services
from resender.web.answers import ERROR_HEADER, JSON_TYPE, client_ip, retry_after_s

logger = logging.getLogger("resender.web")

_TEXTS = {
    "not_found": "Unknown route.",
    "method_not_allowed": "The method is not allowed.",
    "bad_request": "Malformed HTTP request.",
}


class BaseHandler(RequestHandler):
    """What all handlers share: the gateway and the shape of errors."""

    def initialize(self, services: Services) -> None:
        self.services = services

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")

    def client_ip(self) -> str:
        return client_ip(self.services, self.request.connection, self.request.headers)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, AnswerError):
            names = {answer.status: name for name, answer in ANSWERS.items() if name in _TEXTS}
            name = names.get(status_code) if isinstance(error, HTTPError) or error is None else None
            if name is None:
                error = InternalError()
            else:
                error = AnswerError(_TEXTS[name])
                error.name = name
        answer = error.answer
        self.services.metrics.count_answer(answer.name)
        self.set_status(answer.status, answer.reason)
        self.set_header("Content-Type", JSON_TYPE)
        self.set_header(ERROR_HEADER, answer.name)
        if answer.name == "method_not_allowed":
            self.set_header("Allow", ", ".join(self.methods()))
        if (wait_s := retry_after_s(error)) is not None:
            self.set_header("Retry-After", str(wait_s))
        self.finish(error_body(answer.code, error.msg, error.data))

    @classmethod
    def methods(cls) -> list[str]:
        """List the methods this route answers."""
        missing = RequestHandler._unimplemented_method
        return [name for name in cls.SUPPORTED_METHODS if getattr(cls, name.lower()) is not missing]

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, (HTTPError, AnswerError)):
            logger.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))

    def data_received(self, chunk: bytes) -> None:  # no handler reads its body in pieces
        raise NotImplementedError


class PublicHandler(BaseHandler):
    """A route for anybody."""


class ClientHandler(BaseHandler):
    """A route for whitelisted clients."""

    def prepare(self) -> None:
        ip = self.client_ip()
        if self.services.access.whitelist.match(ip) is None:
            self.services.access.note_stranger(ip, f"refused {ip}: not in the whitelist")
            raise Forbidden(ip)


class NotFoundHandler(PublicHandler):
    """Whatever has no route."""

    def prepare(self) -> None:
        raise HTTPError(404)
