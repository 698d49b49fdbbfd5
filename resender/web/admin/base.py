"""Base classes of the admin part: who may reach it, who is logged in, what every answer carries.

A handler lives for one request; what outlives it is in `AdminSite`. No handler here answers
anything by itself. `AdminOpenHandler` is for the few routes one needs before the log-in, all
others derive from `AdminHandler`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
from tornado.web import HTTPError, stream_request_body

from resender.core.access.whitelist import parse_ip
from resender.errors import AnswerError, BodyTooLarge, Busy, Denied, Forbidden, StoreError, Unauthorized
from resender.services import Services
from resender.store import SessionRow, TokenRow, UserRow
from resender.web.admin.fields import Field, read_flag, read_int, read_object
from resender.web.admin.sessions import Login
from resender.web.admin.shared import AdminSite
from resender.web.base import BaseHandler
from resender.web.origin import SAFE_METHODS, foreign_origin

logger = logging.getLogger("resender.admin")

SESSION_COOKIE = "resender_session"
COOKIE_PATH = "/admin"
BODY_MAX = 4 << 20
# Name and password at their longest, each character written as `\uXXXX\\uXXXX`, take less.
_OPEN_BODY_MAX = 16 << 10
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MUST_CHANGE = "Change the password first: it was made by the program or by somebody else."


@stream_request_body
class AdminBase(BaseHandler):
    """What every route below /admin shares: ADMIN_WHITELIST, the check of the origin, headers.

    A body is taken in when `admit` has let the request in, up to `body_max` bytes.
    """

    body_max: ClassVar[int] = BODY_MAX

    def initialize(self, services: Services, site: AdminSite) -> None:  # type: ignore[override]
        super().initialize(services)
        self.site = site
        #: The client's address.
        self.ip = ""
        self._body = bytearray()
        self._refusal: Exception | None = None

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> str | None:
        return None

    async def prepare(self) -> None:
        """Decide by the headers alone; what a stranger sends is never kept."""
        try:
            await self.admit()
        except (AnswerError, HTTPError, StoreError) as error:
            if not self._has_body():
                raise
            self._refuse_after_body(error)

    def _has_body(self) -> bool:
        headers = self.request.headers
        return "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip("0") != ""

    def data_received(self, chunk: bytes) -> None:
        if self._refusal is not None:
            return
        self._body += chunk
        if len(self._body) > self.body_max:
            msg = f"The body is larger than {self.body_max} bytes."
            self._refuse_after_body(BodyTooLarge(msg, {"reason": "body_large", "most": self.body_max}))

    def _refuse_after_body(self, error: Exception) -> None:
        """Answer with an error once all has been sent: many clients read no answer before."""
        self._refusal = error
        self._body.clear()
        setattr(self, str(self.request.method).lower(), self._answer_refusal)

    def _answer_refusal(self, *args: str) -> None:
        assert self._refusal is not None
        raise self._refusal

    async def admit(self) -> None:
        """Let the request in or raise."""
        self.ip = self.client_ip()
        if not self.site.may_reach(self.ip):
            self.services.access.note_stranger(self.ip, f"refused {self.ip}: not in ADMIN_WHITELIST")
            refusal = Forbidden(self.ip)
            hint = "Add the address to ADMIN_WHITELIST, or come through a tunnel."
            refusal.data = {"reason": "admin_whitelist", "ip": self.ip, "hint": hint}
            raise refusal
        if self.request.method not in SAFE_METHODS:
            self._refuse_foreign_origin()

    def _refuse_foreign_origin(self) -> None:
        headers = self.request.headers
        hosts = [headers.get("Host", "")]
        if self._is_behind_proxy() and "X-Forwarded-Host" in headers:
            hosts.append(headers["X-Forwarded-Host"].partition(",")[0])
        reason = foreign_origin(headers.get("Origin"), headers.get("Sec-Fetch-Site"), hosts)
        if reason is not None:
            msg = f"A page of another site may not change anything here ({reason})."
            raise Denied(msg, {"reason": "origin"})

    def _is_behind_proxy(self) -> bool:
        try:
            return parse_ip(str(self.request.connection.context.remote_ip)) in self.services.access.proxies  # type: ignore[union-attr]
        except ValueError:
            return False

    @property
    def is_tls(self) -> bool:
        """Whether the client came over TLS: to this server, or by the word of a trusted proxy."""
        if self.request.protocol == "https":
            return True
        proto = self.request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
        return proto == "https" and self._is_behind_proxy()

    # --- reading ---------------------------------------------------------------------------

    def read_json(self, fields: Mapping[str, Field]) -> dict[str, Any]:
        """Read the body as a JSON object with just these fields.

        Raises: BadRequest that names the field.
        """
        return read_object(bytes(self._body), fields)

    def query_text(self, name: str, default: str = "") -> str:
        """Read a text from the query; spaces around it are dropped."""
        return self.get_query_argument(name, default).strip()

    def query_int(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """Read a whole number from the query; absent or empty gives the default.

        Raises: BadRequest that names it.
        """
        text = self.query_text(name)
        return read_int(name, text, low, high) if text else default

    def query_flag(self, name: str, default: bool = False) -> bool:
        """Read yes or no from the query.

        Raises: BadRequest that names it.
        """
        text = self.query_text(name)
        return read_flag(name, text) if text else default

    # --- writing ---------------------------------------------------------------------------

    def send(self, obj: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps(obj))

    def send_file(self, name: str, kind: str) -> None:
        """Have what is written offered as a file."""
        self.set_header("Content-Type", kind)
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')

    def set_session_cookie(self, secret: str) -> None:
        self.set_cookie(
            SESSION_COOKIE,
            secret,
            path=COOKIE_PATH,
            max_age=self.services.config.admin_session_hours * 3600,
            httponly=True,
            samesite="Strict",
            secure=self.is_tls,
        )

    def clear_session_cookie(self) -> None:
        self.clear_cookie(
            SESSION_COOKIE, path=COOKIE_PATH, httponly=True, samesite="Strict", secure=self.is_tls
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, StoreError):
            logger.error("%s %s: %s", self.request.method, self.request.path, error)
            msg = "The database cannot be used at the moment; the gateway itself goes on."
            busy = Busy(msg, {"reason": "database"})
            kwargs["exc_info"] = (Busy, busy, None)
        super().write_error(status_code, **kwargs)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, StoreError):
            super().log_exception(typ, value, tb)

    # --- the log-in ------------------------------------------------------------------------

    async def find_login(self, *, touch: bool = True) -> Login | None:
        """Find who makes this request, or None.

        An `Authorization: Bearer` header is the whole story: a cookie beside it is not looked at.
        """
        # Another process may have ended the log-in a moment ago: then it changes nothing any more.
        fresh = self.request.method not in SAFE_METHODS
        lines = self.request.headers.get_list("Authorization")
        if lines:
            kind, _, token = lines[0].strip().partition(" ")
            if len(lines) > 1 or kind.lower() != "bearer":
                return None
            return await self.site.logins.by_token(token.strip(), self.ip, touch=touch, fresh=fresh)
        secret = self.get_cookie(SESSION_COOKIE)
        if not secret:
            return None
        return await self.site.logins.by_session(secret, self.ip, touch=touch, fresh=fresh)

    async def note(
        self, actor: str, action: str, subject: str, before: Any = None, after: Any = None
    ) -> None:
        """Write a row of the audit table for a named actor."""
        await self.services.store.audit_add(actor, self.ip, action, subject, before, after)


class AdminOpenHandler(AdminBase):
    """A route one needs before one has logged in: the log-in itself and the files of its page."""

    body_max = _OPEN_BODY_MAX


class AdminHandler(AdminBase):
    """A route for those who have logged in.

    Class attributes say what else is asked: `login_only_writes` refuses what a token would
    change, `free_for_new` lets somebody write whose password has to be changed first.
    """

    is_page: ClassVar[bool] = False
    login_only_writes: ClassVar[bool] = False
    free_for_new: ClassVar[bool] = False

    login: Login

    @property
    def user(self) -> UserRow:
        return self.login.user

    @property
    def session(self) -> SessionRow | None:
        return self.login.session

    @property
    def token(self) -> TokenRow | None:
        return self.login.token

    async def admit(self) -> None:
        await super().admit()
        # What a page left open asks by itself does not keep a log-in alive.
        login = await self.find_login(touch="X-Background" not in self.request.headers)
        if login is None:
            if "Authorization" in self.request.headers:
                self.services.access.note_stranger(self.ip, f"failed log-in from {self.ip}")
            self._refuse_stranger()
            return
        self.login = login
        if self.request.method not in SAFE_METHODS:
            self._refuse_write()

    def _refuse_stranger(self) -> None:
        if self.is_page and self.request.method in SAFE_METHODS:
            self.redirect(f"/admin/login?next={quote(self.request.uri or '', safe='/')}")
            return
        raise Unauthorized

    def _refuse_write(self) -> None:
        if self.login.scope != "write":
            raise Denied("This token may only read.")
        if self.login_only_writes and self.token is not None:
            raise Denied("A token may not do this; log in with the password.")
        if self.user.must_change and not self.free_for_new:
            raise Denied(_MUST_CHANGE, {"reason": "must_change"})

    async def still_logged_in(self) -> bool:
        """Tell whether the log-in of this request holds on; for answers that take long.

        It does not count as a use, so that a page left open does not keep a log-in alive.
        """
        try:
            return await self.find_login(touch=False) is not None
        except StoreError:
            return True  # nobody is logged out because the database is busy

    async def audit(
        self, action: str, subject: str = "", before: Mapping[str, Any] | None = None, after: Any = None
    ) -> None:
        """Write down who changed what; never a password or another secret."""
        await self.note(self.login.actor, action, subject, before, after)
