"""`/local/{market}/...` about accounts: orders, balances and positions as far as they are known.

A client shows the account's API key, which Binance must have taken from it lately, or a personal token.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from resender.account import WatchedAccount
from resender.core.account.calls import read_params
from resender.core.account.spec import AccountMarket
from resender.errors import BadRequest, Denied, NotReady, RouteError
from resender.market import Hit
from resender.services import Services

_WORDS = ("openOrders", "orders", "balances", "positions", "account", "userDataStream")
_PATH = re.compile(r"/local/(spot|margin|um|cm|pm)/(" + "|".join(_WORDS) + ")")
_SUBSCRIPTION = frozenset({"apiKey", "timestamp", "signature", "recvWindow"})
_MAX_VALUE = 1000
# HMAC is hexadecimal, RSA of 2048 bits or more much longer than Ed25519.
_CANNOT_LOG_ON = re.compile(r"[0-9a-fA-F]{64}|[A-Za-z0-9+/]{300,700}={0,2}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a whitelisted address, and what it shows. Holds secrets: never to be logged."""

    address: str
    api_key: str | None
    authorization: str | None


def is_account_path(path: str) -> bool:
    """Tell whether a path below `/local/` is about accounts."""
    return _PATH.fullmatch(path) is not None


def account_market(path: str) -> AccountMarket | None:
    """Return the market of a path that is about accounts, None if it is not."""
    found = _PATH.fullmatch(path)
    return None if found is None else AccountMarket(found[1])


def posted_key(body: bytes) -> str | None:
    """Return the API key in what a client posts to open its user data, None if there is none."""
    try:
        return str(_read_subscription(body).get("apiKey") or "") or None
    except BadRequest:
        return None  # where it is read its client is told what is wrong


async def find_account(
    services: Services, caller: Caller, market: AccountMarket, name: str | None
) -> WatchedAccount:
    """Find the account a caller may see.

    Raises: Denied; RouteError if there is none; BadRequest if a token has to say which one.
    """
    if caller.authorization is not None:
        await _check_token(services, caller.authorization)
        found = [account for account in services.accounts.all if account.market is market]
        if name is not None:
            found = [account for account in found if account.spec.name.lower() == name.lower()]
        if len(found) > 1:
            raise BadRequest("There are several accounts of this market: add `account=` and the name of one.")
        if not found:
            raise RouteError("There is no such account. The owner adds one: python run.py account add.")
        return found[0]
    if caller.api_key is None:
        raise Denied(
            "Show the account's API key (X-MBX-APIKEY) or a personal token (Authorization: Bearer ...)."
        )
    account = services.accounts.of_key(market, caller.api_key, caller.address)
    if account is None:
        raise Denied(
            "This API key is of no watched account, or Binance has not taken a signed call of it from this "
            "address lately: make one through the gateway first."
        )
    return account


async def _check_token(services: Services, authorization: str) -> None:
    kind, _, token = authorization.strip().partition(" ")
    found = None
    if kind.lower() == "bearer" and 20 <= len(token.strip()) <= 200:
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = await services.store.token_find(digest)
    if found is None:
        raise Denied("This token is not known.")
    row, user = found
    now_ms = services.clock.now_ms()
    if not user.enabled or (row.expires_ms is not None and now_ms >= row.expires_ms):
        raise Denied("This token is not valid any more.")


async def answer_account(
    services: Services, caller: Caller, path: str, query: str, body: bytes | None
) -> Hit:
    """Answer one call about an account.

    Raises: AnswerError.
    """
    found = _PATH.fullmatch(path)
    assert found is not None
    market, what = AccountMarket(found[1]), found[2]
    params = read_params(query)
    if params is None or any(not value for value in params.values()):
        raise BadRequest("A parameter is empty, repeated or malformed.")
    if what == "userDataStream":
        return await _subscribe(services, caller, market, params, body)
    if body is not None:
        raise BadRequest("Only userDataStream is posted.")
    symbol = params.pop("symbol", None)
    account = await find_account(services, caller, market, params.pop("account", None))
    if params:
        raise BadRequest(f"Unknown parameter {sorted(params)[0][:50]!r}.")
    told = tell(account, what, None if symbol is None else symbol.upper())
    return Hit(orjson.dumps(told), None, account.age_ms)


def tell(account: WatchedAccount, what: str, symbol: str | None) -> dict[str, Any]:
    """Return what is known of an account, with how far it is proven."""
    told: dict[str, Any] = {"market": account.market.value, "account": account.spec.name, **account.state()}
    if what in ("openOrders", "account"):
        told["orders"] = account.open_orders(symbol)
    if what == "orders":
        told["orders"] = [*account.open_orders(symbol), *account.ended_orders(symbol)]
    if what in ("balances", "account"):
        told["balances"] = account.balances()
    if what in ("positions", "account"):
        rows = account.positions()
        told["positions"] = [row for row in rows if symbol is None or row["symbol"] == symbol]
    return told


async def _subscribe(
    services: Services, caller: Caller, market: AccountMarket, params: dict[str, str], body: bytes | None
) -> Hit:
    if market not in (AccountMarket.SPOT, AccountMarket.MARGIN):
        raise RouteError("Only spot and margin are subscribed with a signature of the client's.")
    if body is None:
        account = await find_account(services, caller, market, params.pop("account", None))
        return Hit(
            orjson.dumps({"market": market.value, "account": account.spec.name, **account.state()}), None, 0
        )
    if params:
        raise BadRequest("A POST has its parameters in the body, none in the query.")
    given = _read_subscription(body)
    if ("listenToken" in given) is not (market is AccountMarket.MARGIN):
        raise BadRequest("Spot is subscribed with a signature, margin with a listenToken.")
    key = str(given.get("apiKey") or caller.api_key or "")
    if not key:
        raise BadRequest("`apiKey` is missing.")
    problem = await services.accounts.subscribe(market, given, key, caller.address)
    if problem is not None:
        raise NotReady(f"Not subscribed: {problem}")
    return Hit(orjson.dumps({"market": market.value, "subscribed": True}), None, 0)


def _read_subscription(body: bytes) -> dict[str, Any]:
    """Read what a client signed: JSON, or a form.

    Raises: BadRequest.
    """
    text = body.decode("latin-1").strip()
    try:
        given = orjson.loads(body) if text.startswith("{") else read_params(text)
    except ValueError:
        given = None
    if not isinstance(given, dict) or not given:
        raise BadRequest("The body must be JSON or a form with apiKey, timestamp, signature and recvWindow.")
    if any(not isinstance(value, (str, int)) or len(str(value)) > _MAX_VALUE for value in given.values()):
        raise BadRequest("A value of the body is no text and no number.")
    if "listenToken" in given:
        if given.keys() != {"listenToken"}:
            raise BadRequest("A listenToken stands alone.")
        return {"listenToken": str(given["listenToken"])}
    if not given.keys() <= _SUBSCRIPTION or not {"apiKey", "timestamp", "signature"} <= given.keys():
        raise BadRequest(
            "The body must hold apiKey, timestamp and signature, and recvWindow if that was signed."
        )
    if not _CANNOT_LOG_ON.fullmatch(str(given["signature"])):
        # With an Ed25519 key the same words log a session on: whoever has them could trade.
        raise BadRequest(
            "A signature of an Ed25519 key over these parameters could also log on and trade. Sign with an HMAC or "
            "RSA key, or give the gateway a read-only key of its own."
        )
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in ("timestamp", "recvWindow"):
            read[name] = str(value)
        elif not str(value).isdigit() or len(str(value)) > 17:
            raise BadRequest(f"`{name}` must be a whole number.")
        else:
            read[name] = int(value)
    return read
