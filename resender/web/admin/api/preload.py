"""The preload rules: list, add, change, remove, and what a rule would cost.

The rules are the store's, what they match is the market cache's. No state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from resender.core.binance.markets import Market
from resender.core.market.preload import BadRule, PreloadRule, matches, parse_preload, parse_rule
from resender.core.market.preload_cost import estimate
from resender.errors import Conflict, NotReady, RouteError
from resender.market import MarketCache
from resender.store import DuplicateRule, PreloadRow, Repository, UnknownRule
from resender.web.admin.fields import Field, wrong
from resender.web.admin.long_answers import LiveHandler

# More than any rule may have, so that the rule's own words are heard.
_LONGEST = 20_000
_FIELDS = {
    "market": Field(str, longest=_LONGEST),
    "symbols": Field(str, longest=_LONGEST),
    "what": Field(str, longest=_LONGEST),
}
_SAMPLE = 10
_WAIT_S = 5.0
_LOOK_S = 0.05


class _PreloadBase(LiveHandler):
    def read_rule(self) -> PreloadRule:
        """Read a rule from the body.

        Raises: BadRequest that names the field.
        """
        body = self.read_json(_FIELDS)
        try:
            return parse_rule(body["market"], body["symbols"], body["what"])
        except BadRule as error:
            raise wrong(error.field, str(error), **error.data) from None

    def audit_in(
        self, repository: Repository, action: str, before: PreloadRow | None, after: PreloadRow | None
    ) -> None:
        """Write the row of the audit within the transaction of the change."""
        old, new = (None if row is None else _audited(row) for row in (before, after))
        repository.audit_add(self.login.actor, self.ip, f"preload.{action}", str(after or before), old, new)

    async def shown(self, rows: Sequence[PreloadRow | PreloadRule]) -> list[dict[str, Any]]:
        """Return rules as the API shows them; those without a row are from the settings."""
        found = [_item(row) if isinstance(row, PreloadRow) else (row, _fixed(row)) for row in rows]
        tradable = self._tradable()
        # Wildcards against hundreds of symbols: beside the loop.
        counts = await asyncio.to_thread(lambda: [_count(rule, tradable) for rule, _ in found])
        return [
            {
                **item,
                "matches": count,
                "series": count * len(rule.streams) if rule is not None and count is not None else count,
            }
            for (rule, item), count in zip(found, counts, strict=True)
        ]

    async def shown_one(self, row: PreloadRow) -> dict[str, Any]:
        return (await self.shown([row]))[0]

    def _tradable(self) -> dict[Market, list[str]]:
        """Return the symbols of the markets that have told them."""
        lines = self.services.cache.states if self.services.cache is not None else {}
        return {m: list(state.symbols.tradable) for m, state in lines.items() if state.symbols.is_loaded}


def _fixed(rule: PreloadRule) -> dict[str, Any]:
    return {
        "id": None, "market": rule.market.value, "symbols": rule.symbols_text, "what": rule.what,
        "created": None, "source": "settings",
    }  # fmt: skip


def _item(row: PreloadRow) -> tuple[PreloadRule | None, dict[str, Any]]:
    item = {
        "id": row.id, "market": row.market, "symbols": row.symbols, "what": row.what,
        "created": row.created_ms, "source": "page",
    }  # fmt: skip
    try:
        return row.rule, item
    except ValueError as error:  # somebody wrote it into the table by hand
        data = error.data if isinstance(error, BadRule) else {}
        return None, {**item, "problem": str(error), "problem_data": data}


def _count(rule: PreloadRule | None, tradable: Mapping[Market, Sequence[str]]) -> int | None:
    if rule is None:
        return 0
    return len(matches(rule, tradable[rule.market])) if rule.market in tradable else None


def _is_there(error: DuplicateRule) -> Conflict:
    return Conflict(str(error), {"id": error.row.id, "reason": "rule_exists"})


class PreloadsHandler(_PreloadBase):
    """`GET` and `POST /admin/api/preload`."""

    async def get(self) -> None:
        rows = await self.services.store.preload_list()
        self.send({"items": await self.shown([*parse_preload(self.services.config.preload), *rows])})

    async def post(self) -> None:
        rule = self.read_rule()

        def work(repository: Repository) -> PreloadRow:
            row = repository.preload_add(rule)
            self.audit_in(repository, "add", None, row)
            return row

        try:
            row = await self.services.store.preload_change(work)
        except DuplicateRule as error:
            raise _is_there(error) from None
        self.send(await self.shown_one(row), 201)


class PreloadHandler(_PreloadBase):
    """`PUT` and `DELETE /admin/api/preload/<id>`."""

    async def put(self, row_id: str) -> None:
        rule, rule_id = self.read_rule(), int(row_id)

        def work(repository: Repository) -> PreloadRow:
            before = repository.preload_get(rule_id)
            if before is None:
                raise UnknownRule(rule_id)
            row = repository.preload_update(rule_id, rule)
            self.audit_in(repository, "change", before, row)
            return row

        try:
            row = await self.services.store.preload_change(work)
        except DuplicateRule as error:
            raise _is_there(error) from None
        except UnknownRule:
            raise _is_gone(row_id) from None
        self.send(await self.shown_one(row))

    async def delete(self, row_id: str) -> None:
        rule_id = int(row_id)

        def work(repository: Repository) -> None:
            before = repository.preload_get(rule_id)
            if before is None or not repository.preload_remove(rule_id):
                raise UnknownRule(rule_id)
            self.audit_in(repository, "remove", before, None)

        try:
            await self.services.store.preload_change(work)
        except UnknownRule:
            raise _is_gone(row_id) from None
        self.send({})


def _is_gone(row_id: str) -> RouteError:
    return RouteError(f"There is no preload rule {row_id[:20]}.")


def _audited(row: PreloadRow) -> dict[str, Any]:
    return {"id": row.id, "market": row.market, "symbols": row.symbols, "what": row.what}


class EstimateHandler(_PreloadBase):
    """`POST /admin/api/preload/estimate`: what a rule would cost; nothing is saved."""

    async def post(self) -> None:
        rule, cache = self.read_rule(), self.cache()
        if rule.market not in self.services.config.upstreams:
            msg = f"The market {rule.market} is switched off in the settings of this gateway."
            raise wrong("market", msg, reason="market_off")
        tradable = await _symbols(cache, rule.market)
        state, status = cache.states[rule.market], self.services.status
        found = await asyncio.to_thread(matches, rule, tradable)
        cost = estimate(
            rule,
            found,
            held={(kept.symbol, kept.what) for kept in state.entries()},
            depth=cache.options.depth,
            weight_limit=status.own_limit(rule.market),
            weight_share=status.own_share,
            streams_per_connection=self.services.config.streams_per_connection,
        )
        self.send({**asdict(cost), "sample": found[:_SAMPLE]})


async def _symbols(cache: MarketCache, market: Market) -> list[str]:
    """Return a market's symbols, which have perhaps to be read first.

    Raises: NotReady.
    """
    state = cache.states[market]
    state.start()
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while not state.symbols.is_loaded:
        if asyncio.get_running_loop().time() >= deadline:
            msg = f"Binance has not told the symbols of {market} yet; try again."
            raise NotReady(msg, {"reason": "symbols_wait"})
        await asyncio.sleep(_LOOK_S)
    return list(state.symbols.tradable)
