"""Signed calls as far as accounts are concerned: answered out of memory, or learned from on their way.

What an account may answer is `resender.account`'s. It changes nothing of what a client sends or gets, but for
the packing it is asked in. One belongs to one request.
"""

from __future__ import annotations

from collections.abc import Awaitable

from resender.account import Answer, Lacking, Passing
from resender.core.binance.headers import Pairs
from resender.core.binance.routing import Route
from resender.core.market.requests import Miss, bypass_reason
from resender.errors import AnswerError, UpstreamLost, UpstreamTimeout
from resender.market import Hit, Outcome, Wanting
from resender.upstream import RestResponse, SharedAnswer
from resender.web.client.local_calls import LocalCalls
from resender.web.client.overheard import Overheard
from resender.web.client.relay import RelayedAnswer

# The kind under which saved weight is counted.
ACCOUNT = "account"


class SignedCalls(LocalCalls):
    """What one request needs for them."""

    outcome: Outcome | None
    _passing: Passing | None = None

    def _answer_from_account(self) -> bool:
        """Answer out of an account's memory if that can be done at once; remember why not otherwise."""
        route = self.route
        if route is None or self.method != "GET" or self.body:
            return False
        key = self.headers.get("X-Mbx-Apikey")
        if key is None:
            return False
        if bypass_reason(self.headers.get_all()) is not None:
            return False  # the client wants Binance's own word
        found = self.services.accounts.ask(
            route.market, route.path, route.target.partition("?")[2], key, self.ip
        )
        if isinstance(found, Answer):
            self._write_hit(Hit(found.body, None, found.age_ms))
            return True
        if isinstance(found, Lacking):
            self.miss = found.reason
        elif found is not None:
            self.outcome = _as_outcome(found)
        return False

    def _watch_call(self, route: Route, target: str) -> None:
        """Have accounts learn from a call that is about to be sent on."""
        key = self.headers.get("X-Mbx-Apikey")
        if key is not None:
            query = target.partition("?")[2]
            self._passing = self.services.accounts.watch(
                route.market, self.method, route.path, query, self.body, key, self.ip
            )

    def _readable(self, headers: Pairs) -> Pairs:
        """Ask for a packing that can be read here, where the answer tells an account something."""
        if self._passing is None or not self._passing.wants_body:
            return headers
        return [
            (name, ("gzip" if "gzip" in value.lower() else "identity"))
            if name.lower() == "accept-encoding"
            else (name, value)
            for name, value in headers
        ]

    def _overhear(self, response: RestResponse | SharedAnswer) -> RelayedAnswer:
        """Let accounts know of an answer before the client has its last byte."""
        passing = self._passing
        if passing is None:
            return response
        if not passing.wants(response.status):
            passing.answered(response.status, b"")
            return response
        status = response.status
        wanting = Wanting(
            "",
            take=lambda body: passing.answered(status, body),
            leave=lambda: passing.unanswered(is_sent=True),
        )
        return Overheard(response, wanting, any_status=True)

    def _note_no_answer(self, error: AnswerError | None) -> None:
        """There will be no answer any more; without an error it had one, or was cut off."""
        if self._passing is not None:
            is_sent = error is None or isinstance(error, (UpstreamLost, UpstreamTimeout))
            self._passing.unanswered(is_sent=is_sent)


async def _as_outcome(found: Awaitable[Answer | Lacking]) -> Hit | Miss:
    answer = await found
    if isinstance(answer, Answer):
        return Hit(answer.body, None, answer.age_ms)
    return Miss(answer.reason)
