"""The preload rules: list, add, change, remove, and what a rule would cost.

The rules are the store's, what they match is the market cache's. No state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from resender.core.markets import Market
from resender.core.preload import PreloadRule, matches, parse_preload, parse_rule
from resender.core.preload_cost import estimate
from resender.core.weight import POOLS
from resender.errors import BadRequest, Conflict, NotReady, RouteError
from resender.market.cache import MarketCache
from resender.store import DuplicateRule, PreloadRow, UnknownRule
from resender.web.admin.forms import Field, wrong
from resender.web.admin.streaming import LiveHandler

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
        market, symbols, what = body["market"], body["symbols"], body["what"]
        try:
            return parse_rule(market, symbols, what)
        except ValueError as error:
            raise wrong(_wrong_field(market, symbols), str(error)) from None

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
        lines = self.gateway.cache.lines if self.gateway.cache is not None else {}
        return {m: list(line.symbols.tradable) for m, line in lines.items() if line.symbols.is_loaded}


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
        return None, {**item, "problem": str(error)}


def _count(rule: PreloadRule | None, tradable: Mapping[Market, Sequence[str]]) -> int | None:
    if rule is None:
        return 0
    return len(matches(rule, tradable[rule.market])) if rule.market in tradable else None


def _wrong_field(market: str, symbols: str) -> str:
    """Tell which part of a rule that cannot be read is wrong."""
    for field, parts in (("market", (market, "A")), ("symbols", (market, symbols))):
        try:
            parse_rule(*parts, "bookTicker")
        except ValueError:
            return field
    return "what"


class PreloadsHandler(_PreloadBase):
    """`GET` and `POST /admin/api/preload`."""

    async def get(self) -> None:
        rows = await self.gateway.store.preload_list()
        self.send({"items": await self.shown([*parse_preload(self.gateway.config.preload), *rows])})

    async def post(self) -> None:
        rule = self.read_rule()
        try:
            row = await self.gateway.store.preload_add(rule)
        except DuplicateRule as error:
            raise Conflict(str(error), {"id": error.row.id}) from None
        await self.audit("preload.add", str(row), None, _audited(row))
        self.send(await self.shown_one(row), 201)


class PreloadHandler(_PreloadBase):
    """`PUT` and `DELETE /admin/api/preload/<id>`."""

    async def put(self, row_id: str) -> None:
        before, rule = await self._find(row_id), self.read_rule()
        try:
            row = await self.gateway.store.preload_update(before.id, rule)
        except DuplicateRule as error:
            raise Conflict(str(error), {"id": error.row.id}) from None
        except UnknownRule as error:
            raise RouteError(str(error)) from None
        await self.audit("preload.change", str(row), _audited(before), _audited(row))
        self.send(await self.shown_one(row))

    async def delete(self, row_id: str) -> None:
        before = await self._find(row_id)
        if not await self.gateway.store.preload_remove(before.id):
            raise RouteError(f"There is no preload rule {before.id}.")
        await self.audit("preload.remove", str(before), _audited(before))
        self.send({})

    async def _find(self, row_id: str) -> PreloadRow:
        rows = await self.gateway.store.preload_list()
        row = next((each for each in rows if str(each.id) == row_id), None)
        if row is None:
            raise RouteError(f"There is no preload rule {row_id[:20]}.")
        return row


def _audited(row: PreloadRow) -> dict[str, Any]:
    return {"id": row.id, "market": row.market, "symbols": row.symbols, "what": row.what}


class EstimateHandler(_PreloadBase):
    """`POST /admin/api/preload/estimate`: what a rule would cost; nothing is saved."""

    async def post(self) -> None:
        rule, cache = self.read_rule(), self.cache()
        if rule.market not in self.gateway.config.upstreams:
            raise BadRequest(
                f"The market {rule.market} is switched off in the settings of this gateway.",
                {"field": "market"},
            )
        tradable = await _symbols(cache, rule.market)
        line, share = cache.lines[rule.market], cache.shares[POOLS[rule.market]]
        found = await asyncio.to_thread(matches, rule, tradable)
        cost = estimate(
            rule,
            found,
            held={(symbol, what) for _, symbol, what in (entry.key for entry in line.entries())},
            depth=cache.options.depth,
            weight_limit=share.limit,
            weight_share=share.share,
            streams_per_connection=self.gateway.config.streams_per_connection,
        )
        self.send({**asdict(cost), "sample": found[:_SAMPLE]})


async def _symbols(cache: MarketCache, market: Market) -> list[str]:
    """Return a market's symbols, which have perhaps to be read first.

    Raises: NotReady.
    """
    line = cache.lines[market]
    line.start()
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while not line.symbols.is_loaded:
        if asyncio.get_running_loop().time() >= deadline:
            raise NotReady(f"Binance has not told the symbols of {market} yet; try again.")
        await asyncio.sleep(_LOOK_S)
    return list(line.symbols.tradable)
